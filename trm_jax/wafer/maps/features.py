"""Spatial features of wafer maps: what an engineer would count, and what rules, trees and figures are made from.

Dies need not be square, so rows and columns are measured by half the wafer's own height and width: in these units
every wafer is the unit disc. Its box is the bounding box of its dies, not their centroid, because dies left untested
on one side would move a centroid.
"""

from typing import NamedTuple

import numpy as np

from trm_jax.wafer.maps.wafers import FAIL, NO_DIE, Wafers

RADIAL_BINS = 13
"""Rings of equal width from the centre to the edge of the wafer."""
SECTORS = 8
"""Sectors of 45 degrees, the first centred on the direction to the right, the others counter-clockwise from it."""
BLOCKS = 4
"""Blocks a side for the spatial entropy."""
RADIAL = slice(1, 1 + RADIAL_BINS)
"""Columns of the radial profile."""
ANGULAR = slice(RADIAL.stop, RADIAL.stop + SECTORS)
"""Columns of the angular profile."""
NAMES = (
    "defect_ratio",
    *(f"radial_{number}" for number in range(RADIAL_BINS)),
    *(f"angular_{360 * number // SECTORS}" for number in range(SECTORS)),
    "centroid_distance",
    "spatial_entropy",
)


class _Zones(NamedTuple):
    """Which zone every cell of a map belongs to, as columns of numbers to sum over dies; (cells, ...) float32."""

    radial: np.ndarray
    angular: np.ndarray
    block: np.ndarray
    place: np.ndarray
    """Twice the distance to the wafer's centre in dies, to the right and upwards: integers, so that sums are exact."""
    extent: np.ndarray
    """What ``place`` is at the edge of the wafer, (2,)."""


def spatial_features(wafers: Wafers) -> tuple[np.ndarray, tuple[str, ...]]:
    """Features (N, 24) float32 and their names, each computed for all maps of a size by matrix products.

    ``defect_ratio``: failing share of all dies. ``radial_*`` (13 rings) and ``angular_*`` (8 sectors): failing share
    of the dies there, 0 where there are none. ``centroid_distance``: from the wafer's centre to the centroid of the
    failing dies, in wafer radii. ``spatial_entropy``: Shannon entropy of the failing dies over 4x4 blocks of the
    wafer's bounding box, 0 for one block and 1 for all alike. Without failing dies everything is 0.
    """
    values = np.zeros((len(wafers), len(NAMES)), np.float32)
    for index, maps in wafers.iter_same_shape(max_batch=1024):
        boxes = _bounding_boxes(maps != NO_DIE)
        for box in np.unique(boxes, axis=0):
            same = np.flatnonzero((boxes == box).all(axis=1))
            values[index[same]] = _features(maps[same], _zones(maps.shape[1:], box.tolist()))
    return values, NAMES


def _bounding_boxes(dies: np.ndarray) -> np.ndarray:
    """First and last row, first and last column with a die, of masks (k, height, width): (k, 4)."""
    ends = []
    for axis in (2, 1):
        used = np.asarray(dies.any(axis=axis))
        ends += [used.argmax(axis=1), used.shape[1] - 1 - used[:, ::-1].argmax(axis=1)]
    return np.stack(ends, axis=1)


def _zones(shape: tuple[int, ...], box: list[int]) -> _Zones:
    """Zones of the cells of maps of this shape whose dies fill the box (first and last row, first and last column)."""
    top, bottom, first, last = box
    height, width = bottom - top + 1, last - first + 1
    # Twice the distance to the centre is an integer: dies on the border of two rings fall on one side however the
    # wafer is turned.
    up, along = (bottom + top) - 2 * np.arange(shape[0])[:, None], 2 * np.arange(shape[1]) - (first + last)
    area = (height * width) ** 2
    ring = np.sqrt((RADIAL_BINS**2 * ((up * width) ** 2 + (along * height) ** 2)) // area).astype(np.int64)
    y, x = np.broadcast_arrays(up / height, along / width)
    sector = np.rint(np.arctan2(y, x) / (2 * np.pi / SECTORS)).astype(np.int64) % SECTORS
    sector[(x == 0) & (y == 0)] = SECTORS  # the die in the very centre lies in no direction
    block = BLOCKS * _block(shape[0], top, height)[:, None] + _block(shape[1], first, width)
    return _Zones(
        _one_hot(np.minimum(ring, RADIAL_BINS - 1), RADIAL_BINS),
        _one_hot(sector, SECTORS),
        _one_hot(block, BLOCKS**2),
        np.stack([part.ravel() for part in np.broadcast_arrays(along, up)], axis=1).astype(np.float32),
        np.array([width, height], np.float32),
    )


def _block(cells: int, first: int, side: int) -> np.ndarray:
    """Which quarter of the box, from its ``first`` cell ``side`` cells long, holds the middle of each cell."""
    return BLOCKS * (2 * (np.arange(cells) - first) + 1) // (2 * side)


def _one_hot(number: np.ndarray, count: int) -> np.ndarray:
    return (number.reshape(-1, 1) == np.arange(count)).astype(np.float32)


def _features(maps: np.ndarray, zones: _Zones) -> np.ndarray:
    """Features (k, 24) of maps (k, height, width) that share their zones."""
    flat = maps.reshape(len(maps), -1)
    failing, dies = (flat == FAIL).astype(np.float32), (flat != NO_DIE).astype(np.float32)
    failures = failing.sum(axis=1, keepdims=True)
    centroid = _share(failing @ zones.place, failures) / zones.extent
    occupied = _share(failing @ zones.block, failures)
    entropy = -np.sum(occupied * np.log(np.where(occupied > 0, occupied, 1)), axis=1, keepdims=True)
    return np.concatenate(
        [
            _share(failures, dies.sum(axis=1, keepdims=True)),
            _share(failing @ zones.radial, dies @ zones.radial),
            _share(failing @ zones.angular, dies @ zones.angular),
            np.linalg.norm(centroid, axis=1, keepdims=True),
            entropy / np.log(BLOCKS**2),
        ],
        axis=1,
    )


def _share(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Part of the total, 0 where the total is 0."""
    return np.divide(part, total, out=np.zeros_like(part), where=total > 0)
