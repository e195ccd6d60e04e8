"""The project from Python, in few lines: classify wafer maps, solve a puzzle, train on a task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trm_jax.core.config import Config
from trm_jax.core.task import Task, override, task_from_options
from trm_jax.export.source import read_source
from trm_jax.study.arms import Arm
from trm_jax.study.runner import run_arm
from trm_jax.sudoku.answers import answer, parse_puzzle
from trm_jax.sudoku.solver import Box
from trm_jax.sudoku.task import Sudoku
from trm_jax.wafer.checkpoint import load_checkpoint
from trm_jax.wafer.classify import classify
from trm_jax.wafer.maps import source
from trm_jax.wafer.maps.answers import answers
from trm_jax.wafer.maps.plausible import inspect
from trm_jax.wafer.maps.unlike import doubted
from trm_jax.wafer.maps.validate import build_wafers


class WaferClassifier:
    """A checkpoint that answers wafer maps."""

    def __init__(self, checkpoint: str | Path):
        self.classifier = load_checkpoint(Path(checkpoint))

    def predict(self, maps: str | Path | Sequence[np.ndarray], threshold: float | None = None) -> pd.DataFrame:
        """A row for every map: row, decision, prediction, confidence, steps, unlike, probabilities, label, reason.

        ``maps`` is a file or folder as `trm wafer predict --input` takes it, or arrays (height, width) of 0 (no die), 1
        (passing) and 2 (failing). ``threshold`` stops a map after the first step whose halting probability is above it.
        """
        if isinstance(maps, str | Path):
            read = source.read(Path(maps), to_classify=True)
        else:
            arrays = [np.asarray(cells, np.uint8) for cells in maps]
            height, width = np.array([cells.shape for cells in arrays]).reshape(-1, 2).T
            rows = np.arange(len(arrays))
            flat = np.concatenate([cells.ravel() for cells in arrays])
            read = build_wafers(flat, height, width, {"row": rows, "group": rows}, "arrays")
        calibration = self.classifier.calibration
        read, doubts, _ = inspect(read, dies=calibration.dies)
        answered = classify(self.classifier, read.wafers, threshold)
        unlike = answered.unlike
        doubts = doubts if unlike is None else doubted(doubts, unlike)
        found = answers(read, answered.probabilities, answered.steps, calibration.thresholds, doubts, unlike)
        return pd.DataFrame(list(found))


def solve(puzzle: str, checkpoint: str | Path) -> list[str]:
    """The board after each supervision step, its digits in a row; ``puzzle`` as `trm solve --puzzle` takes it."""
    stored = read_source(Path(checkpoint))
    box = Box(*task_from_options(Sudoku, stored.task).box)
    answers = answer(stored.config, stored.params, parse_puzzle(puzzle, box)[None], box)
    return ["".join(map(str, digits)) for digits in answers.digits[:, 0].tolist()]


def train(task: Task, directory: str | Path, options: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Train every seed on a task, or go on, and score it on the test samples: a row for each seed and difficulty.

    ``options`` are dotted, such as ``{"model.width": 64, "run.steps": 500}``. The best weights of every seed lie in
    ``directory`` as weights-SEED. Raises ValueError as `trm_jax.training.loop.fit` does.
    """
    arm = Arm(*override(task, Config(), options or {}))
    return pd.DataFrame(run_arm(arm, Path(directory), "training"))
