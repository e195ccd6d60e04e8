"""Calibration on wafers that chose nothing: the test wafers of a cross-validation of the same recipe.

What is fitted to the wafers that chose the weights flatters. The nets of a cross-validation were chosen by other wafers
than those they are tested on, so their answers to these say how sure such a net may be; and how well that holds is
measured by deciding each fold with what was fitted on the others.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from trm_jax.wafer.evaluation.pooled import Pooled, lots
from trm_jax.wafer.evaluation.trust.calibration import fit_temperature, risk_coverage
from trm_jax.wafer.evaluation.trust.risk_control import Promise, class_thresholds, guaranteed_threshold
from trm_jax.wafer.maps.answers import Thresholds, decide
from trm_jax.wafer.maps.wafers import CLASSES, Wafers


class Decided(NamedTuple):
    """What comes of automatic answers."""

    coverage: float
    """Share of the wafers that is decided."""
    errors: float
    """Share of those that is wrong, 0 where nothing is decided."""


class CrossFitted(NamedTuple):
    """What ships, fitted on all folds; and what comes of such in folds that were not fitted on."""

    temperature: float
    threshold: float
    """Of confidence, for all classes: the lowest one."""
    limits: tuple[float, ...]
    """Thresholds by predicted class."""
    at_threshold: Decided
    """Where each fold is decided by temperature and threshold of the others."""
    by_class: Decided
    """Where each fold is decided by temperature and thresholds by class of the others."""
    alone: float
    """Share that one threshold, chosen with the answers known, decides with as few errors as those by class."""

    def sentence(self) -> str:
        """How well it holds in folds that were not fitted on."""
        one, by_class = self.at_threshold, self.by_class
        return (
            f"of a fold the others decide {one.coverage:.1%}, {one.errors:.2%} of those wrongly; by class "
            f"{by_class.coverage:.1%}, {by_class.errors:.2%} wrongly; with as few confidence alone {self.alone:.1%}"
        )


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


def class_limits(
    probabilities: np.ndarray, truth: np.ndarray, block: np.ndarray, lowest: float, promise: Promise
) -> tuple[float, ...]:
    """Thresholds by predicted class from the threshold ``lowest`` on; 1 for the classes that are always reviewed.

    From probabilities (N, C), truth (N,) and ``block`` (N,), the block of lots of every wafer.
    """
    limits = list(class_thresholds(probabilities, truth, block, promise.class_alpha, lowest, promise.delta))
    for name in promise.reviewed:
        limits[CLASSES.index(name)] = 1.0
    return tuple(limits)


def cross_fit(
    logits: np.ndarray, truth: np.ndarray, unit: np.ndarray, block: np.ndarray, fold: np.ndarray, promise: Promise
) -> CrossFitted:
    """Fit on all wafers, and measure on every fold what the other folds would have decided.

    Arrays as `fit_decisions` and `class_limits` take them; ``fold`` (N,) is where each wafer was tested.
    """

    def fit(mask: np.ndarray) -> tuple[float, float, tuple[float, ...]]:
        temperature, lowest = fit_decisions(logits[mask], truth[mask], unit[mask], promise.alpha, promise.delta)
        probabilities = softmax(logits[mask] / temperature, axis=1)
        return temperature, lowest, class_limits(probabilities, truth[mask], block[mask], lowest, promise)

    def automatic(mask: np.ndarray, temperature: float, thresholds: Thresholds) -> np.ndarray:
        return ~decide(softmax(logits[mask] / temperature, axis=1), thresholds).review

    right, decided = logits.argmax(axis=1) == truth, np.zeros((2, len(truth)), bool)
    for number in np.unique(fold):
        here = fold == number
        temperature, lowest, limits = fit(~here)
        decided[:, here] = automatic(here, temperature, lowest), automatic(here, temperature, limits)
    at_threshold, by_class = (
        Decided(float(mask.mean()), float((~right[mask]).mean()) if mask.any() else 0.0) for mask in decided
    )
    temperature, lowest, limits = fit(np.ones(len(truth), bool))
    curve = risk_coverage(softmax(logits / temperature, axis=1).max(axis=1), right)
    alone = float(curve.coverage[curve.risk <= by_class.errors].max(initial=0))
    return CrossFitted(temperature, lowest, limits, at_threshold, by_class, alone)


def of_folds(pooled: Pooled, wafers: Wafers, promise: Promise) -> CrossFitted:
    """The same from the test wafers of a cross-validation; the answers of all its seeds count."""
    arrays = pooled.truth, lots(wafers, pooled.index), pooled.group, pooled.fold
    truth, unit, block, fold = (np.tile(array, len(pooled.logits)) for array in arrays)
    return cross_fit(np.concatenate(pooled.logits[:, pooled.depth - 1]), truth, unit, block, fold, promise)
