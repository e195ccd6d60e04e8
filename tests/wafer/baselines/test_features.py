"""Shapes found with scikit-image have the values that drawn maps ask for, whatever the size and direction."""

import dataclasses

import chex
import numpy as np
import pytest

from trm_jax.wafer.baselines.features import NAMES, POINTS, RADON, SIDE, features, projections
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.features import spatial_features
from trm_jax.wafer.maps.wafers import FAIL, PASS


def drawn(*masks):
    """Wafers with a die in every cell, which fails where the mask says so."""
    maps = [np.where(mask, FAIL, PASS).astype(np.uint8) for mask in masks]
    base = synthetic_wafers(9).take(np.arange(len(maps)))
    height, width = (np.array([cells.shape[axis] for cells in maps], np.int16) for axis in (0, 1))
    start = np.cumsum([0, *(cells.size for cells in maps[:-1])])
    return dataclasses.replace(
        base, flat=np.concatenate([cells.ravel() for cells in maps]), start=start, height=height, width=width
    )


def columns(values):
    return [dict(zip(NAMES, row.tolist(), strict=True)) for row in values]


def test_shapes_have_closed_forms():
    blank = np.zeros((40, 40), bool)
    line, block, noise = blank.copy(), blank.copy(), blank.copy()
    line[10:12, 5:35] = True
    block[4:14, 4:14] = True
    noise[::3, ::3] = True  # no failing die beside another
    block[30:33, 30:33] = True  # a smaller region
    nothing, lined, blocked, noisy = columns(features(drawn(blank, line, block, noise)))
    assert not any(nothing.values())
    assert blocked["region_area"] == pytest.approx(100 / 1600) and blocked["region_solidity"] == 1
    assert blocked["region_eccentricity"] == 0 and blocked["region_perimeter"] == pytest.approx(36 / 40)
    assert blocked["region_distance"] == pytest.approx(np.hypot(11, 11) / 40)
    assert lined["region_eccentricity"] > 0.99 and lined["region_major_axis"] > 10 * lined["region_minor_axis"]
    assert lined["line_dies"] == pytest.approx(30 / 40) and lined["line_share"] == pytest.approx(0.5)
    assert lined["segment_longest"] == pytest.approx(29 / 40)
    assert noisy["region_area"] == noisy["line_dies"] == 0 and noisy["radon_mean_10"] > 0
    other_size = columns(features(drawn(np.repeat(np.repeat(block, 2, 0), 2, 1))))[0]
    for name in ("region_area", "region_solidity", "region_eccentricity", "region_distance"):
        assert other_size[name] == pytest.approx(blocked[name], abs=0.01), name


def test_projections_hold_every_failing_die_inside_the_wafer_in_every_direction():
    row, column = np.indices((SIDE, SIDE)) - SIDE // 2
    disc = np.hypot(row, column) < SIDE / 2
    spot = np.zeros((SIDE, SIDE), bool)
    spot[6:10, 13:17] = True
    values = projections(drawn(disc, spot, spot[::-1, ::-1]))
    chex.assert_shape(values, (3, 2 * POINTS))
    chex.assert_tree_all_finite(values)
    mean, deviation = np.split(values, 2, axis=1)
    step = (SIDE - 1) / (POINTS - 1)  # cells between two points
    assert mean[0].sum() * step * SIDE == pytest.approx(disc.sum(), rel=0.05)
    assert mean[1].sum() * step * SIDE == pytest.approx(16, rel=0.1)
    assert deviation[0].max() < 0.15 * mean[0].max()  # a disc has about the same projection in all directions
    assert deviation[1].max() > 0.5 * mean[1].max()
    np.testing.assert_allclose(mean[1], mean[2][::-1], atol=1e-3)


def test_features_are_finite_follow_the_24_and_do_not_depend_on_their_neighbours():
    wafers = synthetic_wafers(60)
    values = features(wafers)
    chex.assert_shape(values, (60, len(NAMES)))
    chex.assert_tree_all_finite(values)
    spatial, names = spatial_features(wafers)
    assert NAMES[:24] == names and NAMES[-2 * POINTS :] == RADON
    np.testing.assert_array_equal(values[:, :24], spatial)
    np.testing.assert_allclose(features(wafers.take(np.array([41, 7]))), values[[41, 7]], rtol=1e-5, atol=1e-6)
