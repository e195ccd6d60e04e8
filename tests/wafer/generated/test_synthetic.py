"""Generated wafers look like what their label says, come in whole lots, and are the same for the same seed."""

import dataclasses
import time

import numpy as np
import pytest
from scipy import ndimage

from trm_jax.wafer.generated.synthetic import SIZES, synthetic_wafers
from trm_jax.wafer.maps.features import ANGULAR, RADIAL, spatial_features
from trm_jax.wafer.maps.wafers import CLASSES, FAIL, NO_DIE, UNKNOWN, Wafers


@pytest.fixture(scope="module")
def wafers() -> Wafers:
    return synthetic_wafers(2000)


def test_same_seed_same_wafers(wafers: Wafers) -> None:
    again, other = synthetic_wafers(2000), synthetic_wafers(2000, seed=1)
    for field in dataclasses.fields(wafers):
        assert np.array_equal(getattr(wafers, field.name), getattr(again, field.name)), field.name
    assert wafers.source == "synthetic wafers, seed 0" and other.source == "synthetic wafers, seed 1"
    size = min(len(wafers.flat), len(other.flat))
    assert (wafers.flat[:size] != other.flat[:size]).mean() > 0.05


def test_two_thousand_take_two_seconds() -> None:
    start = time.process_time()
    synthetic_wafers(2000)
    assert time.process_time() - start < 2


def test_lots_are_alike_and_in_one_fold(wafers: Wafers) -> None:
    lots, sizes = np.unique(wafers.group, return_counts=True)
    assert len(lots) >= 80 and sizes.max() <= 25 and (np.diff(wafers.group) >= 0).all()
    ratio, _ = spatial_features(wafers)
    none = wafers.label == CLASSES.index("none")
    deviations = []
    for lot in lots:
        members = wafers.group == lot
        assert len({(h, w) for h, w in zip(wafers.height[members], wafers.width[members], strict=True)}) == 1
        assert len(set(wafers.fold[members].tolist())) == 1
        deviations.append(ratio[members & none, 0].std())
    assert np.mean(deviations) < 0.3 * ratio[none, 0].std()  # sisters share the background defect rate
    assert {(h, w) for h, w in zip(wafers.height, wafers.width, strict=True)} == set(SIZES)


@pytest.mark.parametrize("count", [9, 40, 301, 2000])
def test_every_class_is_there_and_every_fold_has_the_same_mix(count: int) -> None:
    wafers = synthetic_wafers(count, seed=3)
    assert len(wafers) == count and (wafers.official == UNKNOWN).all() and wafers.clean.all()
    counts = np.array([np.bincount(wafers.label[wafers.fold == fold], minlength=9) for fold in range(4)])
    assert (counts.sum(axis=0) > 0).all() and (np.ptp(counts, axis=0) <= 1).all()


def test_too_few_wafers_are_refused() -> None:
    with pytest.raises(ValueError, match="9 classes need at least as many wafers, got 8"):
        synthetic_wafers(8)


def test_wafers_are_round(wafers: Wafers) -> None:
    for _, maps in wafers.iter_same_shape():
        assert set(np.unique(maps)) == {0, 1, 2}
        dies = maps != NO_DIE
        assert (dies == dies[0]).all() and (dies[0] == dies[0][::-1, ::-1]).all()
        assert dies[0].mean() == pytest.approx(np.pi / 4, abs=0.02)
        assert dies[0].any(axis=0).all() and dies[0].any(axis=1).all()


def test_patterns_are_where_their_names_say(wafers: Wafers) -> None:
    values, _ = spatial_features(wafers)
    mean = {name: values[wafers.label == index].mean(axis=0) for index, name in enumerate(CLASSES)}
    radial = {name: row[RADIAL] for name, row in mean.items()}
    assert radial["Center"][:2].min() > 0.6 > 0.2 > radial["Center"][8:].max()
    assert 4 <= radial["Donut"].argmax() <= 8 and radial["Donut"].max() > 3 * max(radial["Donut"][[0, -1]])
    assert radial["Edge-Ring"][-1] > 0.5 and radial["Edge-Ring"][:9].max() < 0.2
    assert radial["Near-full"].min() > 0.7 and 0.3 < radial["Random"].min() < radial["Random"].max() < 0.65
    assert np.ptp(radial["none"]) < 0.03
    ring, arc = (values[wafers.label == CLASSES.index(name)] for name in ("Edge-Ring", "Edge-Loc"))
    assert np.ptp(arc[:, ANGULAR], axis=1).mean() > 2 * np.ptp(ring[:, ANGULAR], axis=1).mean()
    column = -2
    assert mean["Edge-Loc"][column] > 0.2 and mean["Loc"][column] > 0.2 and mean["Center"][column] < 0.1


def test_scratches_are_long_and_thin_and_clusters_are_not() -> None:
    wafers = synthetic_wafers(1200, seed=5)
    length = {"Scratch": [], "Loc": []}
    for index in np.flatnonzero(np.isin(wafers.label, [CLASSES.index(name) for name in length])):
        marked, _ = ndimage.label(wafers.map(int(index)) == FAIL, structure=np.ones((3, 3)))
        row, column = np.nonzero(marked == np.bincount(marked.ravel())[1:].argmax() + 1)
        length[CLASSES[wafers.label[index]]].append(np.hypot(np.ptp(row) + 1, np.ptp(column) + 1) / np.sqrt(len(row)))
    # A square of n dies has a diagonal of sqrt(2 n), a line of n dies one of n or more.
    assert np.median(length["Scratch"]) > 2.5 > 2.2 > np.median(length["Loc"]), length
