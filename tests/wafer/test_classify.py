"""Classifying with a checkpoint that ships."""

import jax
import numpy as np

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.wafer.checkpoint import Calibration, Classifier
from trm_jax.wafer.classify import halting_times
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.task import WaferTask


def test_stopping_early_is_timed_with_real_weights():
    config = Config().override(**{"model.classes": 9, "model.encoder": {"patch": 4, "image": 12}, "model.grid": (3, 3),
                                  "model.readout": "mean_max", "model.width": 8, "recursion.N_sup": 8})  # fmt: skip
    classifier = Classifier(config, model.initialise(config.model, jax.random.key(0)), WaferTask(), Calibration())
    times = halting_times(classifier, synthetic_wafers(1200).take(np.arange(128)), (0.0, 0.5, 1.0))
    assert len(times) == 3 and min(times) > 0
