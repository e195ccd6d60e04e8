"""The guarantee by simulation, with lots of alike wafers."""

import numpy as np
import pytest

from trm_jax.wafer.evaluation.trust.risk_control import (
    betting_e_value,
    block_bound,
    class_thresholds,
    guaranteed_threshold,
)


def lots(rng, count, size=10):
    """Confidence, right and lot of wafers; in bad lots, one in twelve, even sure answers are often wrong together."""
    sure = 1 - 0.7 * rng.random((count, size)) ** 4
    bad = rng.random((count, 1)) < 1 / 12
    wrong = rng.random((count, size)) < np.where(bad, np.minimum(4 * (1 - sure) + 0.1, 0.9), 0.4 * (1 - sure))
    return sure.ravel(), ~wrong.ravel(), np.repeat(np.arange(count), size)


def true_risk(threshold, sure, right):
    return 1 - right[sure >= threshold].mean()


def test_the_guaranteed_threshold_keeps_its_promise_and_decides_much():
    """At alpha 5 % and delta 10 % in 100 trials: the true error rate (of 40,000 lots) is above alpha in 10 at most."""
    rng = np.random.default_rng(1)
    sure, right, _ = lots(rng, 40_000)
    assert true_risk(0, sure, right) > 0.08  # deciding everything would break the promise
    failed, coverage = 0, []
    for _ in range(100):
        confidence, truth, unit = lots(rng, 500)
        threshold = guaranteed_threshold(confidence, truth, unit, 0.05, 0.1)
        failed += threshold is not None and true_risk(threshold, sure, right) > 0.05
        coverage.append(0 if threshold is None else (confidence >= threshold).mean())
    assert failed <= 10 and np.mean(coverage) > 0.5


def test_counting_wafers_instead_of_lots_would_break_the_promise():
    """Whole lots are wrong with probability 12 %, so every threshold promised at alpha 10 % is a failure."""
    rng, promised = np.random.default_rng(5), {"lots": 0, "wafers": 0}
    for _ in range(200):
        right, lot = np.repeat(rng.random(40) >= 0.12, 25), np.repeat(np.arange(40), 25)
        for name, unit in (("lots", lot), ("wafers", np.arange(1000))):
            promised[name] += guaranteed_threshold(np.ones(1000), right, unit, 0.1, 0.05) is not None
    assert promised["lots"] <= 10 and promised["wafers"] > 20


def test_the_e_value_has_a_mean_of_at_most_one_where_the_rate_is_exactly_alpha():
    """Whole lots wrong with probability alpha: the mean over many draws is 1, the largest allowed."""
    rng, values = np.random.default_rng(0), []
    for _ in range(3000):
        right = np.repeat(rng.random(20) >= 0.2, 3)
        values.append(betting_e_value(np.ones(60), right, np.repeat(np.arange(20), 3), 0.2, 0.5))
    assert np.mean(values) == pytest.approx(1, abs=0.15) and np.std(values) > 0.5


def test_a_faultless_classifier_needs_enough_lots():
    """n lots without an error give an e-value of about exp(n alpha), and two starts need 2 / delta."""
    needed = int(np.ceil(np.log(20) / np.log(1.02)))
    for count, expected in ((needed // 2, None), (2 * needed, pytest.approx(0.1))):
        unit = np.repeat(np.arange(count), 25)
        threshold = guaranteed_threshold(np.ones(len(unit)), np.ones(len(unit), bool), unit)
        assert threshold == expected


def test_rates_are_shares():
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, got 2"):
        guaranteed_threshold(np.ones(3), np.ones(3, bool), np.arange(3), alpha=2)


def test_the_e_value_of_lots_of_unequal_sizes_by_hand():
    """Stakes are shares of the largest lot: lots of 4 and 1 wafers, one error in the large one, alpha a half."""
    right, lot = np.array([True, True, True, False, True]), np.array([0, 0, 0, 0, 1])
    gains = np.array([(0.5 * 4 - 1) / 4, 0.5 / 4])
    expected = 0.9 * np.prod(1 + gains) + 0.1 * np.prod(1 + 0.25 * gains)
    assert betting_e_value(np.full(5, 0.7), right, lot, 0.5, 0.6) == pytest.approx(expected, rel=1e-12)
    # A confidence that equals the threshold is decided, as on the device.
    assert betting_e_value(np.full(5, 0.7), right, lot, 0.5, 0.7) == pytest.approx(expected, rel=1e-12)
    assert betting_e_value(np.full(5, 0.7), right, lot, 0.5, np.nextafter(0.7, 1)) == pytest.approx(1)


def test_the_search_ends_with_the_first_threshold_that_fails():
    """20 faultless sure lots are too few, so the 400 faultless ones below them are never asked about."""
    confidence = np.repeat([0.999, 0.7], [20, 400])
    right, lot = np.ones(420, bool), np.arange(420)
    assert betting_e_value(confidence, right, lot, 0.1, 0.7) > 1e6
    assert guaranteed_threshold(confidence, right, lot, 0.1, 0.1) is None


def test_each_of_two_starts_has_half_of_delta():
    """140 faultless lots give an e-value between 1 / delta and 2 / delta."""
    lot = np.arange(140)
    assert 10 < betting_e_value(np.ones(140), np.ones(140, bool), lot, 0.02, 0.9) < 20
    assert guaranteed_threshold(np.ones(140), np.ones(140, bool), lot) is None


def test_the_bound_of_blocks_counts_blocks_and_one_error_more() -> None:
    assert block_bound(np.array([0, 0]), np.array([0, 0])) == 1.0
    assert block_bound(np.full(20, 5), np.zeros(20, int)) == pytest.approx(1 / 101)
    spread = block_bound(np.full(20, 10), np.ones(20, int))
    together = block_bound(np.full(20, 10), np.r_[np.full(2, 10), np.zeros(18, int)])
    assert spread == pytest.approx(21 / 201) and together > 1.5 * spread  # as many errors, in two blocks


def test_every_class_has_the_lowest_threshold_that_its_blocks_allow() -> None:
    confidence = np.tile([0.7, 0.9, 0.99], 200)
    predicted = np.repeat([0, 1, 2], 200)
    probabilities = np.full((600, 3), 0.0)
    probabilities[np.arange(600), predicted] = confidence
    truth = np.where((predicted == 1) & (confidence < 0.8), 0, predicted)  # class 1 is wrong where it is not sure
    truth[predicted == 2] = 0  # class 2 always
    found = class_thresholds(probabilities, truth, np.arange(600) % 20, alpha=0.05, lowest=0.6)
    assert found[0] == 0.6 and 0.7 < found[1] <= 0.9 and found[2] == 1
