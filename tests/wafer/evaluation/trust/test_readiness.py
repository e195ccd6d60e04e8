"""Thresholds by class leave out what is unlike, and say what became of the worst block."""

import numpy as np

from trm_jax.wafer.checkpoint import Calibration
from trm_jax.wafer.classify import Classified
from trm_jax.wafer.evaluation.trust.readiness import by_class
from trm_jax.wafer.evaluation.trust.risk_control import Promise
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES

PROMISE = Promise(class_alpha=0.03, reviewed=())


def test_a_class_that_is_often_wrong_is_reviewed_and_unlike_wafers_count_for_nothing() -> None:
    wafers = synthetic_wafers(900)
    wafers.group[:] = np.arange(900) // 30
    none, loc, ring = (CLASSES.index(name) for name in ("none", "Loc", "Edge-Ring"))
    wafers.label[:] = np.arange(900) % 3 == 0
    wafers.label[:] = np.where(wafers.label == 1, ring, none)
    predicted = wafers.label.astype(int)
    predicted[wafers.label == ring] = loc  # all of them wrong
    unlike = np.where(np.arange(900) < 60, 1, -1).astype(np.float32)  # two blocks, in which none is wrong, too
    predicted[:60] = ring
    probabilities = np.full((900, 9), 0.0125, np.float32)
    probabilities[np.arange(900), predicted] = 0.9
    steps, halt = np.full(900, 3), np.full((900, 3), np.nan)
    calibration, text = by_class(
        Calibration(1.0, 0.8), Classified(probabilities, steps, halt, unlike, 0.0), wafers, PROMISE
    )
    assert calibration.class_thresholds[none] == 0.8 and calibration.class_thresholds[loc] == 1
    assert calibration.class_thresholds[ring] == 1  # never predicted among those that count
    assert calibration.thresholds == calibration.class_thresholds and calibration.review_threshold == 0.8
    found = Classified(probabilities, steps, halt, unlike, 0.0)
    given = (0.85,) * 9
    assert by_class(calibration, found, wafers, PROMISE, given)[0].class_thresholds == given
    reviewed, _ = by_class(calibration, found, wafers, PROMISE._replace(reviewed=("none", "Loc")))
    assert set(reviewed.class_thresholds) == {1.0}
    automatic = int((wafers.label[60:] == none).sum())
    assert f"now {automatic / 900:.1%}, wrong 0.00%" in text
    assert any(line.startswith(f"| none | 0.800 | {automatic} | 0 | 0.0%") for line in text.splitlines())
