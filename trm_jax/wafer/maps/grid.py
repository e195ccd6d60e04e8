"""Wafer maps of any size on one square grid, fast: all maps of a size are resized by two matrix products.

A grid has two channels, uint8 with 255 for 1: the failing part and the die part of each cell. Area overlap keeps thin
scratches that picking the nearest die loses.
"""

from typing import Literal

import numpy as np

from trm_jax.wafer.maps.wafers import FAIL, NO_DIE, Wafers

Representation = Literal["nearest", "area", "max"]
FULL = 255  # uint8 value of a share of 1


def to_grid(wafers: Wafers, size: int = 26, representation: Representation = "area") -> np.ndarray:
    """Resize every map: (N, size, size, 2) uint8.

    ``nearest`` takes the die at the centre of a cell; ``area`` the failing and the die share of its area; ``max`` says
    of every cell whether any failing die, and any die, touches it. Raises ValueError for a size under 4.
    """
    if size < 4:
        raise ValueError(f"a grid needs at least 4 cells a side, got {size}")
    grids = np.empty((len(wafers), size, size, 2), np.uint8)
    for index, maps in wafers.iter_same_shape(max_batch=1024):
        grids[index, :, :, 0] = _resize(maps == FAIL, size, representation)
        grids[index, :, :, 1] = _resize(maps != NO_DIE, size, representation)
    return grids


def _resize(mask: np.ndarray, size: int, representation: Representation) -> np.ndarray:
    """Masks (k, height, width) as shares of cells (k, size, size), uint8."""
    height, width = mask.shape[1:]
    if representation == "nearest":
        rows, columns = ((np.arange(size) * 2 + 1) * side // (2 * size) for side in (height, width))
        return mask[:, rows[:, None], columns] * np.uint8(FULL)
    rows, columns = overlap(height, size), overlap(width, size)
    share = rows @ mask.astype(np.float32) @ columns.T
    if representation == "max":
        return (share > 1e-6) * np.uint8(FULL)
    return np.rint(share * FULL).astype(np.uint8)


def overlap(side: int, size: int) -> np.ndarray:
    """Share of each of ``size`` equal cells that each of ``side`` dies in a row covers, (size, side) float32."""
    # In units of 1 / (side * size) all borders are integers, so cells that only touch have exactly no overlap.
    cells, dies = np.arange(size)[:, None] * side, np.arange(side)[None, :] * size
    common = np.minimum(cells + side, dies + size) - np.maximum(cells, dies)
    return (np.maximum(common, 0) / side).astype(np.float32)
