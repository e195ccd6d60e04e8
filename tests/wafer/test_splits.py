"""Splits keep lots whole, test every wafer once, keep the class mix, and say so where that cannot be."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from trm_jax.wafer.data import load
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps import source
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN, Wafers
from trm_jax.wafer.splits import Kind, Split, all_lots, folds


def changed(wafers: Wafers, **columns) -> Wafers:
    columns = {name: np.broadcast_to(value, len(wafers)).copy() for name, value in columns.items()}
    return dataclasses.replace(wafers, **columns)


@pytest.fixture(scope="module")
def wafers() -> Wafers:
    """Some wafers without a label, some that are copies; folds prescribed."""
    generated = synthetic_wafers(2000)
    label, clean = generated.label.copy(), generated.clean.copy()
    label[::17], clean[5::31] = UNKNOWN, False
    return changed(generated, label=label, clean=clean)


def parts(split: Split) -> list[np.ndarray]:
    return [split.train, split.validation, split.test]


def check(wafers: Wafers, splits: list[Split], lots: bool) -> None:
    """What every set of folds must fulfil."""
    usable = np.flatnonzero((wafers.label != UNKNOWN) & wafers.clean)
    assert np.array_equal(np.sort(np.concatenate([split.test for split in splits])), usable)
    overall = np.bincount(wafers.label[usable], minlength=9) / len(usable)
    for split in splits:
        assert np.array_equal(np.sort(np.concatenate(parts(split))), usable)
        assert len(split.validation) == pytest.approx((len(usable) - len(split.test)) / 6, rel=0.2)
        for part in parts(split):
            assert (np.diff(part) > 0).all()
            shares = np.bincount(wafers.label[part], minlength=9) / len(part)
            assert np.abs(shares - overall).max() < (0.06 if lots else 0.01)
        groups = [set(wafers.group[part].tolist()) for part in parts(split)]
        shared = groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
        assert not shared if lots else len(shared) > 50


@pytest.mark.parametrize("count", [3, 5])
def test_lots_stay_whole_where_no_folds_are_prescribed(wafers: Wafers, count: int) -> None:
    free = changed(wafers, fold=UNKNOWN)
    splits = folds(free, count)
    assert [split.name for split in splits] == [f"lot-{fold}" for fold in range(count)]
    check(free, splits, lots=True)


def test_prescribed_folds_are_the_test_parts(wafers: Wafers) -> None:
    splits = folds(wafers)
    check(wafers, splits, lots=True)
    for fold, split in enumerate(splits):
        assert (wafers.fold[split.test] == fold).all() and not (wafers.fold[split.train] == fold).any()


def test_random_folds_tear_lots_apart(wafers: Wafers) -> None:
    check(wafers, folds(wafers, kind="random"), lots=False)


@pytest.mark.parametrize("kind", ["lot", "random"])
def test_the_seed_decides(wafers: Wafers, kind: Kind) -> None:
    free = changed(wafers, fold=UNKNOWN)
    first, same, other = (folds(free, kind=kind, seed=seed) for seed in (4, 4, 5))
    for a, b, c in zip(first, same, other, strict=True):
        assert all(map(np.array_equal, parts(a), parts(b)))
        assert not np.array_equal(a.test, c.test) and not np.array_equal(a.validation, c.validation)


def test_the_official_split_is_honoured(wafers: Wafers) -> None:
    flagged = changed(wafers, official=wafers.fold == 2)
    (split,) = folds(flagged, kind="official")
    usable = np.flatnonzero((wafers.label != UNKNOWN) & wafers.clean)
    assert np.array_equal(split.test, usable[wafers.fold[usable] == 2])
    assert np.array_equal(np.union1d(split.train, split.validation), usable[wafers.fold[usable] != 2])
    assert not set(wafers.group[split.train]) & set(wafers.group[split.validation])


@pytest.mark.parametrize(
    ("columns", "arguments", "reason"),
    [
        ({"label": UNKNOWN}, {}, "no wafer has a label"),
        ({}, {"kind": "official"}, "1,821 of 1,821 labelled wafers have no Training or Test flag"),
        ({}, {"count": 5}, "prescribes 4 folds, so there cannot be 5"),
        ({"group": 7}, {}, "folds separate group 7"),
        (
            {"group": 7, "fold": UNKNOWN},
            {},
            r"cannot split 1 lots \(.* wafers of the most frequent class\) into 4 parts",
        ),
        ({"fold": UNKNOWN}, {"count": 1}, "into 1 parts; there must be two parts or more"),
        ({}, {"kind": "random", "count": 5000}, "cannot split 1,821 wafers .* into 5000 parts"),
    ],
)
def test_the_impossible_is_refused_in_one_line(wafers: Wafers, columns, arguments, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        folds(changed(wafers, **columns), **arguments)
    assert "\n" not in str(caught.value)


def test_wafers_in_no_fold_are_refused(wafers: Wafers) -> None:
    with pytest.raises(ValueError, match="labelled wafers are in no fold"):
        folds(changed(wafers, fold=np.where(wafers.fold == 3, UNKNOWN, wafers.fold)))


def only(wafers: Wafers, name: str, keep: np.ndarray) -> Wafers:
    """The wafers without those of a class that are not to be kept."""
    return wafers.take((wafers.label != CLASSES.index(name)) | keep)


def test_a_class_missing_from_a_part_is_named(wafers: Wafers) -> None:
    with pytest.raises(ValueError, match="no wafer of class Donut in the test part of split lot-1"):
        folds(only(wafers, "Donut", wafers.fold != 1))
    with pytest.raises(ValueError, match="no wafer of class Near-full in the train part of split official"):
        folds(only(changed(wafers, official=wafers.fold == 2), "Near-full", wafers.fold == 2), kind="official")
    two = only(wafers, "Near-full", np.isin(np.arange(len(wafers)), _first_of_each_fold(wafers, "Near-full")))
    with pytest.warns(UserWarning, match="no wafer of class Near-full in the validation part"):
        folds(two)


def _first_of_each_fold(wafers: Wafers, name: str) -> list[int]:
    chosen = (wafers.label == CLASSES.index(name)) & wafers.clean
    return [int(np.flatnonzero(chosen & (wafers.fold == fold))[0]) for fold in range(4)]


def test_classes_that_the_data_do_not_have_are_no_fault(wafers: Wafers) -> None:
    check(without := only(wafers, "Donut", np.zeros(len(wafers), bool)), folds(without), lots=True)


def shares_that_validate(wafers: Wafers) -> np.ndarray:
    """Share of each class that validates while all lots train; whole lots, and every usable wafer, are checked."""
    split = all_lots(wafers)
    usable = np.flatnonzero((wafers.label != UNKNOWN) & wafers.clean)
    assert np.array_equal(np.sort(np.concatenate(parts(split))), usable) and len(split.test) == 0
    assert not set(wafers.group[split.train].tolist()) & set(wafers.group[split.validation].tolist())
    counts = [np.bincount(wafers.label[part], minlength=len(CLASSES)) for part in (split.validation, usable)]
    return counts[0] / counts[1]


def test_no_class_loses_many_wafers_to_validation_while_all_lots_train(wafers: Wafers) -> None:
    assert np.abs(shares_that_validate(wafers) - 1 / 6).max() < 0.025  # of the other sixths up to 0.046


def test_real_lots_lose_few_wafers_of_each_class_to_validation(data_root: Path) -> None:
    assert np.abs(shares_that_validate(load(data_root / "wm811k" / "wm811k_labelled.npz")) - 1 / 6).max() < 0.06


def test_real_folds(data_root: Path) -> None:
    path = source.find(data_root)
    if path is None or path.is_dir():
        pytest.skip(f"no WM-811K in {data_root}; set TRM_DATA")
    real = load(path)
    with np.load(path) as arrays:
        fold, clean, lot = arrays["fold"], arrays["clean"], arrays["lot_block"]
    splits = folds(real)
    for number, split in enumerate(splits):
        assert np.array_equal(split.test, np.flatnonzero((fold == number) & clean))
        assert not set(lot[split.validation]) & set(lot[split.train])
        assert set(real.label[split.validation].tolist()) == set(range(9))
