"""How unlike a map is to those that were trained on, from what the net sees before it begins to reason; numpy alone.

Two measures, since neither sees what the other does: the Mahalanobis distance to the nearest class (Lee et al. 2018),
and a small net that tells the training wafers from mixes and drawings (outlier exposure, Hendrycks et al. 2019). Of
nets that answer together each has its own, and what they exceed their limits by is averaged.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trm_jax.support.archives import ArrayArchive
from trm_jax.support.files import DAMAGE, one_line, replacing

UNLIKE = "unlike.npz"
"""File beside the weights of a checkpoint, and beside the models of a package."""


HALF = ("whitening", "centres", "hidden")
"""Arrays that are stored in half precision where there are several nets: what makes a file large."""


class Unlike(NamedTuple):
    """What the score is computed with; all float32."""

    mean: np.ndarray
    """(F,), of the features of training wafers."""
    whitening: np.ndarray
    """(F, F): whitened features have unit covariance within a class."""
    centres: np.ndarray
    """(classes, F), whitened."""
    hidden: np.ndarray
    """(F + 2, H): weights of whitened features, of the logarithm of the distance, and of one."""
    output: np.ndarray
    """(H + 1,): weights of hidden units and of one."""
    limits: np.ndarray
    """(2, 2): for distance and net the limit above which a map is unlike, and the scale of what exceeds it."""

    def white(self, features: np.ndarray) -> np.ndarray:
        """Features (N, F) with unit covariance within a class."""
        return (features - self.mean) @ self.whitening

    def measures(self, features: np.ndarray) -> np.ndarray:
        """Logarithm of the squared distance to the nearest class, and the net's logit, (N, 2)."""
        white = self.white(features)
        squares = (white**2).sum(axis=1)[:, None] - 2 * white @ self.centres.T + (self.centres**2).sum(axis=1)
        distance = np.log(np.maximum(squares.min(axis=1), 1e-6))
        inputs = np.concatenate([white, distance[:, None], np.ones_like(distance)[:, None]], axis=1)
        hidden = np.maximum(inputs @ self.hidden, 0)
        return np.stack([distance, hidden @ self.output[:-1] + self.output[-1]], axis=1)

    def excess(self, features: np.ndarray) -> np.ndarray:
        """By how many scales the measures exceed their limits, (N, 2)."""
        return (self.measures(features) - self.limits[:, 0]) / self.limits[:, 1]

    def score(self, features: np.ndarray) -> np.ndarray:
        """How unlike maps are, (N,) float32, from features (N, F): above 0 for those that a person should look at."""
        return _score(self.excess(features))


class UnlikeTogether(NamedTuple):
    """The same for M nets that answer together, whose features (N, M F) stand side by side."""

    nets: tuple[Unlike, ...]

    def parts(self, features: np.ndarray) -> list[tuple[Unlike, np.ndarray]]:
        """Each net with its own features, (N, F)."""
        return list(zip(self.nets, np.split(features, len(self.nets), axis=1), strict=True))

    def white(self, features: np.ndarray) -> np.ndarray:
        """Features with unit covariance within a class, for each net."""
        return np.concatenate([net.white(part) for net, part in self.parts(features)], axis=1)

    def excess(self, features: np.ndarray) -> np.ndarray:
        """Mean over the nets of how much the measures exceed their limits, (N, 2)."""
        return np.mean([net.excess(part) for net, part in self.parts(features)], axis=0)

    def score(self, features: np.ndarray) -> np.ndarray:
        """How unlike maps are, (N,) float32: above 0 for those that a person should look at."""
        return _score(self.excess(features))


AnyUnlike = Unlike | UnlikeTogether


def _score(excess: np.ndarray) -> np.ndarray:
    """One measure above its limit is enough."""
    return excess.max(axis=1).astype(np.float32)


def doubted(doubts: Mapping[int, str], unlike: np.ndarray) -> dict[int, str]:
    """The doubts, and those about maps that are unlike what was trained on."""
    text = "is unlike the wafers that were trained on"
    return {int(index): text for index in np.flatnonzero(unlike > 0)} | dict(doubts)


def known(unlike: np.ndarray) -> np.ndarray | None:
    """The scores, None where there are none."""
    return unlike if np.isfinite(unlike).all() else None


def save_unlike(path: Path, unlike: AnyUnlike) -> None:
    """Write the file, whole or not at all; of several nets in half precision, which they were rounded to."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        if isinstance(unlike, Unlike):
            np.savez(file, **unlike._asdict())
            return
        arrays: dict[str, Any] = {
            name: np.stack([getattr(net, name) for net in unlike.nets]) for name in Unlike._fields
        }
        np.savez_compressed(file, **(arrays | {name: arrays[name].astype(np.float16) for name in HALF}))


def load_unlike(path: Path, features: int | None = None) -> AnyUnlike | None:
    """Read the file, None where there is none. Raises ValueError if it is damaged or not for so many ``features``."""
    if not path.exists():
        return None
    try:
        with ArrayArchive(path) as archive:
            arrays = {name: archive[name] for name in Unlike._fields}
        together = arrays["mean"].ndim == 2
        if together:
            arrays |= {name: arrays[name].astype(np.float32) for name in HALF if arrays[name].dtype == np.float16}
        rows = zip(*arrays.values(), strict=True) if together else [tuple(arrays.values())]
        nets = tuple(Unlike(*row) for row in rows)
        for net in nets:
            _check(net)
        size = sum(len(net.mean) for net in nets)
        if features is not None and size != features:
            raise ValueError(f"it takes {size} features, but the model gives {features}")
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged or of another model: {one_line(error)}") from error
    return UnlikeTogether(nets) if together else nets[0]


def _check(unlike: Unlike) -> None:
    size, classes, units = len(unlike.mean), len(unlike.centres), len(unlike.output) - 1
    shapes = ((size,), (size, size), (classes, size), (size + 2, units), (units + 1,), (2, 2))
    if tuple(array.shape for array in unlike) != shapes or any(array.dtype != np.float32 for array in unlike):
        raise ValueError("its arrays do not fit together")
    if not all(np.isfinite(array).all() for array in unlike) or (unlike.limits[:, 1] <= 0).any():
        raise ValueError("it has values that are NaN, infinite or no scale")
