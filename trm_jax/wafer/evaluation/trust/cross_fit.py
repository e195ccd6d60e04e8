"""Calibration on wafers that chose nothing: the test wafers of a cross-validation of the same recipe.

What is fitted to the wafers that chose the weights flatters. The nets of a cross-validation were chosen by other wafers
than those they are tested on, so their answers to these say how sure such a net may be; and how well that holds is
measured by deciding each fold with what was fitted on the others.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from trm_jax.wafer.evaluation.pooled import Pooled, lots
from trm_jax.wafer.evaluation.trust.calibration import fit_temperature
from trm_jax.wafer.evaluation.trust.risk_control import class_thresholds, guaranteed_threshold
from trm_jax.wafer.maps.answers import decide
from trm_jax.wafer.maps.wafers import Wafers


class CrossFitted(NamedTuple):
    """What ships, fitted on all folds; and what comes of it in a fold that was not fitted on."""

    temperature: float
    threshold: float
    coverage: float
    """Share that is decided where each fold is decided by the others."""
    errors: float
    """Share of those that is wrong, 0 where nothing is decided."""


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


def cross_fit(
    logits: np.ndarray, truth: np.ndarray, unit: np.ndarray, fold: np.ndarray, alpha: float, delta: float
) -> CrossFitted:
    """Fit on all wafers, and measure on every fold what the other folds would have decided; arrays as `fit_decisions`.

    ``fold`` (N,) is the fold in which each wafer was tested.
    """
    review = np.ones(len(truth), bool)
    for number in np.unique(fold):
        here = fold == number
        temperature, threshold = fit_decisions(logits[~here], truth[~here], unit[~here], alpha, delta)
        review[here] = decide(softmax(logits[here] / temperature, axis=1), threshold).review
    wrong = (logits.argmax(axis=1) != truth)[~review]
    errors = float(wrong.mean()) if len(wrong) else 0.0
    return CrossFitted(*fit_decisions(logits, truth, unit, alpha, delta), float(1 - review.mean()), errors)


def of_folds(pooled: Pooled, wafers: Wafers, alpha: float, delta: float) -> CrossFitted:
    """The same from the test wafers of a cross-validation; the answers of all its seeds count."""
    seeds = len(pooled.logits)
    logits = np.concatenate(pooled.logits[:, pooled.depth - 1])
    truth, unit, fold = (np.tile(x, seeds) for x in (pooled.truth, lots(wafers, pooled.index), pooled.fold))
    return cross_fit(logits, truth, unit, fold, alpha, delta)


def class_limits(pooled: Pooled, fitted: CrossFitted, alpha: float) -> tuple[float, ...]:
    """Thresholds by predicted class, as `class_thresholds` finds them, from the same test wafers."""
    seeds, logits = len(pooled.logits), np.concatenate(pooled.logits[:, pooled.depth - 1])
    probabilities = softmax(logits / fitted.temperature, axis=1)
    truth, block = np.tile(pooled.truth, seeds), np.tile(pooled.group, seeds)
    return class_thresholds(probabilities, truth, block, alpha, fitted.threshold)
