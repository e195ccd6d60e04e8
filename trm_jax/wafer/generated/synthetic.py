"""Generated wafer maps with the nine failure patterns of WM-811K, for tests and for trials without data.

They are simpler than real wafers: a score on them shows that the code works, not how good a method is.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from trm_jax.wafer.maps.wafers import CLASSES, FAIL, LOT, NO_DIE, PASS, UNKNOWN, Wafers, packed

SIZES = ((25, 27), (26, 26), (27, 25), (30, 34), (33, 37), (39, 37), (52, 59))
"""Rows and columns of a map, frequent ones of WM-811K; a lot has one size."""
SHARES = {
    "Center": 0.07,
    "Donut": 0.015,
    "Edge-Loc": 0.085,
    "Edge-Ring": 0.15,
    "Loc": 0.06,
    "Near-full": 0.01,
    "Random": 0.015,
    "Scratch": 0.025,
    "none": 0.57,
}
"""Class mix: about that of the labelled maps of WM-811K with most of `none` left out, the rarest raised to 1 %."""
FOLDS = 4


class _Disc(NamedTuple):
    """The cells of a round wafer in units of its radius: x to the right, y upwards; arrays (height, width)."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    die: np.ndarray
    pitch: float
    """Larger of the two distances between neighbouring dies."""


class _Lot(NamedTuple):
    """What the wafers of a lot share; local defects of a lot lie near one place."""

    disc: _Disc
    background: float
    """Probability that a die fails for no reason."""
    angle: float
    """Direction of local defects, radians."""


def synthetic_wafers(count: int, seed: int = 0) -> Wafers:
    """Generated wafers, the same for the same ``count`` and ``seed``, in lots of at most 25 and folds of whole lots.

    Every class has a wafer, and one in each of the folds 0 to 3 if it has four; all are clean. Raises ValueError for a
    ``count`` below 9, the number of classes.
    """
    if count < len(CLASSES):
        raise ValueError(f"{len(CLASSES)} classes need at least as many wafers, got {count}")
    rng = np.random.default_rng(seed)
    discs = [_disc(height, width) for height, width in SIZES]
    maps, labels, groups, folds = [], [], [], []
    for group, (fold, members) in enumerate(_lots(rng, _labels(count))):
        disc = discs[rng.integers(len(discs))]
        lot = _Lot(disc, rng.uniform(0.01, 0.16), rng.uniform(-np.pi, np.pi))
        maps += [_wafer(rng, lot, CLASSES[label]) for label in members]
        labels += members.tolist()
        groups += [group] * len(members)
        folds += [fold] * len(members)
    return Wafers(
        **packed(maps),
        label=np.array(labels, np.int8),
        row=np.arange(count),
        group=np.array(groups, np.int32),
        fold=np.array(folds, np.int8),
        official=np.full(count, UNKNOWN, np.int8),
        clean=np.ones(count, bool),
        source=f"synthetic wafers, seed {seed}",
    )


def _labels(count: int) -> np.ndarray:
    """Class of each wafer, sorted: one of each class, the others by their shares."""
    ends = np.rint(np.cumsum([SHARES[name] for name in CLASSES]) * (count - len(CLASSES))).astype(np.int64)
    return np.repeat(np.arange(len(CLASSES)), np.diff(ends, prepend=0) + 1)


