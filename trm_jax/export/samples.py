"""What an exported model is calibrated on and compared with: samples of its own task.

All that the export knows of a task comes from here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trm_jax.core.config import Config
from trm_jax.core.task import Batch, Task, check_tokens, task_from_options
from trm_jax.export.source import Source
from trm_jax.maze.task import Maze
from trm_jax.official.data import OfficialFolder
from trm_jax.sequences.task import Sequences
from trm_jax.sudoku.task import Sudoku
from trm_jax.support.schema import require
from trm_jax.wafer.data import load
from trm_jax.wafer.evaluation import metrics
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.splits import all_lots, folds
from trm_jax.wafer.task import WaferTask, encoder_of


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


TOKEN_TASKS: dict[str, type[Task]] = {kind.name: kind for kind in (Sudoku, Maze, Sequences, OfficialFolder)}
"""Tasks whose samples come with their options."""


def samples_for(source: Source, counts: tuple[int, int], data: Path | None, fold: int | None, smoke: bool) -> Samples:
    """Calibrating and held-out inputs, about as many as ``counts``, of the task that the weights were trained on.

    With ``smoke`` wafers are generated where no ``data`` are given. Raises ValueError for an unknown task.
    """
    require(min(counts) >= 1, "--calibration and --samples must be at least 1")
    name = source.task.get("name")
    if name == WaferTask.name:
        return _wafers(source.config, task_from_options(WaferTask, source.task), counts, data, fold, smoke)
    require(name in TOKEN_TASKS, f"weights of the task {name!r} have no samples to be compared on")
    return _tokens(source, task_from_options(TOKEN_TASKS[str(name)], source.task), counts)


def _wafers(
    config: Config, task: WaferTask, counts: tuple[int, int], data: Path | None, fold: int | None, smoke: bool
) -> Samples:
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
    size, representation = encoder_of(config).image, task.representation
    of_class = np.bincount(maps.label[test])
    return Samples(
        calibration=task.grids_of(config, maps.take(calibration)).astype(np.float32),
        calibration_labels=maps.label[calibration],
        inputs=task.grids_of(config, maps.take(test)).astype(np.float32),
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


def _tokens(source: Source, task: Task, counts: tuple[int, int]) -> Samples:
    """Calibrating training samples and held-out test samples of a task of tokens, those of the baked-in puzzle if any.

    Raises ValueError for samples that the model cannot take.
    """
    config, baked = source.config, ""
    train, test = (_of_puzzle(task.examples(part).arrays, source.puzzle) for part in ("train", "test"))
    for part, arrays in (("training", train), ("test", test)):
        check_tokens(config.model, arrays, f"{part} samples of the task {task.name}")
    if source.puzzle is not None:
        baked = f"; the vector of puzzle identifier {source.puzzle} is part of the files, no other can be asked for"
    inputs, truth = test["inputs"][: counts[1]], test["labels"][: counts[1]]
    calibration = train["inputs"][: counts[0]]
    unit, units = task.example_name
    return Samples(
        calibration=calibration,
        calibration_labels=np.zeros(len(calibration), np.int64),
        inputs=inputs,
        truth=truth,
        labels=task.class_names() or [str(index) for index in range(config.model.classes)],
        preprocessing={"kind": "tokens", "cells": config.model.cells}
        | ({} if source.puzzle is None else {"puzzle": source.puzzle}),
        unit=unit,
        source=f"{len(inputs):,} {units} of the test part of its data",
        takes=f"{config.model.cells} tokens, int32{baked}",
        purpose=f"Meant to study recursive reasoning; the answer to a {unit} may be wrong, so check it.",
    )


def _of_puzzle(arrays: Batch, puzzle: int | None) -> Batch:
    """The samples of one identifier, as identifier 0 of the reduced table; all where none has it."""
    mine = np.flatnonzero(arrays["puzzle"] == puzzle) if "puzzle" in arrays else np.zeros(0, int)
    rows = mine if len(mine) else np.arange(len(arrays["labels"]))
    return {name: values[rows] if name != "puzzle" else 0 * values[rows] for name, values in arrays.items()}
