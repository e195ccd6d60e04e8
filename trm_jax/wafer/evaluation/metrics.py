"""Scores of predicted class probabilities, with intervals that respect lots.

Wafers of a lot are alike, so a bootstrap that draws single wafers gives intervals that are too narrow: here whole lots
are drawn. All scores follow from counts per lot, which makes a thousand resamples one matrix product.
"""

from typing import NamedTuple

import numpy as np

BINS = 15
"""Bins of confidence in the calibration error, of equal width (Guo et al. 2017)."""


LEAST = 1e-7
"""Lowest probability in the cross-entropy, about what float32 can tell from 0: one sure mistake is not infinite."""


BY_CLASS = ("f1", "recall", "precision")
"""Scores that each class has."""


class Interval(NamedTuple):
    """A score and its 95 % interval."""

    value: float
    low: float
    high: float


class Scores(NamedTuple):
    """Scores of one confusion matrix, or of many along the leading axes."""

    accuracy: np.ndarray
    macro_f1: np.ndarray
    balanced_accuracy: np.ndarray
    f1: np.ndarray
    """(..., C), F1 of each class; 0 for a class that is neither there nor predicted."""
    recall: np.ndarray
    """(..., C), share of the wafers of each class that are named so; 0 for a class that is not there."""
    precision: np.ndarray
    """(..., C), share of the wafers named so that are of the class; 0 for a class that is never named."""


class GroupCounts(NamedTuple):
    """What a group (lot or block of lots) adds to each score; of S seeds, each has an axis S after the first."""

    confusion: np.ndarray
    """(G, C, C), true class by predicted class."""
    calibration: np.ndarray
    """(G, BINS, 2), sum over the wafers of a bin of confidence and of being right."""
    loss: np.ndarray
    """(G,), sum over the wafers of the cross-entropy, at most that of a probability of LEAST."""


def count(truth: np.ndarray, probabilities: np.ndarray, group: np.ndarray) -> GroupCounts:
    """Counts per group of true classes (N,), probabilities (N, C) or (S, N, C) and groups (N,).

    Raises ValueError if the probabilities are not numbers that add up to 1.
    """
    if probabilities.ndim == 3:
        seeds = [count(truth, one, group) for one in probabilities]
        return GroupCounts(*(np.stack(parts, axis=1) for parts in zip(*seeds, strict=True)))
    total = probabilities.sum(axis=1)
    if not np.allclose(total, 1, atol=1e-3):
        raise ValueError(f"probabilities of wafer {np.abs(total - 1).argmax()} do not add up to 1")
    classes, (groups, index) = probabilities.shape[1], np.unique(group, return_inverse=True)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    confusion = np.zeros((len(groups), classes, classes))
    np.add.at(confusion, (index, truth, predicted), 1)
    calibration = np.zeros((len(groups), BINS, 2))
    in_bin = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    np.add.at(calibration, (index, in_bin), np.stack([confidence, predicted == truth], axis=1))
    given = probabilities[np.arange(len(truth)), truth]
    loss = np.bincount(index, -np.log(np.clip(given, LEAST, 1)), len(groups))
    return GroupCounts(confusion, calibration, loss)


def seed_scores(truth: np.ndarray, predicted: np.ndarray, classes: int) -> Scores:
    """Scores of the predictions (S, N) of every seed for true classes (N,)."""
    confusion = np.zeros((len(predicted), classes, classes))
    np.add.at(confusion, (np.arange(len(predicted))[:, None], truth, predicted), 1)
    return scores(confusion)


def scores(confusion: np.ndarray) -> Scores:
    """Scores of confusion matrices (..., C, C). Macro-F1 and balanced accuracy leave out classes nobody has."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    there, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    f1 = 2 * right / np.maximum(there + predicted, 1)
    known = np.maximum((there > 0).sum(axis=-1), 1)
    recall = right / np.maximum(there, 1)
    return Scores(
        accuracy=right.sum(axis=-1) / np.maximum(there.sum(axis=-1), 1),
        macro_f1=np.where(there > 0, f1, 0).sum(axis=-1) / known,
        balanced_accuracy=recall.sum(axis=-1) / known,
        f1=f1,
        recall=recall,
        precision=right / np.maximum(predicted, 1),
    )


def calibration_error(calibration: np.ndarray, wafers: np.ndarray) -> np.ndarray:
    """Expected calibration error of sums (..., BINS, 2) over so many wafers: mean gap of confidence and accuracy."""
    return np.abs(calibration[..., 0] - calibration[..., 1]).sum(axis=-1) / wafers


def resample(groups: int, samples: int = 1000, seed: int = 0) -> np.ndarray:
    """How often each group is drawn in each bootstrap sample, (samples, G); shared draws make differences paired."""
    return np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=samples)


def with_intervals(counts: GroupCounts, draws: np.ndarray) -> dict[str, Interval]:
    """Every score with its percentile interval; ``f1_0``, ``recall_0``, ``precision_0``, ``f1_1``, ... for the classes,
    ``ece`` for calibration.

    Of several seeds each score is the mean of the seeds' scores, in every resample.
    """
    every = np.concatenate([np.ones_like(draws[:1]), draws])
    confusion = np.tensordot(every, counts.confusion, axes=1)
    calibration = np.tensordot(every, counts.calibration, axes=1)
    measured = scores(confusion)._asdict()
    for name in BY_CLASS:
        by_class = measured.pop(name)
        measured |= {f"{name}_{index}": by_class[..., index] for index in range(by_class.shape[-1])}
    wafers = confusion.sum(axis=(-1, -2))
    measured["ece"] = calibration_error(calibration, wafers)
    measured["loss"] = np.tensordot(every, counts.loss, axes=1) / wafers
    return {name: _interval(_mean_of_seeds(values)) for name, values in measured.items()}


def _mean_of_seeds(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).mean(axis=1)


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))


def difference(one: GroupCounts, other: GroupCounts, draws: np.ndarray) -> dict[str, Interval]:
    """Accuracy and macro-F1 of one classifier minus those of another on the same wafers, by the same draws.

    Either may have several seeds, whose mean is compared.
    """
    every = np.concatenate([np.ones_like(draws[:1]), draws])
    a, b = (scores(np.tensordot(every, counts.confusion, axes=1)) for counts in (one, other))
    return {
        name: _interval(_mean_of_seeds(getattr(a, name)) - _mean_of_seeds(getattr(b, name)))
        for name in ("accuracy", "macro_f1")
    }


def at_mix(confusion: np.ndarray, shares: np.ndarray) -> Scores:
    """Scores of a confusion matrix (C, C) as they would be with other class shares (C,) and the same errors."""
    there = confusion.sum(axis=1, keepdims=True)
    return scores(confusion / np.maximum(there, 1) * shares[:, None] / shares.sum() * confusion.sum())
