"""Wafer maps that show nothing of the nine patterns: drawn on the discs and backgrounds of real or generated wafers.

`OUTLIERS` may be trained with, `UNKNOWNS` are for tests alone; neither has a drawing of the other.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from trm_jax.wafer.generated.mixes import from_maps, overlay
from trm_jax.wafer.maps.wafers import FAIL, NONE, PASS, Wafers

Draw = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
"""Probability that a die fails, from its place: x to the right and y upwards, the disc having radius 1."""
_FONT = (
    "111101101101111", "010110010010111", "111001111100111", "111001111001111", "101101111001001",
    "111100111001111", "111100111101111", "111001001001001", "111101111101111", "111101111001111",
)  # fmt: skip


def _turned(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    angle = rng.uniform(0, 2 * np.pi)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _gradient(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return rng.uniform(0.4, 0.9) * np.clip((_turned(rng, x, y)[0] + rng.uniform(0.2, 1)) / 2, 0, 1)


def _half(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return rng.uniform(0.4, 1) * (_turned(rng, x, y)[0] > rng.uniform(-0.3, 0.3))


def _wedge(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    along, across = _turned(rng, x, y)
    return rng.uniform(0.4, 1) * ((along > 0) & (np.abs(across) < rng.uniform(0.3, 1.2) * along))


def _cross(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    along, across = _turned(rng, x, y)
    return rng.uniform(0.6, 1) * (np.minimum(np.abs(along), np.abs(across)) < rng.uniform(0.05, 0.2))


def _clouds(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    waves = rng.normal(size=(12, 2)) * rng.uniform(2, 6)
    field = sum(np.cos(a * x + b * y + rng.uniform(0, 2 * np.pi)) for a, b in waves)
    return rng.uniform(0.5, 1) * (field > rng.uniform(-1, 2))


def _spiral(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    turns = rng.uniform(1, 3) * 2 * np.pi * np.hypot(x, y)
    return rng.uniform(0.6, 1) * (np.cos(np.arctan2(y, x) - turns + rng.uniform(0, 2 * np.pi)) > rng.uniform(0.3, 0.8))


def _reticle(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    rows, columns = (np.arange(side)[:, None] % rng.integers(2, 6) for side in x.shape)
    return rng.uniform(0.6, 1) * ((rows == 0) & (columns.T == 0))


def _rings(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return rng.uniform(0.5, 1) * (np.cos(rng.uniform(12, 25) * np.hypot(x, y) + rng.uniform(0, 6)) > 0.2)


def _digit(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    bits = np.array([*_FONT[rng.integers(10)]]).astype(int).reshape(5, 3)
    size = rng.uniform(0.8, 1.3)
    row, column = (-y / size + 0.5) * 5, (x / size / 0.7 + 0.5) * 3
    inside = (row >= 0) & (row < 5) & (column >= 0) & (column < 3)
    return rng.uniform(0.8, 1) * inside * bits[np.clip(row, 0, 4).astype(int), np.clip(column, 0, 2).astype(int)]


def _chequers(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    size = rng.integers(1, max(2, min(x.shape) // 5))
    rows, columns = (np.arange(side) // size for side in x.shape)
    return rng.uniform(0.7, 1) * (np.add.outer(rows, columns) % 2)


def _stripes(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return rng.uniform(0.7, 1) * (np.sin(rng.uniform(6, 25) * _turned(rng, x, y)[0]) > rng.uniform(-0.3, 0.5))


def _glyph(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    angle_x, angle_y = _turned(rng, x, y)
    size, bits = rng.uniform(0.6, 1.3), rng.random((6, 4)) < 0.5
    row, column = (angle_y / size + 0.5) * 6, (angle_x / size / 0.8 + 0.5) * 4
    inside = (row >= 0) & (row < 6) & (column >= 0) & (column < 4)
    return rng.uniform(0.8, 1) * inside * bits[np.clip(row, 0, 5).astype(int), np.clip(column, 0, 3).astype(int)]


def _bricks(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    size = rng.integers(1, max(2, min(x.shape) // 4))
    rows, columns = (np.arange(side) // size for side in x.shape)
    return rng.uniform(0.6, 1) * ((rows[:, None] % 2 + columns) % 3 == 0)


def _waves(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    along, across = _turned(rng, x, y)
    bent = along + rng.uniform(0.05, 0.3) * np.sin(rng.uniform(3, 9) * across)
    return rng.uniform(0.6, 1) * (np.sin(rng.uniform(6, 20) * bent) > rng.uniform(-0.3, 0.5))


OUTLIERS: Mapping[str, Draw] = MappingProxyType(
    {"gradient": _gradient, "half failing": _half, "wedge": _wedge, "cross": _cross, "clouds": _clouds, "rings": _rings,
     "spiral": _spiral, "every n-th die": _reticle, "glyphs": _glyph, "bricks": _bricks, "waves": _waves}
)  # fmt: skip
UNKNOWNS: Mapping[str, Draw] = MappingProxyType({"digits": _digit, "chequerboards": _chequers, "stripes": _stripes})


def drawn(wafers: Wafers, draw: Draw, count: int, seed: int = 0) -> Wafers:
    """``count`` maps: a drawing over a wafer without a pattern, as far as ``wafers`` have any; without a label."""
    rng = np.random.default_rng(seed)
    plain = np.flatnonzero(wafers.label == NONE)
    chosen = rng.choice(plain if len(plain) else np.arange(len(wafers)), count)
    return from_maps(wafers, chosen, [_draw(rng, draw, wafers.map(index)) for index in chosen.tolist()], "drawings")


def _draw(rng: np.random.Generator, draw: Draw, background: np.ndarray) -> np.ndarray:
    height, width = background.shape
    y, x = ((2 * np.arange(side) + 1 - side) / side for side in (height, width))
    grid_x, grid_y = np.broadcast_arrays(x, -y[:, None])
    failing = rng.random(background.shape) < draw(rng, grid_x, grid_y)
    return overlay(background, np.where(failing, FAIL, PASS).astype(np.uint8))
