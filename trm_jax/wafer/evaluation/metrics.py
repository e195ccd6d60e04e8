"""Scores of predicted class probabilities, with intervals that respect lots.

Wafers of a lot are alike, so a bootstrap that draws single wafers gives intervals that are too narrow: here whole lots
are drawn. All scores follow from counts per lot, which makes a thousand resamples one matrix product.
"""

from typing import NamedTuple

import numpy as np

from trm_jax.reporting.interval import Interval, quantile_interval
from trm_jax.wafer.maps.wafers import NONE

BINS = 15
"""Bins of confidence in the calibration error, of equal width (Guo et al. 2017)."""
MIN_PROBABILITY = 1e-7
"""Lowest probability in the cross-entropy, about what float32 can tell from 0: one sure mistake is not infinite."""
WM811K_LABELLED, WM811K_NONE = 172_950, 147_431
"""Labelled wafers of the public WM-811K, and those of class none among them."""
BY_CLASS = ("f1", "recall", "precision")
"""Scores that each class has."""


class Scores(NamedTuple):
    """Scores of one confusion matrix, or of many along the leading axes."""

    accuracy: np.ndarray
    macro_f1: np.ndarray
    balanced_accuracy: np.ndarray
    f1: np.ndarray
    """(..., C), F1 of each class; 0 for a class that is neither present nor predicted."""
    recall: np.ndarray
    """(..., C), share of the wafers of each class that are named so; 0 for an absent class."""
    precision: np.ndarray
    """(..., C), share of the wafers named so that are of the class; 0 for a class that is never named."""


class GroupCounts(NamedTuple):
    """What a group (lot or block of lots) adds to each score; of S seeds, each has an axis S after the first."""

    confusion: np.ndarray
    """(G, C, C), true class by predicted class."""
    calibration: np.ndarray
    """(G, BINS, 2), sums over the wafers of a bin: of confidence, and of correct answers."""
    loss: np.ndarray
    """(G,), sum over the wafers of the cross-entropy, at most that of a probability of MIN_PROBABILITY."""


def count(truth: np.ndarray, probabilities: np.ndarray, group: np.ndarray) -> GroupCounts:
    """Counts per group of true classes (N,), probabilities (N, C) or (S, N, C) and groups (N,).

    Raises ValueError if the probabilities of a wafer do not add up to 1.
    """
    if probabilities.ndim == 3:
        seeds = [count(truth, of_seed, group) for of_seed in probabilities]
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
    loss = np.bincount(index, -np.log(np.clip(given, MIN_PROBABILITY, 1)), len(groups))
    return GroupCounts(confusion, calibration, loss)


def seed_scores(truth: np.ndarray, predicted: np.ndarray, classes: int) -> Scores:
    """Scores of the predictions (S, N) of every seed for true classes (N,)."""
    confusion = np.zeros((len(predicted), classes, classes))
    np.add.at(confusion, (np.arange(len(predicted))[:, None], truth, predicted), 1)
    return scores(confusion)


def scores(confusion: np.ndarray) -> Scores:
    """Scores of confusion matrices (..., C, C). Macro-F1 and balanced accuracy leave out classes nobody has."""
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    labelled, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    f1 = 2 * correct / np.maximum(labelled + predicted, 1)
    present = np.maximum((labelled > 0).sum(axis=-1), 1)
    recall = correct / np.maximum(labelled, 1)
    return Scores(
        accuracy=correct.sum(axis=-1) / np.maximum(labelled.sum(axis=-1), 1),
        macro_f1=np.where(labelled > 0, f1, 0).sum(axis=-1) / present,
        balanced_accuracy=recall.sum(axis=-1) / present,
        f1=f1,
        recall=recall,
        precision=correct / np.maximum(predicted, 1),
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
    confusion, calibration, loss = (_sums(part, draws) for part in counts)
    values = scores(confusion)._asdict()
    for name in BY_CLASS:
        by_class = values.pop(name)
        values |= {f"{name}_{index}": by_class[..., index] for index in range(by_class.shape[-1])}
    wafers = confusion.sum(axis=(-1, -2))
    values |= {"ece": calibration_error(calibration, wafers), "loss": loss / wafers}
    return {name: quantile_interval(_mean_of_seeds(of_name)) for name, of_name in values.items()}


def difference(ours: GroupCounts, theirs: GroupCounts, draws: np.ndarray) -> dict[str, Interval]:
    """Accuracy and macro-F1 of one classifier minus those of another on the same wafers, by the same draws.

    Either may have several seeds, whose mean is compared.
    """
    a, b = (scores(_sums(counts.confusion, draws)) for counts in (ours, theirs))
    return {
        name: quantile_interval(_mean_of_seeds(getattr(a, name)) - _mean_of_seeds(getattr(b, name)))
        for name in ("accuracy", "macro_f1")
    }


def share(hits: np.ndarray, of: np.ndarray, group: np.ndarray, draws: np.ndarray) -> Interval:
    """Share of wafers with a property among others, both (S, N): mean over seeds, interval by group; 0 of none is 0."""
    groups, index = np.unique(group, return_inverse=True)
    both = np.zeros((len(groups), 2, len(hits)))
    np.add.at(both, index, np.stack([hits & of, of]).astype(float).transpose(2, 0, 1))
    total = _sums(both, draws)
    return quantile_interval(_mean_of_seeds(total[:, 0] / np.maximum(total[:, 1], 1)))


def _sums(counts: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Sums over the groups (G, ...) as they are, and after them those of every resample."""
    return np.tensordot(np.concatenate([np.ones_like(draws[:1]), draws]), counts, axes=1)


def _mean_of_seeds(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).mean(axis=1)


def at_wm811k_prior(confusion: np.ndarray) -> Scores:
    """Scores that a confusion matrix (C, C) means at the share of none in all of WM-811K, with the same errors."""
    shares = confusion.sum(axis=1)
    others = (WM811K_LABELLED - WM811K_NONE) / max(shares.sum() - shares[NONE], 1)
    return at_prior(confusion, np.where(np.arange(len(shares)) == NONE, WM811K_NONE, shares * others))


def at_wm811k_prior_in_words(confusion: np.ndarray) -> str:
    """The end of a sentence about a classifier with a confusion matrix (C, C)."""
    mixed = at_wm811k_prior(confusion)
    return (
        f"with the same errors at the share of none in all of WM-811K ({WM811K_NONE / WM811K_LABELLED:.1%}): accuracy "
        f"{float(mixed.accuracy):.3f}, macro-F1 {float(mixed.macro_f1):.3f}."
    )


def at_prior(confusion: np.ndarray, shares: np.ndarray) -> Scores:
    """Scores of a confusion matrix (C, C) as they would be with other class shares (C,) and the same errors."""
    labelled = confusion.sum(axis=1, keepdims=True)
    return scores(confusion / np.maximum(labelled, 1) * shares[:, None] / shares.sum() * confusion.sum())
