"""Fitted on the wafers that chose the weights a promise is too good to be true; cross-fitted it holds."""

import numpy as np
import pytest
from scipy.special import softmax

from trm_jax.wafer.evaluation.pooled import Pooled
from trm_jax.wafer.evaluation.trust.cross_fit import CrossFitted, cross_fit, fit_decisions, of_folds
from trm_jax.wafer.evaluation.trust.risk_control import Promise
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.answers import decide
from trm_jax.wafer.maps.wafers import CLASSES

NETS, CHOOSING, NEW, ALPHA = 400, 400, 20_000, 0.1
PROMISE = Promise(ALPHA, 0.1, 0.05, ())


def answers(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """Logits of a net that is as good as every other one: what differs is chance."""
    return 2.5 * np.eye(2)[truth] + rng.normal(0, 1.8, (len(truth), 2))


def chosen(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """Logits for the wafers that chose it, of the best of many nets."""
    return max((answers(rng, truth) for _ in range(NETS)), key=lambda logits: (logits.argmax(1) == truth).mean())


def made() -> tuple[tuple[float, float], float, CrossFitted]:
    """Fitted on the choosing wafers, what that promises, and cross-fitted on four folds that chose nothing."""
    rng = np.random.default_rng(0)
    truth, tested = rng.integers(0, 2, CHOOSING), rng.integers(0, 2, 4 * CHOOSING)
    logits = chosen(rng, truth)
    fitted = fit_decisions(logits, truth, np.arange(CHOOSING), ALPHA, 0.1)
    promised = decided(logits, truth, *fitted)
    # Nets chosen by other wafers answer to these as to any new ones.
    folds = np.arange(len(tested)) % 4
    unit = np.arange(len(tested))
    return fitted, promised, cross_fit(answers(rng, tested), tested, unit, unit // 20, folds, PROMISE)


def decided(logits: np.ndarray, truth: np.ndarray, temperature: float, threshold: float) -> float:
    """Share of the automatic decisions that is wrong."""
    decisions = decide(softmax(logits / temperature, axis=1), threshold)
    return float((decisions.predicted != truth)[~decisions.review].mean())


def test_the_choosing_wafers_promise_too_much_and_cross_fitting_does_not() -> None:
    (temperature, threshold), promised, crossed = made()
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, NEW)
    new = answers(rng, truth)
    assert decided(new, truth, temperature, threshold) > 2 * promised  # wrong twice as often as promised
    kept = decided(new, truth, crossed.temperature, crossed.threshold)
    assert kept < ALPHA and kept == pytest.approx(crossed.at_threshold.errors, rel=0.25)
    # Too sure of itself where the choosing wafers say how sure it may be: confidence against what is right.
    right = (new.argmax(axis=1) == truth).mean()
    sure = {name: softmax(new / t, axis=1).max(axis=1).mean() for name, t in
            (("choosing", temperature), ("crossed", crossed.temperature))}  # fmt: skip
    assert sure["choosing"] - right > 0.03 and abs(sure["crossed"] - right) < 0.015


def test_a_fold_is_decided_by_the_others_alone() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, 800)
    logits, fold = answers(rng, truth), np.arange(800) % 2
    logits[fold == 1] *= 50.0  # a fold that knows no doubt
    crossed = cross_fit(logits, truth, np.arange(800), np.arange(800) // 20, fold, PROMISE)
    parts = [fit_decisions(logits[fold != k], truth[fold != k], np.arange(400), ALPHA, 0.1) for k in (0, 1)]
    review = np.concatenate(
        [decide(softmax(logits[fold == k] / parts[k][0], axis=1), parts[k][1]).review for k in (0, 1)]
    )
    assert crossed.at_threshold.coverage == pytest.approx(1 - review.mean())
    assert (
        parts[1][0] * 10 < parts[0][0]
        and crossed.temperature == fit_decisions(logits, truth, np.arange(800), ALPHA, 0.1)[0]
    )


def test_a_class_that_the_other_folds_got_wrong_is_reviewed_in_a_fold_where_it_was_right() -> None:
    """Fold 0 is wrong in a fifth of its answers "1", fold 1 never is, and all are as confident as can be told."""
    wafers = synthetic_wafers(1600, seed=0)
    predicted, fold = np.arange(1600) % 2, (np.arange(1600) >= 800).astype(int)
    truth = np.where((fold == 0) & (predicted == 1) & (np.arange(1600) % 10 == 1), 0, predicted)
    logits = 12.0 * np.eye(2)[predicted]
    pooled = Pooled(
        np.arange(1600), truth, np.arange(1600) // 20, fold, logits[None, None], np.zeros((1, 1, 1600)),
        np.ones((1, 2)), 1,
    )  # fmt: skip
    found = of_folds(pooled, wafers, Promise(0.3, 0.1, 0.05, ()))
    assert found.limits[1] == 1.0 and found.limits[0] == found.threshold < 1.0
    # Fold 0 is decided whole, by fold 1; in fold 1 no answer "1" is, by fold 0.
    assert found.by_class == (0.75, pytest.approx(80 / 1200)) and found.at_threshold == (1.0, 80 / 1600)
    assert found.alone == 1.0  # all of them, a twentieth of which is wrong
    # Answers "0" are always reviewed: "1" of fold 0 are decided, by fold 1.
    reviewed = of_folds(pooled, wafers, Promise(0.3, 0.1, 0.05, (CLASSES[0],)))
    assert reviewed.limits == (1.0, 1.0) and reviewed.by_class == (0.25, 0.2)
    assert reviewed[:2] == found[:2] and reviewed.at_threshold == found.at_threshold
