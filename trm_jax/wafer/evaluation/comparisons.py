"""Other classifiers beside the one that is evaluated: baselines, runs of another recipe, runs without a class."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trm_jax.reporting.interval import Interval
from trm_jax.support.schema import require
from trm_jax.wafer.evaluation import metrics
from trm_jax.wafer.evaluation.metrics import GroupCounts
from trm_jax.wafer.evaluation.pooled import Pooled, pool
from trm_jax.wafer.evaluation.stored import Fold, join_runs, read_run
from trm_jax.wafer.evaluation.trust.selective import set_class_apart
from trm_jax.wafer.maps.wafers import CLASSES, Wafers, class_index
from trm_jax.wafer.splits import Split


@dataclass(frozen=True)
class Other:
    """What another classifier answered to M of the N test wafers."""

    probabilities: np.ndarray
    """(M, C) or (S, M, C)."""
    covers: np.ndarray
    """(N,) bool, which of the test wafers they are about."""


def named_directories(option: str, entries: Sequence[str]) -> list[tuple[str, Path]]:
    """Names and directories of an option that takes NAME=DIRECTORY. Raises ValueError."""
    parts = [entry.partition("=") for entry in entries]
    for entry, (name, _, directory) in zip(entries, parts, strict=True):
        require(bool(name and directory), f"{option} takes NAME=DIRECTORY, got {entry!r}")
    return [(name, Path(directory)) for name, _, directory in parts]


def read_baselines(directory: Path, wafers: Wafers, splits: Sequence[Split], used: Sequence[Fold]) -> dict[str, Other]:
    """Answers of every baseline to the test wafers of the splits that are used. Raises ValueError."""
    path = directory / "options.json"
    require(path.is_file(), f"{directory} is not a run of wafer_baselines: it has no options.json")
    options = json.loads(path.read_text(encoding="utf-8"))
    expected = {"source": wafers.source, "wafers": len(wafers), "split": "lot", "folds": len(splits)}
    for name, value in expected.items():
        require(options.get(name) == value, f"{directory} was made with {name} {options.get(name)!r}, not {value!r}")
    names, ends = {fold.split.name for fold in used}, np.cumsum([len(split.test) for split in splits])
    baselines = {}
    for path in sorted(directory.glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            probabilities = arrays["probabilities"]
        require(len(probabilities) == ends[-1], f"{path} has {len(probabilities):,} answers, not {ends[-1]:,}")
        parts = zip(np.split(probabilities, ends[:-1]), splits, strict=True)
        chosen = np.concatenate([part for part, split in parts if split.name in names])
        baselines[path.stem] = Other(chosen, np.ones(len(chosen), bool))
    require(bool(baselines), f"{directory} has no finished baseline")
    return baselines


def read_controls(entries: Sequence[str], wafers: Wafers, used: Sequence[Fold]) -> dict[str, Other]:
    """Answers of other recipes by name, which says so where they were trained on some of the splits only.

    Raises ValueError.
    """
    runs: dict[str, list[list[Fold]]] = {}
    for name, directory in named_directories("--controls", entries):
        runs.setdefault(name, []).append(read_run(directory, wafers, [fold.split for fold in used]))
    index, controls = np.concatenate([fold.test.index for fold in used]), {}
    for name, parts in runs.items():
        try:
            control = join_runs(parts)
        except ValueError as error:
            raise ValueError(f"--controls {name}: {error}") from None
        pooled = pool(control, wafers)
        trained = "" if len(control) == len(used) else f" ({', '.join(fold.split.name for fold in control)})"
        probabilities = pooled.probabilities(pooled.depth, tempered=False)
        controls[name + trained] = Other(probabilities, np.isin(index, pooled.index))
    return controls


def read_left_out(entries: Sequence[str], wafers: Wafers, splits: Sequence[Split]) -> list[list[Fold]]:
    """Folds of the runs that never trained on a class, its wafers set apart. Raises ValueError."""
    runs = []
    for name, directory in named_directories("--left-out", entries):
        label = class_index(name)
        require(label >= 0, f"--left-out: {name!r} is not a class")
        runs.append(set_class_apart(read_run(directory, wafers, splits, CLASSES[label]), wafers, label))
    return runs


def compare(
    pooled: Pooled, counts: GroupCounts, others: Mapping[str, Other], draws: np.ndarray
) -> dict[str, dict[str, dict[str, Interval]]]:
    """Scores of every other classifier ("own"), and ours minus its ("difference"); ``counts`` are ours."""
    groups, compared = np.unique(pooled.group), {}
    for name, other in others.items():
        group = pooled.group[other.covers]
        # Splits keep groups whole, so the counts of the wafers covered are those of their groups.
        ours = GroupCounts(*(part[np.isin(groups, group)] for part in counts))
        theirs = metrics.count(pooled.truth[other.covers], other.probabilities, group)
        shared_draws = draws if other.covers.all() else metrics.resample(len(np.unique(group)))
        compared[name] = {
            "own": metrics.with_intervals(theirs, shared_draws),
            "difference": metrics.difference(ours, theirs, shared_draws),
        }
    return compared
