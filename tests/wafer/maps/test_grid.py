"""Resizing against closed forms and an integer-exact reference."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trm_jax.wafer.maps.grid import FULL, overlap, to_grid
from trm_jax.wafer.maps.wafers import UNKNOWN, Wafers


def wafers_of(*maps):
    maps = [np.asarray(one, np.uint8) for one in maps]
    sizes, count = [one.size for one in maps], len(maps)
    unknown = np.full(count, UNKNOWN, np.int8)
    return Wafers(
        flat=np.concatenate([one.ravel() for one in maps]),
        start=np.cumsum([0, *sizes[:-1]]).astype(np.int64),
        height=np.array([one.shape[0] for one in maps], np.int16),
        width=np.array([one.shape[1] for one in maps], np.int16),
        label=unknown,
        row=np.arange(count),
        group=np.arange(count, dtype=np.int32),
        fold=unknown,
        official=unknown,
        clean=np.ones(count, bool),
        source="test",
    )


def random_map(seed, height, width):
    return np.random.default_rng(seed).integers(0, 3, (height, width))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 40), st.integers(5, 40), st.integers(4, 30))
def test_area_is_the_exact_overlap(seed, height, width, size):
    one = random_map(seed, height, width)
    grid = to_grid(wafers_of(one), size, "area")[0]
    row, column = np.random.default_rng(seed).integers(0, size, 2)

    def common(cell, die, side):  # of the unit interval cut into cells and into dies
        low = max(Fraction(int(cell), size), Fraction(die, side))
        return max(min(Fraction(int(cell) + 1, size), Fraction(die + 1, side)) - low, 0) * size

    for channel, codes in ((0, (2,)), (1, (1, 2))):
        share = sum(
            common(row, i, height) * common(column, j, width)
            for i in range(height)
            for j in range(width)
            if one[i, j] in codes
        )
        assert abs(int(grid[row, column, channel]) - share * FULL) <= Fraction(51, 100)


@pytest.mark.parametrize("representation", ["nearest", "area", "max"])
def test_the_same_size_changes_nothing(representation):
    one = random_map(0, 12, 12)
    grid = to_grid(wafers_of(one), 12, representation)[0]
    np.testing.assert_array_equal(grid, np.stack([one == 2, one > 0], axis=-1) * FULL)


def test_a_scratch_one_die_wide_survives_area_and_max_but_not_nearest():
    one = np.ones((64, 64), int)
    one[:, 2] = 2
    nearest, area, largest = (to_grid(wafers_of(one), 16, kind)[0, :, :, 0] for kind in ("nearest", "area", "max"))
    assert area[:, 0].tolist() == [round(FULL / 4)] * 16 and largest[:, 0].tolist() == [FULL] * 16
    assert nearest[:, 0].tolist() == [FULL] * 16  # column 2 is the middle of cell 0
    one = np.roll(one, 1, axis=1)
    nearest, area, largest = (to_grid(wafers_of(one), 16, kind)[0, :, :, 0] for kind in ("nearest", "area", "max"))
    assert nearest.max() == 0 and area[:, 0].tolist() == [round(FULL / 4)] * 16 and (largest[:, 0] == FULL).all()


def test_failing_never_exceeds_dies_and_max_bounds_area():
    maps = [random_map(seed, 5 + seed, 40 - seed) for seed in range(20)]
    area, largest = (to_grid(wafers_of(*maps), 26, kind) for kind in ("area", "max"))
    assert (area[..., 0] <= area[..., 1]).all() and ((area > 0) <= (largest > 0)).all()
    # The total share is kept: what is resized is area.
    for one, grid in zip(maps, area, strict=True):
        assert grid[..., 0].mean() / FULL == pytest.approx((one == 2).mean(), abs=1 / FULL)


def test_order_does_not_depend_on_size():
    maps = [random_map(seed, 6 + seed % 3, 9) for seed in range(9)]
    together = to_grid(wafers_of(*maps), 8)
    for one, grid in zip(maps, together, strict=True):
        np.testing.assert_array_equal(to_grid(wafers_of(one), 8)[0], grid)


def test_overlap_shares_add_up_and_a_tiny_grid_is_refused():
    np.testing.assert_allclose(overlap(37, 26).sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(overlap(37, 26).sum(axis=0), 26 / 37, rtol=1e-6)
    with pytest.raises(ValueError, match="at least 4 cells a side, got 3"):
        to_grid(wafers_of(random_map(0, 9, 9)), 3)
