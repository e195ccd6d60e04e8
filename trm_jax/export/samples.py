"""What an exported model is calibrated on and compared with: wafers or puzzles that fit its config, of every class."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trm_jax.core.config import Config
from trm_jax.sudoku import puzzles
from trm_jax.sudoku import task as sudoku_task
from trm_jax.support.schema import require
from trm_jax.wafer import task as wafer_task
from trm_jax.wafer.data import load
from trm_jax.wafer.maps.maps import CLASSES, Wafers
from trm_jax.wafer.splits import all_lots, folds
from trm_jax.wafer.synthetic import synthetic_wafers


class Samples(NamedTuple):
    """Inputs as the exported files take them, with true classes; negative ones are unknown."""

    calibration: np.ndarray
    calibration_labels: np.ndarray
    """(N,), classes between which the error of int8 is averaged; zeros for puzzles."""
    inputs: np.ndarray
    """Held out from training."""
    truth: np.ndarray
    """(N,) or (N, cells)."""
    labels: list[str]
    preprocessing: dict[str, Any]
    unit: str
    """What one input is."""
    source: str
    """What the inputs are, in a sentence."""


def wafers_for(config: Config, data: Path | None, fold: int | None, counts: tuple[int, int], smoke: bool) -> Samples:
    """Calibrating and held-out wafers, of every class as many as there are up to an equal share of ``counts``.

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
    return Samples(
        calibration=wafer_task.grids_of(config, maps.take(calibration)).astype(np.float32),
        calibration_labels=maps.label[calibration],
        inputs=wafer_task.grids_of(config, maps.take(test)).astype(np.float32),
        truth=maps.label[test],
        labels=list(CLASSES),
        preprocessing={
            "kind": "wafer", "size": config.model.image, "representation": config.wafer.representation
        },
        unit="wafer",
        source=f"{len(test):,} wafers {what}, {np.bincount(maps.label[test]).min():,} to "
               f"{np.bincount(maps.label[test]).max():,} of each class, drawn from: {maps.source}",
    )  # fmt: skip


def even_choice(label: np.ndarray, part: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """About ``count`` indices out of ``part``, an equal share of each class or all it has, ascending."""
    classes = np.unique(label[part])
    share = -(-count // len(classes))
    chosen = [rng.permutation(part[label[part] == one])[:share] for one in classes]
    return np.sort(np.concatenate(chosen))


def puzzles_for(config: Config, counts: tuple[int, int]) -> Samples:
    """Calibrating training puzzles and held-out test puzzles of a Sudoku config."""
    options = {"data.train": max(counts[0], 1), "data.validation": 1, "data.test": max(counts[1], 1)}
    task = sudoku_task.prepare(config.override(**options, **{"data.first_share": 0.0}))
    (calibration, _), (inputs, truth) = (puzzles.to_tokens(part) for part in (task.splits.train, task.splits.test))
    generated = config.data.split == "class" and not config.data.train_file
    kind = "of unseen solution classes" if generated else "of the test part of its data"
    return Samples(
        calibration, np.zeros(len(calibration), np.int64), inputs, truth,
        labels=["padding", "blank", *map(str, range(1, config.model.classes - 1))],
        preprocessing={"kind": "tokens", "cells": config.model.cells},
        unit="puzzle",
        source=f"{len(inputs):,} puzzles {kind}",
    )  # fmt: skip
