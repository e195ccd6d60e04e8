"""The project from Python, in few lines: classify wafer maps, train on a task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trm_jax.core.config import Config
from trm_jax.core.task import Task, override
from trm_jax.study.arms import Arm
from trm_jax.study.runner import run_arm
from trm_jax.wafer.checkpoint import load_checkpoint
from trm_jax.wafer.classify import classify
from trm_jax.wafer.maps import source
from trm_jax.wafer.maps.answers import answers
from trm_jax.wafer.maps.validate import build_wafers


class WaferClassifier:
    """A checkpoint that answers wafer maps."""

    def __init__(self, checkpoint: str | Path):
        self.classifier = load_checkpoint(Path(checkpoint))

    def predict(self, maps: str | Path | Sequence[np.ndarray], threshold: float | None = None) -> pd.DataFrame:
        """A row for every map: row, decision, prediction, confidence, steps, probabilities, label and reason.

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
        answered = classify(self.classifier, read.wafers, threshold)
        limit = self.classifier.calibration.review_threshold
        return pd.DataFrame(list(answers(read, answered.probabilities, answered.steps, limit)))


def train(task: Task, directory: str | Path, options: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Train every seed on a task, or go on, and score it on the test samples: a row for each seed and difficulty.

    ``options`` are dotted, such as ``{"model.width": 64, "run.steps": 500}``. The best weights of every seed lie in
    ``directory`` as weights-SEED. Raises ValueError as `trm_jax.training.loop.fit` does.
    """
    arm = Arm(*override(task, Config(), options or {}))
    return pd.DataFrame(run_arm(arm, Path(directory), "training"))
