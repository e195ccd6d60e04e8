"""Fit how unlike a map is to those that were trained on, from a trained classifier's features."""

from typing import NamedTuple

import numpy as np
from sklearn.neural_network import MLPClassifier

from trm_jax.support.schema import require
from trm_jax.wafer.checkpoint import Classifier
from trm_jax.wafer.classify import features
from trm_jax.wafer.generated.drawings import OUTLIERS, drawn
from trm_jax.wafer.generated.mixes import mixed_wafers
from trm_jax.wafer.maps.unlike import HALF, AnyUnlike, Unlike, UnlikeTogether
from trm_jax.wafer.maps.wafers import NONE, Wafers

DISTANCE = 0.25
"""Share of the doubted wafers that the distance may doubt; the net, which sees more of what matters, has the rest."""
SHRINKAGE = 1e-4
"""Share of the mean variance that is added to every feature's own."""


class Sizes(NamedTuple):
    """How many wafers the score is fitted with."""

    train: int = 16_000
    """Seven in eight of them with a pattern, for the others are hardly like a mix."""
    mixes: int = 12_000
    drawings: int = 150
    """Of each kind of `OUTLIERS`."""
    hidden: int = 64


SIZES = Sizes()


def features_of(classifier: Classifier, wafers: Wafers) -> np.ndarray:
    """Features (N, F) of wafers."""
    return features(classifier, classifier.task.grids_of(classifier.config, wafers))


def fit_unlike(
    classifier: Classifier, wafers: Wafers, train: np.ndarray, sizes: Sizes = SIZES, seed: int = 0
) -> AnyUnlike:
    """The score without its limits, fitted on training wafers (indices), and on mixes and drawings of them.

    Of several members each has its own.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(train)
    plain = wafers.label[order] == NONE
    patterned = order[~plain][: sizes.train - sizes.train // 8]
    chosen = np.concatenate([patterned, order[plain][: sizes.train - len(patterned)]])
    known = features_of(classifier, wafers.take(chosen))
    strange = [features_of(classifier, mixed_wafers(wafers, train, sizes.mixes, seed))]
    strange += [
        features_of(classifier, drawn(wafers.take(train), draw, sizes.drawings, seed + number))
        for number, draw in enumerate(OUTLIERS.values())
    ]
    members, label = classifier.config.model.members, wafers.label[chosen]
    parts = zip(*(np.split(part, members, axis=1) for part in (known, np.concatenate(strange))), strict=True)
    nets = [fit_net(distances(one, label), one, other, sizes.hidden, seed) for one, other in parts]
    return nets[0] if members == 1 else UnlikeTogether(tuple(map(_rounded, nets)))


def distances(known: np.ndarray, label: np.ndarray) -> Unlike:
    """The part of the score that knows distances, from features (N, F) and labels of training wafers; without a net."""
    mean = known.mean(axis=0)
    classes = np.unique(label)
    centres = np.stack([known[label == index].mean(axis=0) for index in classes])
    rest = known - centres[np.searchsorted(classes, label)]
    covariance = np.cov(rest.T) + 0.0
    covariance[np.diag_indices_from(covariance)] += SHRINKAGE * np.trace(covariance) / len(covariance)
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    size = len(mean)
    empty = np.zeros((size + 2, 1)), np.zeros(2), np.ones((2, 2))
    return _float32(Unlike(mean, whitening, (centres - mean) @ whitening, *empty))


def fit_net(unlike: Unlike, known: np.ndarray, strange: np.ndarray, hidden: int, seed: int = 0) -> Unlike:
    """With a net that tells ``strange`` features from ``known`` ones."""
    both = np.concatenate([known, strange])
    white = (both - unlike.mean) @ unlike.whitening
    inputs = np.concatenate([white, unlike.measures(both)[:, :1]], axis=1)
    centre, scale = inputs.mean(axis=0), inputs.std(axis=0) + 1e-6
    net = MLPClassifier(hidden, alpha=1.0, early_stopping=True, n_iter_no_change=5, max_iter=300, random_state=seed)
    net.fit((inputs - centre) / scale, np.arange(len(both)) >= len(known))
    first = net.coefs_[0] / scale[:, None]
    bias = net.intercepts_[0] - centre @ first
    output = np.append(net.coefs_[1][:, 0], net.intercepts_[1])
    return _float32(unlike._replace(hidden=np.concatenate([first, bias[None]]), output=output))


def with_limits(unlike: AnyUnlike, held_out: np.ndarray, share: float) -> AnyUnlike:
    """With limits that about this share of held-out features exceeds, a quarter of it by the distance.

    Raises ValueError for a share outside 0 to 0.5, and without features.
    """
    require(
        0 < share < 0.5 and len(held_out) > 0, f"cannot make a share of {share:.3g} of {len(held_out)} wafers unlike"
    )
    if isinstance(unlike, UnlikeTogether):
        scaled = UnlikeTogether(tuple(_with_scales(net, net.measures(part)) for net, part in unlike.parts(held_out)))
        shift = _limits(scaled.excess(held_out), share)
        return UnlikeTogether(tuple(_moved(net, shift) for net in scaled.nets))
    measures = unlike.measures(held_out)
    return _float32(unlike._replace(limits=np.stack([_limits(measures, share), measures.std(axis=0) + 1e-6], axis=1)))


def _limits(measures: np.ndarray, share: float) -> list[float]:
    """Of the distance and of the net."""
    shares = (share * DISTANCE, share * (1 - DISTANCE))
    return [float(np.quantile(measures[:, number], 1 - part)) for number, part in enumerate(shares)]


def _with_scales(unlike: Unlike, measures: np.ndarray) -> Unlike:
    """With the mean of the measures for a limit, in units of how much they vary: so those of all nets count alike."""
    return _float32(unlike._replace(limits=np.stack([measures.mean(axis=0), measures.std(axis=0) + 1e-6], axis=1)))


def _moved(unlike: Unlike, shift: list[float]) -> Unlike:
    """With limits that are higher by so many scales."""
    limits = unlike.limits + np.stack([shift * unlike.limits[:, 1], np.zeros(2)], axis=1)
    return _float32(unlike._replace(limits=limits))


def _rounded(unlike: Unlike) -> Unlike:
    """As it comes back from a file of several nets."""
    return unlike._replace(**{name: getattr(unlike, name).astype(np.float16).astype(np.float32) for name in HALF})


def _float32(unlike: Unlike) -> Unlike:
    return Unlike(*(np.asarray(array, np.float32) for array in unlike))
