"""Spatial features against closed forms, symmetries, and a slow reference that looks at one die after the other."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trm_jax.wafer.maps.features import ANGULAR, NAMES, RADIAL, spatial_features
from trm_jax.wafer.maps.wafers import UNKNOWN, Wafers


def wafers_of(maps: list[np.ndarray]) -> Wafers:
    """A container with these maps and nothing known about them."""
    sizes, count = [cells.size for cells in maps], len(maps)
    return Wafers(
        flat=np.concatenate([cells.ravel() for cells in maps]).astype(np.uint8),
        start=np.cumsum([0, *sizes[:-1]], dtype=np.int64),
        height=np.array([cells.shape[0] for cells in maps], np.int16),
        width=np.array([cells.shape[1] for cells in maps], np.int16),
        label=np.full(count, UNKNOWN, np.int8),
        row=np.arange(count),
        group=np.arange(count, dtype=np.int32),
        fold=np.full(count, UNKNOWN, np.int8),
        official=np.full(count, UNKNOWN, np.int8),
        clean=np.ones(count, bool),
        source="test maps",
    )


def features(*maps: np.ndarray) -> np.ndarray:
    return spatial_features(wafers_of(list(maps)))[0]


def named(cells: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, features(cells)[0].tolist(), strict=True))


def places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the dies on the unit disc: x to the right, y upwards."""
    y, x = np.mgrid[:height, :width]
    return (2 * x + 1) / width - 1, 1 - (2 * y + 1) / height


def disc(height: int, width: int) -> np.ndarray:
    """A round wafer of passing dies."""
    return (np.hypot(*places(height, width)) <= 1).astype(np.uint8)


def reference(cells: np.ndarray) -> list[float]:
    """All features of one map, in exact arithmetic up to the last step, one die after the other."""
    dies = [(r, c, cells[r, c] == 2) for r in range(cells.shape[0]) for c in range(cells.shape[1]) if cells[r, c]]
    if not any(fails for _, _, fails in dies):
        return [0.0] * len(NAMES)
    top, left = min(r for r, _, _ in dies), min(c for _, c, _ in dies)
    height, width = max(r for r, _, _ in dies) - top + 1, max(c for _, c, _ in dies) - left + 1
    count, rings, sectors = {True: 0, False: 0}, np.zeros((13, 2)), np.zeros((8, 2))
    blocks: dict[tuple[int, int], int] = {}
    xs, ys = Fraction(0), Fraction(0)
    for r, c, fails in dies:
        x, y = Fraction(2 * (c - left) + 1, width) - 1, 1 - Fraction(2 * (r - top) + 1, height)
        ring = next(k for k in range(13) if k == 12 or x * x + y * y < Fraction(k + 1, 13) ** 2)
        rings[ring] += [fails, 1]
        if x or y:
            degrees = math.degrees(math.atan2(y, x)) % 360
            sectors[min(range(9), key=lambda k: abs(45 * k - degrees)) % 8] += [fails, 1]
        count[bool(fails)] += 1
        if fails:
            xs, ys = xs + x, ys + y
            place = (math.floor(2 * (1 - y)), math.floor(2 * (1 + x)))
            blocks[place] = blocks.get(place, 0) + 1
    failing = count[True]
    shares = [n / failing for n in blocks.values()]
    profiles = [fails / all_ if all_ else 0.0 for fails, all_ in [*rings, *sectors]]
    entropy = -sum(p * math.log(p) for p in shares) / math.log(16)
    return [failing / len(dies), *profiles, math.hypot(xs / failing, ys / failing), entropy]


MAPS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 2))


@settings(max_examples=150, deadline=None)
@given(maps=st.lists(MAPS, min_size=1, max_size=5))
def test_equals_the_slow_reference(maps: list[np.ndarray]) -> None:
    found = features(*maps)
    assert found.dtype == np.float32 and found.shape == (len(maps), 24)
    np.testing.assert_allclose(found, [reference(cells) for cells in maps], atol=2e-6)


@pytest.mark.parametrize("shape", [(26, 26), (39, 37), (13, 26), (52, 59)])
def test_equals_the_reference_on_round_wafers(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    wafers = [disc(*shape) * rng.choice([1, 2], size=shape, p=[1 - p, p]) for p in (0.05, 0.5, 0.95)]
    np.testing.assert_allclose(features(*wafers), [reference(cells) for cells in wafers], atol=2e-6)


@settings(max_examples=80, deadline=None)
@given(cells=MAPS)
def test_a_quarter_turn_permutes_sectors_and_nothing_else(cells: np.ndarray) -> None:
    side = 13
    square = np.pad(cells[:side, :side], 1)[: side + 2, : side + 2]
    before, after = features(square, np.rot90(square))
    np.testing.assert_allclose(after[RADIAL], before[RADIAL], atol=1e-6)
    np.testing.assert_allclose(after[ANGULAR], np.roll(before[ANGULAR], 2), atol=1e-6)
    np.testing.assert_allclose(after[[0, -2]], before[[0, -2]], atol=1e-6)


@settings(max_examples=80, deadline=None)
@given(cells=MAPS, above=st.integers(0, 4), right=st.integers(0, 4))
def test_cells_without_dies_around_a_wafer_change_nothing(cells: np.ndarray, above: int, right: int) -> None:
    np.testing.assert_array_equal(features(np.pad(cells, ((above, 0), (0, right)))), features(cells))


@pytest.mark.parametrize("ring", [0, 5, 12])
def test_a_failing_ring_fills_its_bin_alone(ring: int) -> None:
    wafer = disc(78, 104)
    radius = np.hypot(*places(78, 104))
    wafer[(wafer == 1) & (radius >= ring / 13) & (radius < (ring + 1) / 13)] = 2
    found = features(wafer)[0]
    assert found[RADIAL].tolist() == [float(number == ring) for number in range(13)]
    assert found[0] == pytest.approx((2 * ring + 1) / 169, rel=0.05)  # share of the disc's area
    assert found[ANGULAR] == pytest.approx([found[0]] * 8, rel=0.15) and found[-2] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("angle", "place"), [(0, (6, 12)), (90, (0, 6)), (180, (6, 0)), (315, (12, 12))])
def test_one_failing_die(angle: int, place: tuple[int, int]) -> None:
    wafer = np.ones((13, 13), np.uint8)
    wafer[place] = 2
    found = named(wafer)
    assert [name for name in NAMES if "angular" in name and found[name]] == [f"angular_{angle}"]
    assert found["defect_ratio"] == pytest.approx(1 / 169) and found["spatial_entropy"] == 0
    assert found["centroid_distance"] == pytest.approx(12 / 13 * (2**0.5 if angle == 315 else 1))


def test_the_die_in_the_centre_has_no_direction() -> None:
    wafer = np.ones((5, 5), np.uint8)
    wafer[2, 2] = 2
    found = features(wafer)[0]
    assert not found[ANGULAR].any() and found[-2] == 0 and found[RADIAL].tolist() == [1] + [0] * 12


def test_full_empty_and_tiny_wafers() -> None:
    full, passing, tiny, nothing = features(2 * disc(40, 48), disc(40, 48), np.array([[2]]), np.zeros((6, 7)))
    assert full[0] == 1 and (full[RADIAL] == 1).all() and (full[ANGULAR] == 1).all()
    assert full[-2] == pytest.approx(0, abs=1e-6) and 0.95 < full[-1] < 1
    assert not passing.any() and not nothing.any()
    assert tiny[0] == tiny[1] == 1 and not tiny[2:].any()
    assert features(np.full((8, 12), 2))[0, -1] == pytest.approx(1)
