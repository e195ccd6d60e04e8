"""Features of wafer maps that trees learn from: the 24 spatial ones of a device, and shapes found with scikit-image.

The shapes are those of Wu, Jang and Chen, "Wafer Map Failure Pattern Recognition and Similarity Ranking for Large-Scale
Data Sets", IEEE Trans. Semicond. Manuf. 28(1), 2015, section III: geometry of the most salient region and projections
(Radon transform). Straight lines (Hough transform) are added for scratches.
"""

from functools import cache

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import correlate
from skimage.measure import label, regionprops
from skimage.transform import hough_line, probabilistic_hough_line, radon
from tqdm import tqdm

from trm_jax.wafer.maps import features as spatial
from trm_jax.wafer.maps.grid import FULL, to_grid
from trm_jax.wafer.maps.wafers import FAIL, Wafers

REGION = (
    "region_area", "region_perimeter", "region_major_axis", "region_minor_axis", "region_eccentricity",
    "region_solidity", "region_distance",
)  # fmt: skip
LINE = ("line_dies", "line_share", "segment_longest", "segment_total")
POINTS = 20
"""Points that the mean and the standard deviation of the projections are interpolated to."""
RADON = tuple(f"radon_{kind}_{point}" for kind in ("mean", "std") for point in range(POINTS))
NAMES = (*spatial.NAMES, *REGION, *LINE, *RADON)
SIDE = 31
"""Cells a side of the grid that is projected, the same for maps of every size; odd, so that it has a middle cell."""
ANGLES = np.arange(0, 180, 5.0)
"""Degrees between neighbouring projections and between the directions of lines."""
NEIGHBOURS = 2
"""Failing dies among the eight around a failing die without which it counts as noise."""


def features(wafers: Wafers) -> np.ndarray:
    """Features (N, len(NAMES)) float32 of all maps; shows a progress bar where stderr is a terminal.

    Areas are in units of a map's cells and lengths of their square root, but ``region_distance``, from the middle of
    the map, is in sides of the map. ``region_*``: the largest connected region of failing dies that are not noise.
    ``line_*``: the straight line through most of them. ``segment_*``: lines without gaps of more than a die.
    ``radon_*``: mean and standard deviation over all directions of all failing dies projected along each. 0 where
    nothing fails.
    """
    shapes = np.zeros((len(wafers), len(REGION) + len(LINE)), np.float32)
    for index in tqdm(range(len(wafers)), desc="shapes", unit="map", disable=None):
        failing = wafers.map(index) == FAIL
        clear = failing & (correlate(failing.astype(np.uint8), np.ones((3, 3)), mode="constant") > NEIGHBOURS)
        if clear.any():
            shapes[index] = [*_region(clear), *_lines(clear)]
    return np.concatenate([spatial.spatial_features(wafers)[0], shapes, projections(wafers)], axis=1)


def _region(clear: np.ndarray) -> list[float]:
    """Geometry of the largest region of a mask (height, width) in which something is True."""
    regions = label(clear, connectivity=2)
    largest = np.bincount(regions.ravel())[1:].argmax() + 1
    region = regionprops((regions == largest).astype(np.uint8))[0]
    side = np.sqrt(clear.size)
    middle = (np.array(clear.shape) - 1) / 2
    lengths = region.perimeter, region.axis_major_length, region.axis_minor_length
    return [
        region.area / clear.size,
        *(length / side for length in lengths),
        region.eccentricity,
        region.solidity,
        float(np.hypot(*((region.centroid - middle) / clear.shape))),
    ]


def _lines(clear: np.ndarray) -> list[float]:
    """Straight lines in a mask (height, width)."""
    directions, side = np.deg2rad(ANGLES - 90), np.sqrt(clear.size)
    most = int(hough_line(clear, directions)[0].max())
    segments = probabilistic_hough_line(clear, threshold=4, line_length=4, line_gap=1, theta=directions, rng=0)
    lengths = [float(np.hypot(x1 - x0, y1 - y0)) for (x0, y0), (x1, y1) in segments]
    return [most / side, most / clear.sum(), max(lengths, default=0) / side, sum(lengths) / side]


def projections(wafers: Wafers) -> np.ndarray:
    """Mean and standard deviation over all directions of the projections of failing dies, (N, 2 * POINTS) float32."""
    rows = [np.zeros((0, 2 * POINTS))]
    for begin in range(0, len(wafers), 4096):
        part = wafers.take(np.arange(begin, min(begin + 4096, len(wafers))))
        failing = to_grid(part, SIDE)[..., 0].reshape(len(part), -1).astype(np.float32) / FULL
        sinograms = (failing @ _radon_matrix()).reshape(len(part), -1, len(ANGLES))
        moments = np.concatenate([sinograms.mean(axis=2), sinograms.std(axis=2)]) / SIDE
        offsets = np.arange(moments.shape[1])
        points = CubicSpline(offsets, moments, axis=1)(np.linspace(1, offsets[-2], POINTS))
        rows.append(np.concatenate(np.split(points, 2), axis=1))
    return np.concatenate(rows).astype(np.float32)


@cache
def _radon_matrix() -> np.ndarray:
    """The Radon transform as a matrix (cells, offsets * angles): it is linear, so one product serves thousands of maps.

    Cells outside the wafer's circle are left out, and a border of a cell keeps those on its edge inside the transform.
    """
    matrix = np.zeros((SIDE * SIDE, (SIDE + 2) * len(ANGLES)), np.float32)
    row, column = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    for cell in np.flatnonzero(np.hypot(row, column) <= SIDE / 2):
        image = np.zeros((SIDE + 2, SIDE + 2))
        image[1 + cell // SIDE, 1 + cell % SIDE] = 1
        matrix[cell] = radon(image, ANGLES, circle=True).ravel()
    return matrix
