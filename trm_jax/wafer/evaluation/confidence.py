"""When to trust a classifier: calibrated confidence, what may be decided automatically, and what is unknown to it.

All functions take numpy arrays of one classifier: logits (N, C), labels (N,), confidence (N,), and ``unit`` (N,), the
lot of every wafer. Wafers of a lot are alike, so every guarantee here treats whole lots as what is exchangeable:
counting wafers as if they were independent would promise too much.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logsumexp, softmax, xlogy
from sklearn.metrics import roc_auc_score

TEMPERATURES = (0.01, 100.0)
STARTS = (0.25, 1.0)
"""The search for a threshold begins at confidence 1 - alpha times these: fixed before the data are seen, and for a
calibrated classifier a little above what can be guaranteed."""
DOUBT = np.geomspace(0.9, 1e-4, 60)
"""Values of 1 - confidence that can become a threshold."""
BETS = {1.0: 0.9, 0.25: 0.1}
"""Stakes, as shares of the largest safe one, and their shares of the money: the full stake wins with few lots, the
small one where whole lots are wrong but lots are many."""


class RiskCoverage(NamedTuple):
    """What happens if only the most confident wafers are decided; one entry for every distinct confidence."""

    threshold: np.ndarray
    """Lowest confidence that is decided, descending."""
    coverage: np.ndarray
    """Share of wafers that are decided."""
    risk: np.ndarray
    """Error rate among those."""
    area: float
    """Mean risk over all coverages (AURC, Geifman and El-Yaniv 2017); 0 is perfect."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T for which softmax(logits / T) has the least cross-entropy (Guo et al. 2017).

    The loss is convex in 1 / T, so the minimum is the only one; it is sought between 0.01 and 100, and near a
    border where every answer is right (0.01) or the logits say nothing (100). Raises ValueError without wafers.
    """
    if len(labels) == 0 or len(labels) != len(logits):
        raise ValueError(f"need a label for every row of logits, got {len(labels)} for {len(logits)}")
    rows, wide = np.arange(len(labels)), logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        return -log_softmax(wide / np.exp(log_temperature), axis=1)[rows, labels].mean()

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> RiskCoverage:
    """Error rate among the decided wafers as more of them are decided; equally confident wafers come together."""
    order = np.argsort(-confidence, kind="stable")
    ordered, wrong = confidence[order], np.cumsum(~right[order].astype(bool))
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    decided = last + 1
    risk = wrong[last] / decided
    area = float((risk * np.diff(decided, prepend=0)).sum() / len(confidence))
    return RiskCoverage(ordered[last], decided / len(confidence), risk, area)


def evidence(confidence: np.ndarray, right: np.ndarray, unit: np.ndarray, alpha: float, threshold: float) -> float:
    """How strongly the lots speak against an error rate above ``alpha`` among wafers decided at this threshold.

    An e-value: if the rate is above alpha, its mean over independent lots is at most 1, so it reaches 1 / delta with
    probability at most delta (Markov), whatever the distribution and however alike the wafers of a lot are. It is the
    money made by betting on every lot that it has fewer errors than alpha times its decided wafers (Waudby-Smith and
    Ramdas 2024), with stakes that cannot lose everything while no lot has more wafers than the largest here.
    """
    _, index, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    decided = confidence >= threshold
    count = np.bincount(index[decided], minlength=len(sizes))
    wrong = np.bincount(index[decided & ~right.astype(bool)], minlength=len(sizes))
    gain = (alpha * count - wrong) / sizes.max()  # at least alpha - 1
    return float(sum(money * np.exp(np.log1p(bet * gain).sum()) for bet, money in BETS.items()))


def guaranteed_threshold(
    confidence: np.ndarray, right: np.ndarray, unit: np.ndarray, alpha: float = 0.02, delta: float = 0.1
) -> float | None:
    """The lowest threshold at which automatic decisions are guaranteed to be wrong in at most a share ``alpha``.

    Guaranteed: with probability at least 1 - delta over the draw of the validation lots, deciding every wafer with
    confidence >= threshold makes, in the long run over new lots, at most alpha wrong decisions per decision. This holds
    for any finite number of lots and any dependence inside a lot, if validation and new lots are independent draws of
    one process, no new lot has more wafers than the largest here, and the classifier was not chosen by these labels.
    It says nothing about a single lot, a single class, or a process that has drifted.

    Learn then Test (Angelopoulos et al. 2021): thresholds are tested downwards from fixed starts, each with its share
    of delta, until the evidence fails, so that trying many thresholds costs nothing more. None if no threshold can be
    guaranteed: with n lots and no error at all, alpha must be above about log(2 / delta) / n.
    """
    _check_rates(alpha=alpha, delta=delta)
    needed, passed = len(STARTS) / delta, []
    for start in 1 - alpha * np.array(STARTS):
        for threshold in (start, *(1 - DOUBT[1 - start < DOUBT])[::-1]):
            if evidence(confidence, right, unit, alpha, threshold) < needed:
                break
            passed.append(float(threshold))
    return min(passed, default=None)


def conformal_quantile(scores: np.ndarray, unit: np.ndarray, alpha: float) -> float:
    """A limit that the score of a wafer drawn from a new lot exceeds with probability at most ``alpha``.

    Guaranteed marginally, over validation lots and the new lot together, if they are exchangeable: every lot has the
    same weight, whatever its size (hierarchical conformal prediction, Lee, Barber and Willett 2023; lots of one wafer
    make it split conformal prediction). Infinite where there are too few lots: 1 / (lots + 1) > alpha.
    """
    _check_rates(alpha=alpha)
    _, index, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    covered = np.cumsum(1 / ((len(sizes) + 1) * sizes[index[order]]))
    place = np.searchsorted(covered, 1 - alpha - 1e-12)
    return float(scores[order][place]) if place < len(scores) else np.inf


def marginal_threshold(confidence: np.ndarray, right: np.ndarray, unit: np.ndarray, alpha: float = 0.02) -> float:
    """A threshold above which (>) a wafer of a new lot is decided *and* wrong with probability at most ``alpha``.

    Conformal risk control (Angelopoulos et al. 2022) of the loss "decided and wrong", which, unlike the error rate
    among decided wafers, falls with the threshold. Marginal as in conformal_quantile, and a share of all wafers, not of
    the decided ones, so it is the weaker promise of the two; infinite where there are too few lots.
    """
    return conformal_quantile(np.where(right, -1.0, confidence), unit, alpha)


def conformal_sets(
    probabilities: np.ndarray, labels: np.ndarray, unit: np.ndarray, new: np.ndarray, alpha: float = 0.05
) -> np.ndarray:
    """Sets of classes (M, C), bool, for new probabilities (M, C) that hold the true one with probability 1 - alpha.

    LAC sets (Sadinle, Lei and Wasserman 2019): all classes whose probability is high enough, judged on the validation
    wafers; the guarantee is marginal, as in conformal_quantile. A set may be empty: nothing fits well enough.
    """
    limit = conformal_quantile(1 - probabilities[np.arange(len(labels)), labels], unit, alpha)
    return 1 - new <= limit


def unknown_scores(logits: np.ndarray, halt: np.ndarray) -> dict[str, np.ndarray]:
    """Scores (N,) that should be high for patterns the classifier was not trained on, from logits (N, C), halt (N,)."""
    share = softmax(logits, axis=1)
    return {
        "1 - max probability": 1 - share.max(axis=1),
        "entropy": -xlogy(share, share).sum(axis=1),
        "energy": -logsumexp(logits, axis=1),
        "1 - halting probability": 1 - expit(halt),
    }


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Probability that an unknown pattern has a higher score than a known one, ties counted half."""
    if not len(known) or not len(unknown):
        raise ValueError(f"need known and unknown patterns, got {len(known)} and {len(unknown)}")
    return float(roc_auc_score(np.r_[np.zeros(len(known)), np.ones(len(unknown))], np.r_[known, unknown]))


def unknown_auroc(known: Mapping[str, np.ndarray], unknown: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Area under the curve of each of the scores of unknown_scores."""
    return {name: auroc(known[name], unknown[name]) for name in known}


def _check_rates(**rates: float) -> None:
    for name, value in rates.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")