def _lots(rng: np.random.Generator, labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Fold and labels of each lot, in random order; dealing out the sorted labels gives all folds the same mix."""
    lots = []
    for fold in range(FOLDS):
        mixed = rng.permutation(labels[fold::FOLDS])
        lots += [(fold, part) for part in np.array_split(mixed, -(-len(mixed) // LOT))]
    return [lots[number] for number in rng.permutation(len(lots))]


def _disc(height: int, width: int) -> _Disc:
    y = np.broadcast_to((height - 1 - 2 * np.arange(height)[:, None]) / height, (height, width))
    x = np.broadcast_to((2 * np.arange(width) - width + 1) / width, (height, width))
    radius = np.hypot(x, y)
    return _Disc(x, y, radius, np.arctan2(y, x), radius <= 1, 2 / min(height, width))


def _wafer(rng: np.random.Generator, lot: _Lot, name: str) -> np.ndarray:
    """One map (height, width) uint8: each die fails by its pattern or by the background of the lot."""
    pattern = PATTERNS[name](rng, lot)
    fails = rng.random(lot.disc.die.shape) < 1 - (1 - lot.background) * (1 - pattern)
    return np.where(lot.disc.die, np.where(fails, FAIL, PASS), NO_DIE).astype(np.uint8)


def _centre(rng: np.random.Generator, lot: _Lot) -> np.ndarray:
    x, y = rng.normal(0, 0.06, 2)
    return _blob(lot.disc, x, y, rng.uniform(0.18, 0.3, 2), lot.angle) * rng.uniform(0.8, 1)


def _donut(rng: np.random.Generator, lot: _Lot) -> np.ndarray:
    x, y = rng.normal(0, 0.06, 2)
    distance = np.hypot(lot.disc.x - x, lot.disc.y - y) - rng.uniform(0.38, 0.55)
    return np.exp(-0.5 * (distance / rng.uniform(0.09, 0.14)) ** 2) * rng.uniform(0.7, 0.95)


def _edge_ring(rng: np.random.Generator, lot: _Lot) -> np.ndarray:
    strength = 0.8 + 0.2 * np.cos(lot.disc.angle - lot.angle)  # rings are rarely even all around
    return _edge(lot.disc, rng.uniform(0.06, 0.14)) * strength * rng.uniform(0.7, 0.95)


def _edge_arc(rng: np.random.Generator, lot: _Lot) -> np.ndarray:
    away = lot.disc.angle - lot.angle - rng.normal(0, 0.3)
    away = (away + np.pi) % (2 * np.pi) - np.pi  # back to -pi..pi
    half = np.deg2rad(rng.uniform(18, 50))
    return _edge(lot.disc, rng.uniform(0.12, 0.28)) * _below(np.abs(away), half, 0.1) * rng.uniform(0.7, 0.95)


def _cluster(rng: np.random.Generator, lot: _Lot) -> np.ndarray:
    distance, angle = rng.uniform(0.35, 0.65), lot.angle + rng.normal(0, 0.3)
    x, y = distance * np.cos(angle), distance * np.sin(angle)
    return _blob(lot.disc, x, y, rng.uniform(0.09, 0.2, 2), rng.uniform(0, np.pi)) * rng.uniform(0.75, 1)


def _scratch(rng: np.random.Generator, lot: _Lot) -> np.ndarray:
    """A thin line of slowly changing direction, with gaps: the dies that its points lie on."""
    disc, length = lot.disc, rng.uniform(0.6, 1.4)
    along = np.arange(0, length, disc.pitch / 4)
    direction = rng.uniform(-np.pi, np.pi) + rng.normal(0, 0.8) * (along - length / 2)
    line = np.cumsum(np.stack([np.cos(direction), np.sin(direction)]), axis=1) * disc.pitch / 4
    distance, angle = 0.55 * np.sqrt(rng.random()), rng.uniform(-np.pi, np.pi)
    x, y = line - line.mean(axis=1, keepdims=True) + distance * np.array([[np.cos(angle)], [np.sin(angle)]])
    height, width = disc.die.shape
    row, column = np.floor((1 - y) / 2 * height).astype(int), np.floor((1 + x) / 2 * width).astype(int)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    pattern = np.zeros((height, width))
    pattern[row[inside], column[inside]] = rng.uniform(0.8, 1)
    return pattern


PATTERNS: dict[str, Callable[[np.random.Generator, _Lot], np.ndarray]] = {
    "Center": _centre,
    "Donut": _donut,
    "Edge-Loc": _edge_arc,
    "Edge-Ring": _edge_ring,
    "Loc": _cluster,
    "Near-full": lambda rng, lot: np.full(lot.disc.die.shape, rng.uniform(0.75, 0.98)),
    "Random": lambda rng, lot: np.full(lot.disc.die.shape, rng.uniform(0.3, 0.55)),
    "Scratch": _scratch,
    "none": lambda rng, lot: np.zeros(lot.disc.die.shape),
}
"""Probability (height, width) that a die fails because of the pattern."""


def _blob(disc: _Disc, x: float, y: float, spread: np.ndarray, angle: float) -> np.ndarray:
    """An elliptic patch with a soft border, 1 in its middle."""
    turned = ((disc.x - x) + 1j * (disc.y - y)) * np.exp(-1j * angle)
    square = (turned.real / spread[0]) ** 2 + (turned.imag / spread[1]) ** 2
    return _below(square, 2.5, 0.7)


def _edge(disc: _Disc, depth: float) -> np.ndarray:
    """The outermost band, at least about a die deep."""
    return _below(1 - disc.radius, max(depth, disc.pitch), 0.02)


def _below(values: np.ndarray, limit: float, softness: float) -> np.ndarray:
    """1 where values are well below the limit, 0 well above it."""
    return 1 / (1 + np.exp(np.clip((values - limit) / softness, -30, 30)))
