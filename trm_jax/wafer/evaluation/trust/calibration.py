"""What a classifier's confidence is worth: temperature, errors by coverage, and scores of what is unknown to it.

All functions take numpy arrays of one classifier: logits (N, C), labels (N,), confidence (N,).
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logsumexp, softmax, xlogy
from sklearn.metrics import roc_auc_score

TEMPERATURES = (0.01, 100.0)


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

    The loss is convex in 1 / T, so there is one minimum. It is sought between 0.01 and 100, and lies near 0.01 where
    every answer is right and near 100 where the logits say nothing. Raises ValueError without wafers.
    """
    if len(labels) == 0 or len(labels) != len(logits):
        raise ValueError(f"need a label for every row of logits, got {len(labels)} for {len(logits)}")
    rows, logits = np.arange(len(labels)), logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean()

    minimum = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(minimum.x))


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> RiskCoverage:
    """Error rate among the decided wafers as more of them are decided; equally confident wafers come together."""
    order = np.argsort(-confidence, kind="stable")
    ordered, errors = confidence[order], np.cumsum(~correct[order].astype(bool))
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    decided = last + 1
    risk = errors[last] / decided
    area = float((risk * np.diff(decided, prepend=0)).sum() / len(confidence))
    return RiskCoverage(ordered[last], decided / len(confidence), risk, area)


def unknown_scores(logits: np.ndarray, halt: np.ndarray) -> dict[str, np.ndarray]:
    """Scores (N,) that should be high for patterns the classifier was not trained on, from logits (N, C), halt (N,)."""
    probabilities = softmax(logits, axis=1)
    return {
        "1 - max probability": 1 - probabilities.max(axis=1),
        "entropy": -xlogy(probabilities, probabilities).sum(axis=1),
        "energy": -logsumexp(logits, axis=1),
        "1 - halting probability": 1 - expit(halt),
    }


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Probability that an unknown pattern has a higher score than a known one, ties counted half."""
    if not len(known) or not len(unknown):
        raise ValueError(f"need known and unknown patterns, got {len(known)} and {len(unknown)}")
    return float(roc_auc_score(np.r_[np.zeros(len(known)), np.ones(len(unknown))], np.r_[known, unknown]))
