"""Calibration, risk-coverage curves and scores of unknown patterns against closed forms and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from trm_jax.wafer.evaluation.trust import calibration


def test_temperature_of_two_classes_has_a_closed_form():
    """All logits (a, 0) and a share q right: softmax(a / T) = q, so T = a / logit(q)."""
    labels = np.array([0] * 80 + [1] * 20)
    logits = np.tile([6.0, 0.0], (100, 1))
    assert calibration.fit_temperature(logits, labels) == pytest.approx(6 / np.log(0.8 / 0.2), rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 5))
def test_temperature_beats_every_other_one(seed, scale):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 200)
    logits = scale * (rng.normal(size=(200, 4)) + 1.5 * np.eye(4)[truth])
    temperature = calibration.fit_temperature(logits, truth)

    def loss(value):
        return -log_softmax(logits / value, axis=1)[np.arange(200), truth].mean()

    assert loss(temperature) <= min(loss(t) for t in np.geomspace(0.02, 50, 300)) + 1e-7


def test_temperature_undoes_a_known_scale():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40_000, 5)) * 2
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # drawn from softmax(logits)
    assert calibration.fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.03)


def test_temperature_is_at_the_border_where_every_answer_is_right():
    assert calibration.fit_temperature(np.eye(3), np.arange(3)) < 0.03  # where the loss is 0 to rounding
    with pytest.raises(ValueError, match="need a label"):
        calibration.fit_temperature(np.eye(3), np.arange(0))


def test_risk_and_coverage_by_hand():
    curve = calibration.risk_coverage(np.array([0.6, 0.9, 0.8, 0.8]), np.array([False, True, False, True]))
    np.testing.assert_allclose(curve.threshold, [0.9, 0.8, 0.6])
    np.testing.assert_allclose(curve.coverage, [0.25, 0.75, 1])
    np.testing.assert_allclose(curve.risk, [0, 1 / 3, 1 / 2])
    assert curve.area == pytest.approx((0 + 1 / 3 * 2 + 1 / 2) / 4)


def test_area_is_the_error_rate_for_a_blind_confidence_and_least_for_a_perfect_one():
    right = np.arange(100) >= 10
    assert calibration.risk_coverage(np.ones(100), right).area == pytest.approx(0.1)
    perfect = sum(k / (90 + k) for k in range(1, 11)) / 100
    assert calibration.risk_coverage(right.astype(float), right).area == pytest.approx(0.1 * 10 / 100)
    assert calibration.risk_coverage(np.arange(100.0), right).area == pytest.approx(perfect)


def test_scores_of_unknown_patterns_by_hand():
    scores = calibration.unknown_scores(np.array([[0.0, 0.0], [50.0, 0.0]]), np.array([0.0, 50.0]))
    np.testing.assert_allclose(scores["1 - max probability"], [0.5, 0], atol=1e-9)
    np.testing.assert_allclose(scores["entropy"], [np.log(2), 0], atol=1e-9)
    np.testing.assert_allclose(scores["energy"], [-np.log(2), -50])
    np.testing.assert_allclose(scores["1 - halting probability"], [0.5, 0], atol=1e-9)
    assert {calibration.auroc(values, values) for values in scores.values()} == {0.5}


def test_auroc_counts_pairs():
    known, unknown = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0])
    pairs = [(u > k) + 0.5 * (u == k) for u in unknown for k in known]
    assert calibration.auroc(known, unknown) == pytest.approx(np.mean(pairs))
    with pytest.raises(ValueError, match="3 and 0"):
        calibration.auroc(known, unknown[:0])
