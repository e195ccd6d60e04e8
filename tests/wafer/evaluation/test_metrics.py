"""Scores against scikit-learn and closed forms; intervals by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, precision_score, recall_score

from trm_jax.reporting.interval import Interval
from trm_jax.wafer.evaluation import metrics


def drawn(seed, wafers=400, classes=5, groups=12):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, classes, wafers),
        rng.dirichlet(np.ones(classes), wafers),
        rng.integers(0, groups, wafers),
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_scores_agree_with_scikit_learn(seed):
    truth, probabilities, group = drawn(seed)
    predicted = probabilities.argmax(axis=1)
    counts = metrics.count(truth, probabilities, group)
    scores = metrics.scores(counts.confusion.sum(axis=0))
    assert scores.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert scores.macro_f1 == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert scores.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, predicted))
    for name, score in (("f1", f1_score), ("recall", recall_score), ("precision", precision_score)):
        np.testing.assert_allclose(getattr(scores, name), score(truth, predicted, average=None))


def test_calibration_error_by_hand():
    # Two wafers at 0.9, one right: gap 0.4 over 2; two at 0.6, both right: gap 0.4 over 2. Mean gap 0.4.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    counts = metrics.count(np.array([0, 1, 0, 0]), probabilities, np.arange(4))
    assert metrics.calibration_error(counts.calibration.sum(axis=0), 4) == pytest.approx(0.4)


def test_a_perfect_and_sure_classifier_has_no_error_and_no_width():
    truth = np.arange(90) % 9
    counts = metrics.count(truth, np.eye(9)[truth], np.arange(90) // 9)
    scores = metrics.with_intervals(counts, metrics.resample(10))
    assert scores.pop("ece") == scores.pop("loss") == (0, 0, 0)
    assert set(scores.values()) == {(1, 1, 1)} and len(scores) == 3 + 3 * 9


def test_a_resample_is_the_score_of_the_drawn_wafers():
    truth, probabilities, group = drawn(3)
    draws = metrics.resample(12, samples=1, seed=5)
    chosen = np.concatenate([np.flatnonzero(group == g) for g in range(12) for _ in range(draws[0, g])])
    counts = metrics.count(truth, probabilities, group)
    scores = metrics.with_intervals(counts, draws)["macro_f1"]
    expected = f1_score(truth[chosen], probabilities[chosen].argmax(axis=1), average="macro")
    assert scores.low == scores.high == pytest.approx(expected)
    assert scores.value == pytest.approx(f1_score(truth, probabilities.argmax(axis=1), average="macro"))


def test_intervals_cover_the_truth_when_whole_lots_are_right_or_wrong():
    """Lots of five alike wafers: drawing lots covers the true accuracy of 0.7, drawing wafers is sure of wrong ones."""
    rng, covered = np.random.default_rng(0), {"lots": 0, "wafers": 0}
    for _ in range(60):
        right = np.repeat(rng.random(60) < 0.7, 5)
        probabilities = np.where(right[:, None], [1.0, 0.0], [0.0, 1.0])
        for name, group in (("lots", np.repeat(np.arange(60), 5)), ("wafers", np.arange(300))):
            counts = metrics.count(np.zeros(300, int), probabilities, group)
            scores = metrics.with_intervals(counts, metrics.resample(len(set(group)), samples=200))
            covered[name] += scores["accuracy"].low <= 0.7 <= scores["accuracy"].high
    assert covered["lots"] >= 52 and covered["wafers"] < 45


def test_a_difference_is_paired():
    truth, probabilities, group = drawn(1)
    base = metrics.count(truth, probabilities, group)
    better = np.where((np.arange(400) % 10 == 0)[:, None], np.eye(5)[truth], probabilities)
    other = metrics.count(truth, better, group)
    draws = metrics.resample(12)
    assert metrics.difference(base, base, draws) == {"accuracy": (0, 0, 0), "macro_f1": (0, 0, 0)}
    scores = metrics.difference(other, base, draws)["accuracy"]
    separate = metrics.with_intervals(base, draws)["accuracy"]
    assert 0 < scores.low < scores.value and scores.high - scores.low < separate.high - separate.low


def test_another_prior_keeps_recall_and_changes_accuracy():
    confusion = np.array([[50, 50], [0, 100]])
    scores = metrics.at_prior(confusion, np.array([0.1, 0.9]))
    assert scores.accuracy == pytest.approx(0.1 * 0.5 + 0.9)
    assert scores.balanced_accuracy == pytest.approx(metrics.scores(confusion).balanced_accuracy)


def test_probabilities_must_add_up():
    with pytest.raises(ValueError, match="wafer 1 do not add up to 1"):
        metrics.count(np.zeros(2, int), np.array([[0.5, 0.5], [0.5, 0.2]]), np.zeros(2, int))


def test_the_loss_is_the_cross_entropy_of_scikit_learn():
    truth, probabilities, group = drawn(2)
    counts = metrics.count(truth, probabilities, group)
    scores = metrics.with_intervals(counts, metrics.resample(12))["loss"]
    assert scores.value == pytest.approx(log_loss(truth, probabilities)) and scores.low < scores.value < scores.high


def test_seeds_are_averaged_after_scoring():
    """Mean of the scores, not score of the mean: in the value, and with shared draws in every resample."""
    truth, probabilities, group = drawn(1)
    other = np.eye(5)[truth]
    draws = metrics.resample(12)
    seeds = metrics.count(truth, np.stack([probabilities, other]), group)
    alone = [metrics.count(truth, each, group) for each in (probabilities, other)]
    scores = metrics.with_intervals(seeds, draws)
    singly = [metrics.with_intervals(each, draws) for each in alone]
    for name in scores:
        assert scores[name].value == pytest.approx(np.mean([each[name].value for each in singly]))
    np.testing.assert_allclose(scores["macro_f1"].low, 0.5 + singly[0]["macro_f1"].low / 2)
    paired = metrics.difference(seeds, alone[1], draws)["accuracy"]
    np.testing.assert_allclose(paired.value, singly[0]["accuracy"].value / 2 - 0.5)


def test_a_share_by_hand():
    hits, of = np.array([[True, True, False, False]]), np.array([[True, False, True, False]])
    interval = metrics.share(hits, of, np.array([4, 4, 9, 9]), np.array([[2, 0], [0, 2], [1, 1]]))
    assert interval.value == 0.5 and 0 <= interval.low < 0.1 < 0.9 < interval.high <= 1
    nothing = metrics.share(hits, np.zeros_like(of), np.array([4, 4, 9, 9]), np.array([[1, 1]]))
    assert nothing == Interval(0, 0, 0)


def test_classes_that_nobody_has_do_not_count():
    """Class 1 is named but nobody has it; class 3 is neither."""
    confusion = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]])
    scores = metrics.scores(confusion)
    assert scores.macro_f1 == pytest.approx((6 / 7 + 1) / 2) and scores.balanced_accuracy == pytest.approx(0.875)


def test_bootstrap_draws_follow_their_seed():
    np.testing.assert_array_equal(metrics.resample(9), metrics.resample(9))
    assert not np.array_equal(metrics.resample(9), metrics.resample(9, seed=1))


def test_a_confidence_on_the_border_of_two_bins_is_in_the_lower_one():
    """0.6 is the upper end of the ninth of 15 bins, where 0.55 lies: one gap of |1.15 - 1|, not two."""
    probabilities = np.array([[0.6, 0.4], [0.55, 0.45]])
    counts = metrics.count(np.array([0, 1]), probabilities, np.zeros(2, int))
    assert np.flatnonzero(counts.calibration[0, :, 0]).tolist() == [8]
    assert metrics.calibration_error(counts.calibration.sum(axis=0), 2) == pytest.approx(0.15 / 2)
