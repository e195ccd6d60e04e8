"""Calibration against closed forms and brute force; every guarantee by simulation with lots of alike wafers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from trm_jax.wafer.evaluation import confidence as c


def test_temperature_of_two_classes_has_a_closed_form():
    """All logits (a, 0) and a share q right: softmax(a / T) = q, so T = a / logit(q)."""
    labels = np.array([0] * 80 + [1] * 20)
    logits = np.tile([6.0, 0.0], (100, 1))
    assert c.fit_temperature(logits, labels) == pytest.approx(6 / np.log(0.8 / 0.2), rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 5))
def test_temperature_beats_every_other_one(seed, scale):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 200)
    logits = scale * (rng.normal(size=(200, 4)) + 1.5 * np.eye(4)[truth])
    found = c.fit_temperature(logits, truth)

    def loss(temperature):
        return -log_softmax(logits / temperature, axis=1)[np.arange(200), truth].mean()

    assert loss(found) <= min(loss(t) for t in np.geomspace(0.02, 50, 300)) + 1e-7


def test_temperature_undoes_a_known_scale():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40_000, 5)) * 2
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # drawn from softmax(logits)
    assert c.fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.03)


def test_temperature_is_at_the_border_where_every_answer_is_right():
    assert c.fit_temperature(np.eye(3), np.arange(3)) < 0.03  # where the loss is 0 to rounding
    with pytest.raises(ValueError, match="need a label"):
        c.fit_temperature(np.eye(3), np.arange(0))


def test_risk_and_coverage_by_hand():
    found = c.risk_coverage(np.array([0.6, 0.9, 0.8, 0.8]), np.array([False, True, False, True]))
    np.testing.assert_allclose(found.threshold, [0.9, 0.8, 0.6])
    np.testing.assert_allclose(found.coverage, [0.25, 0.75, 1])
    np.testing.assert_allclose(found.risk, [0, 1 / 3, 1 / 2])
    assert found.area == pytest.approx((0 + 1 / 3 * 2 + 1 / 2) / 4)


def test_area_is_the_error_rate_for_a_blind_confidence_and_least_for_a_perfect_one():
    right = np.arange(100) >= 10
    assert c.risk_coverage(np.ones(100), right).area == pytest.approx(0.1)
    perfect = sum(k / (90 + k) for k in range(1, 11)) / 100
    assert c.risk_coverage(right.astype(float), right).area == pytest.approx(0.1 * 10 / 100)
    assert c.risk_coverage(np.arange(100.0), right).area == pytest.approx(perfect)


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
        threshold = c.guaranteed_threshold(confidence, truth, unit, 0.05, 0.1)
        failed += threshold is not None and true_risk(threshold, sure, right) > 0.05
        coverage.append(0 if threshold is None else (confidence >= threshold).mean())
    assert failed <= 10 and np.mean(coverage) > 0.5


def test_counting_wafers_instead_of_lots_would_break_the_promise():
    """Whole lots are wrong with probability 12 %, so every threshold promised at alpha 10 % is a failure."""
    rng, promised = np.random.default_rng(5), {"lots": 0, "wafers": 0}
    for _ in range(200):
        right, lot = np.repeat(rng.random(40) >= 0.12, 25), np.repeat(np.arange(40), 25)
        for name, unit in (("lots", lot), ("wafers", np.arange(1000))):
            promised[name] += c.guaranteed_threshold(np.ones(1000), right, unit, 0.1, 0.05) is not None
    assert promised["lots"] <= 10 and promised["wafers"] > 20


def test_evidence_has_a_mean_of_at_most_one_where_the_rate_is_exactly_alpha():
    """Whole lots wrong with probability alpha: the mean over many draws is 1, the largest allowed."""
    rng, values = np.random.default_rng(0), []
    for _ in range(3000):
        right = np.repeat(rng.random(20) >= 0.2, 3)
        values.append(c.evidence(np.ones(60), right, np.repeat(np.arange(20), 3), 0.2, 0.5))
    assert np.mean(values) == pytest.approx(1, abs=0.15) and np.std(values) > 0.5


def test_a_faultless_classifier_needs_enough_lots():
    """n lots without an error give evidence of about exp(n alpha), and two starts need 2 / delta of it."""
    needed = int(np.ceil(np.log(20) / np.log(1.02)))
    for count, expected in ((needed // 2, None), (2 * needed, pytest.approx(0.1))):
        unit = np.repeat(np.arange(count), 25)
        found = c.guaranteed_threshold(np.ones(len(unit)), np.ones(len(unit), bool), unit)
        assert found == expected


@pytest.mark.parametrize("alpha", [0.1, 0.25])
def test_a_new_lot_stays_below_the_conformal_quantile(alpha):
    """One wafer of a new lot, over validation lots and new lot together; scores of a lot are nearly the same."""
    rng, above = np.random.default_rng(2), []
    for _ in range(2500):
        sizes = rng.integers(1, 12, 31)
        scores = np.repeat(rng.normal(size=31), sizes) + 0.1 * rng.normal(size=sizes.sum())
        unit = np.repeat(np.arange(31), sizes)
        limit = c.conformal_quantile(scores[unit < 30], unit[unit < 30], alpha)
        above.append((scores[unit == 30] > limit).mean())
    assert alpha - 0.06 < np.mean(above) < alpha + 0.02


def test_lots_of_one_wafer_make_it_split_conformal():
    scores = np.random.default_rng(0).permutation(99.0 + np.arange(99))
    assert c.conformal_quantile(scores, np.arange(99), 0.1) == np.sort(scores)[int(np.ceil(100 * 0.9)) - 1]
    assert c.conformal_quantile(scores[:8], np.arange(8), 0.1) == np.inf


def test_the_marginal_threshold_limits_wrong_decisions_and_the_sets_hold_the_truth():
    rng, wrong, covered, sizes = np.random.default_rng(3), [], [], []
    for _ in range(300):
        truth = np.repeat(rng.integers(0, 4, 80), 6)
        hard = np.repeat(rng.random(80) < 0.2, 6)
        logits = rng.normal(size=(480, 4)) + np.where(hard, 0.5, 3)[:, None] * np.eye(4)[truth]
        share = np.exp(log_softmax(logits, axis=1))
        right, unit, old = share.argmax(axis=1) == truth, np.arange(480) // 6, np.arange(480) < 360
        limit = c.marginal_threshold(share.max(axis=1)[old], right[old], unit[old], 0.05)
        wrong.append(((share.max(axis=1) > limit) & ~right)[~old].mean())
        sets = c.conformal_sets(share[old], truth[old], unit[old], share[~old], 0.1)
        covered.append(sets[np.arange(120), truth[~old]].mean())
        sizes.append(sets.sum(axis=1).mean())
    assert 0.02 < np.mean(wrong) < 0.055
    assert 0.89 < np.mean(covered) < 0.93 and 1 < np.mean(sizes) < 2


def test_scores_of_unknown_patterns_by_hand():
    found = c.unknown_scores(np.array([[0.0, 0.0], [50.0, 0.0]]), np.array([0.0, 50.0]))
    np.testing.assert_allclose(found["1 - max probability"], [0.5, 0], atol=1e-9)
    np.testing.assert_allclose(found["entropy"], [np.log(2), 0], atol=1e-9)
    np.testing.assert_allclose(found["energy"], [-np.log(2), -50])
    np.testing.assert_allclose(found["1 - halting probability"], [0.5, 0], atol=1e-9)
    assert set(c.unknown_auroc(found, found).values()) == {0.5}


def test_auroc_counts_pairs():
    known, unknown = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0])
    pairs = [(u > k) + 0.5 * (u == k) for u in unknown for k in known]
    assert c.auroc(known, unknown) == pytest.approx(np.mean(pairs))
    with pytest.raises(ValueError, match="3 and 0"):
        c.auroc(known, unknown[:0])


def test_rates_are_shares():
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, got 2"):
        c.guaranteed_threshold(np.ones(3), np.ones(3, bool), np.arange(3), alpha=2)
