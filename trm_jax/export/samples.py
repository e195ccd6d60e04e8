"""What an exported model is calibrated on and compared with: wafers or puzzles that fit its config, of every class.

All that the export knows of a task comes from here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trm_jax.core.config import Config
from trm_jax.sudoku import puzzles
from trm_jax.sudoku import task as sudoku_task
from trm_jax.support.schema import require
from trm_jax.wafer import task as wafer_task
from trm_jax.wafer.data import load
from trm_jax.wafer.evaluation import metrics
from trm_jax.wafer.maps.maps import CLASSES, Wafers
from trm_jax.wafer.splits import all_lots, folds
from trm_jax.wafer.synthetic import synthetic_wafers


@dataclass(frozen=True)
class Samples:
    """Inputs as the exported files take them, with true classes; negative ones are unknown."""

    calibration: np.ndarray
    calibration_labels: np.ndarray
    """(N,), classes over which the error of int8 is averaged; zeros for puzzles."""
    inputs: np.ndarray
    """(N, ...), held out from training."""
    truth: np.ndarray
    """(N,) or (N, cells)."""
    labels: list[str]
    preprocessing: dict[str, Any]
    unit: str
    """What one input is."""
    source: str
    """What the inputs are, for a sentence."""
    takes: str
    """What the files take, for a sentence."""
    purpose: str
    """What the model is for, in a sentence."""

    def score(self, probabilities: np.ndarray) -> dict[str, float]:
        """Scores by name of probabilities (N, ..., classes) for ``inputs``; stopping early is judged by the first."""
        truth = self.truth.reshape(-1)
        known = truth >= 0
        kept = probabilities.reshape(len(truth), -1)[known]
        counts = metrics.count(truth[known], kept, np.zeros(known.sum(), np.int64))
        macro_f1 = metrics.scores(counts.confusion.sum(axis=0)).macro_f1
        ece = metrics.calibration_error(counts.calibration.sum(axis=0), known.sum())
        return {"Macro-F1": float(macro_f1), "ECE": float(ece)}


def samples_for(config: Config, counts: tuple[int, int], data: Path | None, fold: int | None, smoke: bool) -> Samples:
    """Calibrating and held-out inputs, about as many as ``counts``, of the kind that the model takes.

    With ``smoke`` wafers are generated where no ``data`` are given.
    """
    require(min(counts) >= 1, "--calibration and --samples must be at least 1")
    return _wafers(config, counts, data, fold, smoke) if config.model.patch else _puzzles(config, counts)


def _wafers(config: Config, counts: tuple[int, int], data: Path | None, fold: int | None, smoke: bool) -> Samples:
    """Wafers of every class, as many as there are up to an equal share of ``counts``.

    Held out is the test part of a fold, or without one the sixth of all lots that validates weights that ship.
    Raises ValueError for a fold that does not exist.
    """
    generated = smoke and data is None
    maps: Wafers = synthetic_wafers(900) if generated else load(data)
    if fold is None:
        split = all_lots(maps)
        held_out = split.validation
        what = "of lots kept apart" if generated else "of lots that chose the weights but did not train them"
    else:
        splits = folds(maps)
        require(0 <= fold < len(splits), f"there is no fold {fold}; there are 0 to {len(splits) - 1}")
        split = splits[fold]
        held_out, what = split.test, f"of the test part of fold {fold}"
    rng = np.random.default_rng(0)
    calibration, test = (
        even_choice(maps.label, part, count, rng) for part, count in zip((split.train, held_out), counts, strict=True)
    )
    size, representation = config.model.image, config.wafer.representation
    of_class = np.bincount(maps.label[test])
    return Samples(
        calibration=wafer_task.grids_of(config, maps.take(calibration)).astype(np.float32),
        calibration_labels=maps.label[calibration],
        inputs=wafer_task.grids_of(config, maps.take(test)).astype(np.float32),
        truth=maps.label[test],
        labels=list(CLASSES),
        preprocessing={"kind": "wafer", "size": size, "representation": representation},
        unit="wafer",
        source=f"{len(test):,} wafers {what}, {of_class.min():,} to {of_class.max():,} of each class, drawn from: "
        f"{maps.source}",
        takes=f"a wafer map resized to {size} x {size} cells (`{representation}`): shares of failing dies and of dies, "
        "float32 0 to 255",
        purpose="Meant to sort maps and to send doubtful ones to a person; not to decide alone, nor for maps made in "
        "another way than the training data.",
    )


def even_choice(label: np.ndarray, part: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """About ``count`` indices out of ``part``, an equal share of each class or all it has, ascending."""
    classes = np.unique(label[part])
    share = -(-count // len(classes))
    return np.sort(np.concatenate([rng.permutation(part[label[part] == index])[:share] for index in classes]))


def _puzzles(config: Config, counts: tuple[int, int]) -> Samples:
    """Calibrating training puzzles and held-out test puzzles of a Sudoku config."""
    options = {"data.train": counts[0], "data.validation": 1, "data.test": counts[1]}
    task = sudoku_task.prepare(config.override(**options, **{"data.first_share": 0.0}))
    (calibration, _), (inputs, truth) = (puzzles.to_tokens(part) for part in (task.splits.train, task.splits.test))
    generated = config.data.split == "class" and not config.data.train_file
    kind = "of unseen solution classes" if generated else "of the test part of its data"
    return Samples(
        calibration=calibration,
        calibration_labels=np.zeros(len(calibration), np.int64),
        inputs=inputs,
        truth=truth,
        labels=["padding", "blank", *map(str, range(1, config.model.classes - 1))],
        preprocessing={"kind": "tokens", "cells": config.model.cells},
        unit="puzzle",
        source=f"{len(inputs):,} puzzles {kind}",
        takes=f"{config.model.cells} tokens, int32",
        purpose="Meant to study recursive reasoning; an answer may break the rules of the puzzle.",
    )
