"""A run of the wafer classifier on disk: what it answered, and for every split its config and curve.

S seeds, K supervision steps (K may exceed the N_sup that was trained with), N wafers, C classes. Reading answers needs
neither weights nor jax.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, log_softmax, logsumexp

from trm_jax.core.config import Config
from trm_jax.support.files import DAMAGE, one_line, replacing
from trm_jax.support.schema import require
from trm_jax.training.run_directory import read_config, read_metrics
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.splits import Split

CURVE = ("loss", "validation_macro_f1", "best_step")
"""What is read of a training log, one value per seed in each row."""


@dataclass(frozen=True)
class Predicted:
    """Answers to N wafers."""

    index: np.ndarray
    """int64 (N,), which wafers of the Wafers object."""
    logits: np.ndarray
    """float32 (S, K, N, C), of every seed after every supervision step."""
    halt: np.ndarray
    """float32 (S, K, N), logit of "the answer is right"."""

    def take(self, chosen: np.ndarray) -> "Predicted":
        """The answers to some of the wafers, by mask or position."""
        return Predicted(self.index[chosen], self.logits[:, :, chosen], self.halt[:, :, chosen])

    def of_seed(self, number: int) -> "Predicted":
        """The answers of one seed, counted from 0."""
        return Predicted(self.index, self.logits[number : number + 1], self.halt[number : number + 1])


@dataclass(frozen=True)
class Fold:
    """One split of a run: S seeds that were trained on it."""

    split: Split
    config: Config
    validation: Predicted
    test: Predicted
    curve: pd.DataFrame
    """Columns step, seed, loss, validation_macro_f1 and best_step, the update of the best weights so far (the last two
    NaN where it was not evaluated)."""
    unknown: dict[str, Predicted]
    """Answers to patterns that were not trained on, by name: from files ``unknown-NAME.npz``, if there are any."""
    prediction_options: dict[str, Any]
    """What the config does not say: views and prior of the answers, the class that was left out, or "", and the options
    of the task."""


def stopped_at(halt: np.ndarray, threshold: float | None) -> np.ndarray:
    """Index of the step at which each wafer stops, from halting logits (..., K, N).

    It is the first step whose probability is above the threshold, else the last; without a threshold always the last.
    """
    if threshold is None:
        return np.full((*halt.shape[:-2], halt.shape[-1]), halt.shape[-2] - 1)
    stops = expit(halt) > threshold
    stops[..., -1, :] = True
    return stops.argmax(axis=-2)


def save_predicted(path: Path, predicted: Predicted) -> None:
    """Write a compressed .npz, whole or not at all. Raises ValueError if shapes contradict each other."""
    checked = _checked(predicted)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **vars(checked))


def load_predicted(path: Path) -> Predicted:
    """Read what save_predicted wrote. Raises ValueError in one line if the file is missing, damaged or contradicts
    itself."""
    require(path.is_file(), f"no predictions at {path}")
    names = [field.name for field in fields(Predicted)]
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            missing = [name for name in names if name not in arrays]
            require(not missing, f"it has no array {', '.join(missing)}")
            return _checked(Predicted(*(arrays[name] for name in names)))
    except DAMAGE as error:
        raise ValueError(f"{path} has no usable predictions: {one_line(error)}") from error


def _checked(predicted: Predicted) -> Predicted:
    """The same with its fixed types; NaN would turn into wrong answers unseen. Raises ValueError."""
    index, logits, halt = (np.asarray(values) for values in (predicted.index, predicted.logits, predicted.halt))
    if index.ndim != 1 or index.dtype.kind not in "iu" or (index < 0).any():
        raise ValueError(f"index must be one row of positions, not {index.dtype} of shape {index.shape}")
    if logits.ndim != 4 or logits.shape[2] != len(index) or min(logits.shape) < 1:
        raise ValueError(f"logits must be (seeds, steps, {len(index)} wafers, classes), not {logits.shape}")
    if halt.shape != logits.shape[:3]:
        raise ValueError(f"halt must be {logits.shape[:3]} like the logits, not {halt.shape}")
    for name, values in (("logits", logits), ("halt", halt)):
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite floating-point numbers")
    return Predicted(index.astype(np.int64), logits.astype(np.float32), halt.astype(np.float32))


def read_run(directory: Path, wafers: Wafers, splits: Sequence[Split], left_out: str = "") -> list[Fold]:
    """The splits of a run that are done, in the order of ``splits``.

    Raises ValueError if none is, if predictions are of other wafers than those of the split, if the splits differ in
    seeds, steps or trained depth, or if the class that the run never trained on is not ``left_out``.
    """
    require(directory.is_dir(), f"no run at {directory}")
    done = [split for split in splits if (directory / split.name / "test.npz").is_file()]
    if not done:
        names = ", ".join(split.name for split in splits)
        raise ValueError(f"{directory} has predictions of none of the splits {names}")
    options = read_prediction_options(directory / "wafers.json")
    if options["left out"] != left_out:
        trained = f"without {options['left out']}" if options["left out"] else "on all classes"
        wanted = f"one without {left_out}" if left_out else "one on all classes"
        raise ValueError(f"{directory} is a run {trained}; expected {wanted}")
    folds = [_read_fold(directory / split.name, split, wafers, options) for split in done]
    kinds = {
        (part.logits.shape[:2], fold.config.recursion.N_sup) for fold in folds for part in (fold.test, fold.validation)
    }
    if len(kinds) > 1:
        raise ValueError(f"{directory}: the splits differ in seeds, steps or trained depth: {sorted(kinds)}")
    return folds


def _read_fold(directory: Path, split: Split, wafers: Wafers, options: dict[str, Any]) -> Fold:
    try:
        config, task = read_config(directory)
    except FileNotFoundError as error:
        raise ValueError(f"{directory}/config.json: {one_line(error)}") from None
    parts = {name: load_predicted(directory / f"{name}.npz") for name in ("validation", "test")}
    for name, predicted in parts.items():
        # A run that leaves a class out of training leaves it out of validation too.
        same = np.array_equal if name == "test" else lambda index, part: np.isin(index, part).all()
        if not same(predicted.index, getattr(split, name)):
            raise ValueError(
                f"{directory}/{name}.npz is of other wafers than the {name} part of {split.name} of {wafers.source}; "
                "name the data that the run was trained on"
            )
        if predicted.logits.shape[3] != len(CLASSES) or predicted.logits.shape[1] < config.recursion.N_sup:
            raise ValueError(
                f"{directory}/{name}.npz has logits {predicted.logits.shape}: expected {len(CLASSES)} classes and "
                f"{config.recursion.N_sup} steps or more"
            )
    unknown = {path.stem.removeprefix("unknown-"): load_predicted(path) for path in directory.glob("unknown-*.npz")}
    curve = read_curve(directory / "metrics.jsonl")
    return Fold(split, config, **parts, curve=curve, unknown=unknown, prediction_options={**options, "task": task})


def read_prediction_options(path: Path) -> dict[str, Any]:
    """What a run's ``wafers.json`` says of its answers: ``left out``, ``views`` and ``prior``. Raises ValueError."""
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
        return {name: options[name] for name in ("left out", "views", "prior")}
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no record of how the run answers ({one_line(error)})") from None


