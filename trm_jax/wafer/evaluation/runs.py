"""A run of the wafer classifier as it lies on disk: for every split its config, curve and stored predictions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from trm_jax.core.config import Config
from trm_jax.wafer.evaluation.stored import Predicted, load_predicted
from trm_jax.wafer.maps.maps import CLASSES, Wafers
from trm_jax.wafer.splits import Split

CURVE = ("loss", "validation_macro_f1", "best_step")
"""What is read of a training log, one value per seed in each row."""


class Fold(NamedTuple):
    """One split of a run: S seeds that were trained on it."""

    split: Split
    config: Config
    validation: Predicted
    test: Predicted
    curve: pd.DataFrame
    """Columns step, seed, loss, validation_macro_f1 and best_step, the update of the best weights so far (both NaN
    where it was not evaluated)."""
    unknown: dict[str, Predicted]
    """Answers to patterns that were not trained on, by name: from files ``unknown-NAME.npz``, if there are any."""
    made: dict[str, Any]
    """What the config does not say: views and prior of the answers, and the class that was left out, or ""."""


def read_run(directory: Path, wafers: Wafers, splits: Sequence[Split], left_out: str = "") -> list[Fold]:
    """The splits of a run that are done, in the order of ``splits``.

    Raises ValueError if none is, if predictions are of other wafers than those of the split, if the splits differ in
    seeds, steps or trained depth, or if the class that the run never trained on is not ``left_out``.
    """
    if not directory.is_dir():
        raise ValueError(f"no run at {directory}")
    there = [split for split in splits if (directory / split.name / "test.npz").is_file()]
    if not there:
        names = ", ".join(split.name for split in splits)
        raise ValueError(f"{directory} has predictions of none of the splits {names}")
    made = read_made(directory / "wafers.json")
    if made["left out"] != left_out:
        trained = f"without {made['left out']}" if made["left out"] else "on all classes"
        wanted = f"one without {left_out}" if left_out else "one on all classes"
        raise ValueError(f"{directory} is a run {trained}; expected {wanted}")
    folds = [_read_fold(directory / split.name, split, wafers, made) for split in there]
    kinds = {(fold.test.logits.shape[:2], fold.config.recursion.N_sup) for fold in folds}
    kinds |= {(fold.validation.logits.shape[:2], fold.config.recursion.N_sup) for fold in folds}
    if len(kinds) > 1:
        raise ValueError(f"{directory}: the splits differ in seeds, steps or trained depth: {sorted(kinds)}")
    return folds


def join_runs(runs: Sequence[Sequence[Fold]]) -> list[Fold]:
    """Runs of one recipe with different seeds as a single run with all of their seeds.

    Raises ValueError if they differ in splits or in more than their seeds, or have a seed in common.
    """
    joined = list(runs[0])
    for other in runs[1:]:
        names = [[fold.split.name for fold in run] for run in (joined, other)]
        if names[0] != names[1]:
            raise ValueError(f"runs of other seeds have splits {', '.join(names[1])}, not {', '.join(names[0])}")
        joined = [_join(one, two) for one, two in zip(joined, other, strict=True)]
    return joined


def _join(one: Fold, two: Fold) -> Fold:
    seeds = one.config.run.seeds + two.config.run.seeds
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{one.split.name}: runs to be judged together must have seeds of their own, got {seeds}")
    config = one.config.override(**{"run.seeds": seeds})
    if recipe(two.config, two.made) != recipe(one.config, one.made):
        raise ValueError(f"{one.split.name}: runs to be judged together may differ in their seeds only")
    curve = pd.concat([one.curve, two.curve.assign(seed=two.curve["seed"] + len(one.config.run.seeds))])
    unknown = {name: _stack(one.unknown[name], two.unknown[name]) for name in one.unknown if name in two.unknown}
    parts = _stack(one.validation, two.validation), _stack(one.test, two.test)
    return Fold(one.split, config, *parts, curve=curve, unknown=unknown, made=one.made)


def _stack(one: Predicted, two: Predicted) -> Predicted:
    if not np.array_equal(one.index, two.index):
        raise ValueError("runs to be judged together have answers about different wafers")
    return Predicted(one.index, np.concatenate([one.logits, two.logits]), np.concatenate([one.halt, two.halt]))


def recipe(config: Config, made: dict[str, Any]) -> dict[str, Any]:
    """All that two runs of one recipe have in common, as JSON: everything but the seeds."""
    told = json.loads(config.to_json())
    del told["run"]["seeds"]
    return told | made


def read_made(path: Path) -> dict[str, Any]:
    """What a run's ``wafers.json`` says of its answers: ``left out``, ``views`` and ``prior``. Raises ValueError."""
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
        return {name: made[name] for name in ("left out", "views", "prior")}
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no record of how the run answers ({' '.join(str(error).split())})") from None


def best_update(curve: pd.DataFrame, seed: int) -> int | None:
    """Update of the best weights of a seed, counted from 0; None if the training did not record it."""
    recorded = curve.loc[curve["seed"] == seed, "best_step"].dropna()
    return int(recorded.iloc[-1]) if len(recorded) else None


def _read_fold(directory: Path, split: Split, wafers: Wafers, made: dict[str, Any]) -> Fold:
    try:
        config = Config.from_json((directory / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise ValueError(f"{directory}/config.json: {' '.join(str(error).split())}") from None
    parts = {name: load_predicted(directory / f"{name}.npz") for name in ("validation", "test")}
    for name, found in parts.items():
        # A run that leaves a class out of training leaves it out of validation too.
        same = np.array_equal if name == "test" else lambda one, part: np.isin(one, part).all()
        if not same(found.index, getattr(split, name)):
            raise ValueError(
                f"{directory}/{name}.npz is of other wafers than the {name} part of {split.name} of {wafers.source}; "
                "name the data that the run was trained on"
            )
        if found.logits.shape[3] != len(CLASSES) or found.logits.shape[1] < config.recursion.N_sup:
            raise ValueError(
                f"{directory}/{name}.npz has logits {found.logits.shape}: expected {len(CLASSES)} classes and "
                f"{config.recursion.N_sup} steps or more"
            )
    unknown = {path.stem.removeprefix("unknown-"): load_predicted(path) for path in directory.glob("unknown-*.npz")}
    curve = read_curve(directory / "metrics.jsonl")
    return Fold(split, config, **parts, curve=curve, unknown=unknown, made=made)


def read_curve(path: Path) -> pd.DataFrame:
    """Columns step, seed (counted from 0) and those of CURVE, a row per logged step and seed; empty where nothing was
    logged. A last line that a kill cut short is left out."""
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        seeds = len(row["loss"])
        for seed in range(seeds):
            found = {name: row.get(name, [np.nan] * seeds)[seed] for name in CURVE}
            rows.append({"step": row["step"], "seed": seed, **found})
    return pd.DataFrame(rows, columns=["step", "seed", *CURVE])
