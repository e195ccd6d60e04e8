"""Which answers may go without a person: a threshold of confidence that keeps errors rare, with a guarantee.

Wafers of a lot are alike, so whole lots are what is exchangeable: counting wafers as if they were independent would
promise too much. All functions take confidence (N,), correct (N,) bool and ``unit`` (N,), the lot of every wafer.
"""

from typing import NamedTuple

import numpy as np

from trm_jax.wafer.evaluation.metrics import resample

SEARCH_STARTS = (0.25, 1.0)
"""The search for a threshold starts at confidence 1 - alpha times each of these. They are fixed before the data are
seen, and lie a little above what can be guaranteed if the classifier is calibrated."""
DOUBTS = np.geomspace(0.9, 1e-4, 60)
"""Values of 1 - confidence that can become a threshold."""
BET_WEIGHTS = {1.0: 0.9, 0.25: 0.1}
"""Bets, as shares of the largest safe stake, and the share of the money on each: the full stake wins with few lots, the
small one where whole lots are wrong but lots are many."""


class Promise(NamedTuple):
    """How often the automatic answers to new lots may be wrong."""

    alpha: float = 0.015
    """Share of all automatic answers."""
    delta: float = 0.1
    """Probability that a share is exceeded, over the draw of the lots that the thresholds were chosen on."""
    class_alpha: float = 0.02
    """Share of the automatic answers of a predicted class, with blocks of lots as units."""
    reviewed: tuple[str, ...] = ("Random",)
    """Classes that are never decided automatically: most of what is no wafer is called Random."""


def betting_e_value(
    confidence: np.ndarray, correct: np.ndarray, unit: np.ndarray, alpha: float, threshold: float
) -> float:
    """How strongly the lots speak against an error rate above ``alpha`` among wafers decided at this threshold.

    An e-value: if the rate is above alpha, its mean over independent lots is at most 1, so it reaches 1 / delta with
    probability at most delta (Markov), whatever the distribution and however alike the wafers of a lot are. It is the
    money made by betting on every lot that it has fewer errors than alpha times its decided wafers (Waudby-Smith and
    Ramdas 2024), with stakes that cannot lose everything while no lot has more wafers than the largest here.
    """
    _, index, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    decided = confidence >= threshold
    count = np.bincount(index[decided], minlength=len(sizes))
    errors = np.bincount(index[decided & ~correct.astype(bool)], minlength=len(sizes))
    gain = (alpha * count - errors) / sizes.max()  # at least alpha - 1
    return float(sum(weight * np.exp(np.log1p(bet * gain).sum()) for bet, weight in BET_WEIGHTS.items()))


def guaranteed_threshold(
    confidence: np.ndarray, correct: np.ndarray, unit: np.ndarray, alpha: float = 0.02, delta: float = 0.1
) -> float | None:
    """The lowest threshold at which automatic decisions are guaranteed to be wrong in at most a share ``alpha``.

    Guaranteed: with probability at least 1 - delta over the draw of the validation lots, deciding every wafer with
    confidence >= threshold makes, in the long run over new lots, at most alpha wrong decisions per decision. This holds
    for any finite number of lots and any dependence inside a lot, if validation and new lots are independent draws of
    one process, no new lot has more wafers than the largest here, and the classifier was not chosen by these labels.
    It says nothing about a single lot, a single class, or a process that has drifted.

    Learn then Test (Angelopoulos et al. 2021): thresholds are tested downwards from fixed starts, each with its share
    of delta, until the e-value is too small, so that trying many thresholds costs nothing more. None if no threshold
    can be guaranteed: with n lots and no error at all, alpha must be above about log(2 / delta) / n.
    """
    for name, rate in (("alpha", alpha), ("delta", delta)):
        if not 0 < rate < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {rate}")
    needed, passed = len(SEARCH_STARTS) / delta, []
    for start in 1 - alpha * np.array(SEARCH_STARTS):
        for threshold in (start, *(1 - DOUBTS[1 - start < DOUBTS])[::-1]):
            if betting_e_value(confidence, correct, unit, alpha, threshold) < needed:
                break
            passed.append(float(threshold))
    return min(passed, default=None)


def block_bound(count: np.ndarray, errors: np.ndarray, delta: float = 0.1, draws: int = 1000) -> float:
    """Error rate that new blocks of lots stay under with probability about 1 - delta.

    ``count`` and ``errors`` (blocks,) are what was decided of each block, and how much of that wrongly. The quantile of
    bootstrap samples of whole blocks, with one error more than was seen: without it a rare class that was never wrong
    would seem to be safe. Approximate, where `guaranteed_threshold` holds for any number of units: a few dozen blocks
    are too few for that to promise anything for a class. 1 where nothing is decided.
    """
    if not count.sum():
        return 1.0
    weights = resample(len(count), draws)
    decided = weights @ count
    return float(np.quantile((weights @ errors + 1) / (decided + 1), 1 - delta))


def class_thresholds(
    probabilities: np.ndarray, truth: np.ndarray, block: np.ndarray, alpha: float, lowest: float, delta: float = 0.1
) -> tuple[float, ...]:
    """For every predicted class the lowest confidence from ``lowest`` on at which its `block_bound` is at most alpha.

    From probabilities (N, classes), truth (N,) and ``block`` (N,), the block of lots of every wafer. 1, which reviews
    all of them, for a class where there is none.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    blocks, index = np.unique(block, return_inverse=True)
    found = []
    for label in range(probabilities.shape[1]):
        threshold = 1.0
        for limit in sorted({lowest, *(1 - DOUBTS[1 - lowest > DOUBTS])}):
            decided = (predicted == label) & (confidence >= limit)
            count, wrong = (
                np.bincount(index[mask], minlength=len(blocks)) for mask in (decided, decided & (truth != label))
            )
            if block_bound(count, wrong, delta) <= alpha:
                threshold = float(limit)
                break
        found.append(threshold)
    return tuple(found)