def read_curve(path: Path) -> pd.DataFrame:
    """Columns step, seed (counted from 0) and those of CURVE, a row per logged step and seed; empty where nothing was
    logged. A last line that a kill cut short is left out."""
    rows: list[dict[str, Any]] = []
    for row in read_metrics(path.parent):
        seeds = len(row["loss"])
        for seed in range(seeds):
            rows.append(
                {"step": row["step"], "seed": seed} | {name: row.get(name, [np.nan] * seeds)[seed] for name in CURVE}
            )
    return pd.DataFrame(rows, columns=["step", "seed", *CURVE])


def best_update(curve: pd.DataFrame, seed: int) -> int | None:
    """Update of the best weights of a seed, counted from 0; None if the training did not record it."""
    recorded = curve.loc[curve["seed"] == seed, "best_step"].dropna()
    return int(recorded.iloc[-1]) if len(recorded) else None


def recipe(config: Config, prediction_options: dict[str, Any]) -> dict[str, Any]:
    """All that two runs of one recipe have in common, as JSON: everything but the seeds."""
    options = json.loads(config.to_json())
    del options["run"]["seeds"]
    return options | prediction_options


def join_runs(runs: Sequence[Sequence[Fold]]) -> list[Fold]:
    """Runs of one recipe with different seeds as a single run with all of their seeds.

    Raises ValueError if they differ in splits or in more than their seeds, or have a seed in common.
    """
    joined = list(runs[0])
    for run in runs[1:]:
        names = [[fold.split.name for fold in folds] for folds in (joined, run)]
        if names[0] != names[1]:
            raise ValueError(f"runs of other seeds have splits {', '.join(names[1])}, not {', '.join(names[0])}")
        joined = [_join(first, second) for first, second in zip(joined, run, strict=True)]
    return joined


