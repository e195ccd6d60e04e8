"""Calibration on wafers that chose nothing: the test wafers of a cross-validation of the same recipe.

What is fitted to the wafers that chose the weights flatters. The nets of a cross-validation were chosen by other wafers
than those they are tested on, so their answers to these say how sure such a net may be; and how well that holds is
measured by deciding each fold with what was fitted on the others.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from trm_jax.wafer.evaluation.pooled import Pooled, lots
from trm_jax.wafer.evaluation.trust.calibration import fit_temperature, risk_coverage
from trm_jax.wafer.evaluation.trust.risk_control import class_thresholds, guaranteed_threshold
from trm_jax.wafer.maps.answers import Thresholds, decide
from trm_jax.wafer.maps.wafers import Wafers


class CrossFitted(NamedTuple):
    """What ships, fitted on all folds; and what comes of it in a fold that was not fitted on."""

    temperature: float
    threshold: float
    coverage: float
    """Share that is decided where each fold is decided by the others."""
    errors: float
    """Share of those that is wrong, 0 where nothing is decided."""


class ClassLimits(NamedTuple):
    """Thresholds by predicted class, fitted on all folds; and what comes of such in a fold that was not fitted on."""

    limits: tuple[float, ...]
    coverage: float
    """Share that is decided where each fold is decided by the others."""
    errors: float
    """Share of those that is wrong, 0 where nothing is decided."""
    alone: float
    """Share that one threshold of confidence, chosen with the answers known, decides with as few errors."""


def fit_decisions(
    logits: np.ndarray, truth: np.ndarray, unit: np.ndarray, alpha: float, delta: float
) -> tuple[float, float]:
    """Temperature and review threshold from logits (N, C), truth (N,) and the lot of every wafer, ``unit`` (N,).

    The threshold is 1, which reviews every wafer, where no lower one keeps the guarantee.
    """
    temperature = fit_temperature(logits, truth)
    probabilities = softmax(logits / temperature, axis=1)
    correct = probabilities.argmax(axis=1) == truth
    threshold = guaranteed_threshold(probabilities.max(axis=1), correct, unit, alpha, delta)
    return temperature, 1.0 if threshold is None else threshold


def decided_by_others(
    logits: np.ndarray, fold: np.ndarray, fit: Callable[[np.ndarray], tuple[float, Thresholds]]
) -> np.ndarray:
    """Which wafers are decided, bool (N,), where each fold is decided with what the other folds say.

    ``fit`` gives temperature and thresholds from the wafers of a mask, bool (N,).
    """
    decided = np.zeros(len(logits), bool)
    for number in np.unique(fold):
        here = fold == number
        temperature, thresholds = fit(~here)
        decided[here] = ~decide(softmax(logits[here] / temperature, axis=1), thresholds).review
    return decided


def cross_fit(
    logits: np.ndarray, truth: np.ndarray, unit: np.ndarray, fold: np.ndarray, alpha: float, delta: float
) -> CrossFitted:
    """Fit on all wafers, and measure on every fold what the other folds would have decided; arrays as `fit_decisions`.

    ``fold`` (N,) is the fold in which each wafer was tested.
    """

    def fit(mask: np.ndarray) -> tuple[float, float]:
        return fit_decisions(logits[mask], truth[mask], unit[mask], alpha, delta)

    decided = decided_by_others(logits, fold, fit)
    return CrossFitted(*fit(np.ones(len(truth), bool)), float(decided.mean()), _errors(logits, truth, decided))


def _errors(logits: np.ndarray, truth: np.ndarray, decided: np.ndarray) -> float:
    wrong = (logits.argmax(axis=1) != truth)[decided]
    return float(wrong.mean()) if len(wrong) else 0.0


def of_folds(pooled: Pooled, wafers: Wafers, alpha: float, delta: float) -> CrossFitted:
    """The same from the test wafers of a cross-validation; the answers of all its seeds count."""
    logits, truth, unit, fold = _tested(pooled, pooled.truth, lots(wafers, pooled.index), pooled.fold)
    return cross_fit(logits, truth, unit, fold, alpha, delta)


def class_limits(pooled: Pooled, wafers: Wafers, alpha: float, delta: float, rate: float) -> ClassLimits:
    """Thresholds by predicted class for an error rate of ``rate``, from the threshold of `of_folds` on, and the same
    test wafers."""
    logits, truth, unit, block, fold = _tested(
        pooled, pooled.truth, lots(wafers, pooled.index), pooled.group, pooled.fold
    )

    def fit(mask: np.ndarray) -> tuple[float, tuple[float, ...]]:
        temperature, lowest = fit_decisions(logits[mask], truth[mask], unit[mask], alpha, delta)
        probabilities = softmax(logits[mask] / temperature, axis=1)
        return temperature, class_thresholds(probabilities, truth[mask], block[mask], rate, lowest)

    decided = decided_by_others(logits, fold, fit)
    errors = _errors(logits, truth, decided)
    temperature, limits = fit(np.ones(len(truth), bool))
    curve = risk_coverage(softmax(logits / temperature, axis=1).max(axis=1), logits.argmax(axis=1) == truth)
    alone = float(curve.coverage[curve.risk <= errors].max(initial=0))
    return ClassLimits(limits, float(decided.mean()), errors, alone)


def _tested(pooled: Pooled, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Logits of all seeds after the trained depth, one seed after the other, and the arrays as often."""
    seeds = len(pooled.logits)
    return np.concatenate(pooled.logits[:, pooled.depth - 1]), *(np.tile(array, seeds) for array in arrays)
