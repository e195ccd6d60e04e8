"""Training of the wafer classifier on splits of whole lots, and what the best weights answer to their test wafers."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.support.files import read_json
from trm_jax.support.schema import require
from trm_jax.training.checkpoint import save_weights
from trm_jax.training.devices import to_host
from trm_jax.training.loop import fit
from trm_jax.wafer.checkpoint import load_checkpoint
from trm_jax.wafer.classify import classify
from trm_jax.wafer.evaluation.metrics import seed_scores
from trm_jax.wafer.evaluation.stored import Predicted, load_predicted, save_predicted
from trm_jax.wafer.generated.mixes import mixed_wafers
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.splits import Split, all_lots, folds
from trm_jax.wafer.task import WaferTask, predict, prior_shift, take_seed, with_prior

MIXES = 500
"""Wafers with two patterns that every split is asked about, as unknown ones."""


@dataclass(frozen=True)
class Answering:
    """How trained weights are asked."""

    views: int
    """Mirrored and turned images of each wafer whose answers are averaged."""
    prior: float
    """How much of the logarithm of a class's share is added to its logit."""
    extra_steps: int
    """Supervision steps beyond those trained with that are predicted too."""


def choose_splits(wafers: Wafers, numbers: tuple[int, ...], ship: bool, leave_out: str) -> list[Split]:
    """The folds with these numbers (all if empty), or with ``ship`` the one split that has no test part.

    ``leave_out`` names a class that is neither trained on nor validated with.
    Raises ValueError for an unknown fold.
    """
    require(not (ship and numbers), "--folds and --all-lots exclude each other")
    splits = [all_lots(wafers)] if ship else folds(wafers)
    unknown = set(numbers) - set(range(len(splits)))
    require(not unknown, f"there is no fold {min(unknown, default=0)}; there are 0 to {len(splits) - 1}")
    chosen = [splits[number] for number in numbers or range(len(splits))]
    return [without(split, wafers.label, CLASSES.index(leave_out)) for split in chosen] if leave_out else chosen


def without(split: Split, labels: np.ndarray, class_index: int) -> Split:
    """The split with no wafer of a class to train on or validate with, so that the class is unknown when tested."""
    train, validation = (part[labels[part] != class_index] for part in (split.train, split.validation))
    return split._replace(train=train, validation=validation)


def describe(config: Config, wafers: Wafers, views: int) -> str:
    """Size of the model and of its work on one map, in a line."""
    params = model.abstract_weights(config.model)
    flops = model.forward_flops(config.override(**{"model.encoder.views": views}), params, inference=True)
    return (
        f"{wafers.source}: {len(wafers):,} wafers; {model.count_parameters(config.model, params):,} parameters, "
        f"{flops / 1e9:.3f} GFLOP a map in {views} views, {config.layer_applications} layer applications"
    )


def train_splits(
    task: WaferTask,
    config: Config,
    wafers: Wafers,
    splits: list[Split],
    answering: Answering,
    directory: Path,
    teachers: Sequence[Path] = (),
) -> None:
    """Train what is missing, split by split, and print the scores on validation of every seed.

    ``teachers`` are runs on the same splits, whose nets teach with `loss.distillation`.
    """
    used = np.concatenate([part for split in splits for part in (split.train, split.validation, split.test)])
    task = replace(task, grids=task.grids_of(config, wafers, used), labels=wafers.label)
    for split in splits:
        taught = taught_by(teachers, wafers, split) if teachers else None
        one = replace(task, split=split, soft_targets=taught)
        answers = train_split(one, config, wafers, answering, directory / split.name)
        print(summary(config, wafers, split.name, answers))


def teaching_nets(teachers: Sequence[Path], wafers: Wafers, split: Split) -> list[tuple[Path, float]]:
    """Weights of a split in these runs, with the prior that their logits are shifted by.

    Raises ValueError for a run without nets of the split, or with other wafers.
    """
    found = []
    for run in teachers:
        about = read_json(run / "wafers.json")
        same = about.get("source") == wafers.source and about.get("wafers") == len(wafers)
        require(same, f"{run} was trained on {about.get('source')}, not on {wafers.source}: it cannot teach")
        nets = sorted((run / split.name).glob("weights-*"))
        require(len(nets) > 0, f"{run / split.name} has no weights: train it on this split before it teaches")
        found += [(path, float(about["prior"])) for path in nets]
    return found


def taught_by(teachers: Sequence[Path], wafers: Wafers, split: Split) -> np.ndarray:
    """Mean probabilities (N, classes) float32 that the nets of these runs give the training wafers of a split.

    Without the shift towards common classes, which the student gets itself. Raises as `teaching_nets` does.
    """
    found: list[np.ndarray] = []
    known = wafers.take(split.train)
    for path, prior in teaching_nets(teachers, wafers, split):
        shift = prior_shift(wafers.label[split.train], prior)
        said = classify(load_checkpoint(path), known, shown=sys.stderr.isatty()).probabilities * np.exp(-shift)
        found.append(said / said.sum(axis=1, keepdims=True))
    targets = np.zeros((len(wafers), len(CLASSES)), np.float32)
    targets[split.train] = np.mean(found, axis=0)
    return targets


def train_split(task: WaferTask, config: Config, wafers: Wafers, answering: Answering, directory: Path) -> Predicted:
    """Train all seeds on one split, keep the best weights, and store their answers; returns those on validation.

    Those on the test part are only stored, so that whoever compares recipes does not choose by them. A split that is
    done is not asked again.
    """
    split = task.split
    training = fit(task, config, directory, split.name)
    config, best = with_prior(config, to_host(training.best.params), wafers.label[split.train], answering.prior)
    config = config.override(**{"model.encoder.views": answering.views})
    for number, seed in enumerate(config.run.seeds):
        target = directory / f"weights-{seed}"
        if not target.exists():
            save_weights(target, take_seed(best, number), config, task)
    questions = {"validation": (task.grids[split.validation], split.validation)}
    if len(split.test):
        questions |= mixtures_of(task, config, wafers)
        questions["test"] = (task.grids[split.test], split.test)
    steps = config.recursion.N_sup + answering.extra_steps
    for name, (grids, index) in questions.items():
        path = directory / f"{name}.npz"
        if not path.exists():
            save_predicted(path, predict(config, best, grids, index, steps))
    return load_predicted(directory / "validation.npz")


def mixtures_of(task: WaferTask, config: Config, wafers: Wafers) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Grids of wafers with two patterns and their numbers, by name; empty where no such wafer can be made."""
    try:
        mixtures = mixed_wafers(wafers, task.split.test, MIXES)
    except ValueError as error:
        print(f"{task.split.name}: no wafers with two patterns are asked about: {error}", file=sys.stderr)
        return {}
    return {"unknown-mixes": (task.grids_of(config, mixtures), np.arange(MIXES))}


def summary(config: Config, wafers: Wafers, name: str, answers: Predicted) -> str:
    """Accuracy and macro-F1 on validation of every seed after the steps trained with, a line each."""
    classes = answers.logits[:, config.recursion.N_sup - 1].argmax(axis=-1)
    scores = seed_scores(wafers.label[answers.index], classes, len(CLASSES))
    return "\n".join(
        f"{name} seed {seed}, validation: accuracy {accuracy:.4f}, macro-F1 {macro_f1:.4f}"
        for seed, accuracy, macro_f1 in zip(config.run.seeds, scores.accuracy, scores.macro_f1, strict=True)
    )