def _join(first: Fold, second: Fold) -> Fold:
    seeds = first.config.run.seeds + second.config.run.seeds
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{first.split.name}: runs to be judged together must have seeds of their own, got {seeds}")
    if recipe(second.config, second.prediction_options) != recipe(first.config, first.prediction_options):
        raise ValueError(f"{first.split.name}: runs to be judged together may differ in their seeds only")
    more = second.curve.assign(seed=second.curve["seed"] + len(first.config.run.seeds))
    shared = first.unknown.keys() & second.unknown.keys()
    return replace(
        first,
        config=first.config.override(**{"run.seeds": seeds}),
        validation=stack(first.validation, second.validation),
        test=stack(first.test, second.test),
        curve=pd.concat([first.curve, more]),
        unknown={name: stack(first.unknown[name], second.unknown[name]) for name in first.unknown if name in shared},
    )


def stack(first: Predicted, second: Predicted) -> Predicted:
    """The seeds of both, about the same wafers. Raises ValueError for others."""
    if not np.array_equal(first.index, second.index):
        raise ValueError("runs to be judged together have answers about different wafers")
    logits, halt = (np.concatenate([getattr(part, n) for part in (first, second)]) for n in ("logits", "halt"))
    return Predicted(first.index, logits, halt)


def as_members(folds: Sequence[Fold]) -> list[Fold]:
    """The seeds of every split as members of one net, which answers with the mean of their probabilities.

    Raises ValueError for a single seed.
    """
    seeds = folds[0].config.run.seeds
    require(len(seeds) > 1, f"one seed, {seeds[0]}, cannot answer together: name runs of other seeds too")
    return [
        replace(
            fold,
            config=fold.config.override(**{"model.members": len(seeds)}),
            validation=answers_together(fold.validation),
            test=answers_together(fold.test),
            unknown={name: answers_together(answers) for name, answers in fold.unknown.items()},
        )
        for fold in folds
    ]


def answers_together(answers: Predicted) -> Predicted:
    """What all seeds say as one, as `trm_jax.core.network.members` has it: log mean probability, mean halting logit."""
    logits = logsumexp(log_softmax(answers.logits, axis=-1), axis=0, keepdims=True) - np.log(len(answers.logits))
    halt = answers.halt.mean(axis=0, keepdims=True)
    return Predicted(answers.index, logits.astype(np.float32), halt)


class StoredRun(NamedTuple):
    """A run that was read, and what it was trained on."""

    directory: Path
    wafers: Wafers
    splits: list[Split]
    """All splits of the wafers."""
    folds: list[Fold]
    """The splits that the run has done, with the seeds of all runs that are judged together."""
