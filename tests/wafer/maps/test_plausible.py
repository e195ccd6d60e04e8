"""Maps in other codes are refused or doubted, and said how to read; real ones are left alone."""

import numpy as np
import pytest

from trm_jax.wafer.maps.plausible import Codes, crop, inspect, measure, parse_codes, radius, recode, source_problem
from trm_jax.wafer.maps.validate import ReadResult, build_wafers
from trm_jax.wafer.maps.wafers import Wafers

SIDE = 31
DISC = radius(SIDE, SIDE) <= 1
# What other codes make of ours (0 no die, 1 pass, 2 fail), and the option that reads them again.
FOREIGN = {
    "swapped": ((0, 2, 1), "swapped"),
    "fail alone is 1": ((0, 0, 1), "pass=0,fail=1,outline=disc"),
    "pass alone is 1": ((0, 1, 0), "pass=1,fail=0,outline=disc"),
    "fail alone is 2": ((0, 0, 2), "pass=0,fail=2,outline=disc"),
    "outside is 1": ((1, 1, 2), "outline=disc"),
    "outside is 2": ((2, 0, 1), "pass=0,fail=1,off=2"),
    "outside fails": ((2, 1, 2), "outline=disc"),
}


def source(maps: list[np.ndarray]) -> ReadResult:
    height, width = np.array([cells.shape for cells in maps]).T
    rows = np.arange(len(maps))
    return build_wafers(np.concatenate([m.ravel() for m in maps]), height, width, {"row": rows, "group": rows}, "fab")


def discs(count: int = 20, failing: float = 0.1) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(DISC * (1 + (rng.random(DISC.shape) < failing))).astype(np.uint8) for _ in range(count)]


def cells(wafers: Wafers) -> list[np.ndarray]:
    return [wafers.map(index) for index in range(len(wafers))]


def test_real_codes_are_neither_refused_nor_changed() -> None:
    read = source(discs())
    inspected = inspect(read)
    assert (inspected.doubts, inspected.notes) == ({}, [])
    assert inspected.read.wafers.flat is read.wafers.flat


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_source_is_refused_and_the_option_it_names_reads_it(name: str) -> None:
    table, option = FOREIGN[name]
    foreign = source([np.array(table, np.uint8)[m] for m in discs()])
    with pytest.raises(ValueError, match=f"^fab: .*--codes {option}$"):
        inspect(foreign)
    mended = inspect(foreign, option)
    assert mended.doubts == {} and source_problem(measure(mended.read.wafers)) == ""
    for found, right in zip(cells(mended.read.wafers), discs(), strict=True):
        np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_few_foreign_maps_are_all_doubted(name: str) -> None:
    assert len(inspect(source([np.array(FOREIGN[name][0], np.uint8)[m] for m in discs(3)])).doubts) == 3


def test_most_failing_is_a_doubt_only_where_the_codes_are_not_known() -> None:
    full = discs(1, 0.8)
    assert "79% of its dies fail" in inspect(source(full)).doubts[0]
    assert inspect(source(full + discs(20))).doubts == {}


def test_maps_unlike_wafers_have_a_reason() -> None:
    good = discs(12)
    chequered = np.where(np.add.outer(np.arange(SIDE), np.arange(SIDE)) % 2, good[0], 0).astype(np.uint8)
    half = np.where(np.arange(SIDE) < SIDE // 2, good[0], 0).astype(np.uint8)
    doubts = inspect(source([*good, chequered, half, DISC * 1, DISC * 2])).doubts
    assert sorted(doubts) == [12, 13, 14, 15]
    assert "only partly tested" in doubts[12] and "not a disc" in doubts[13]
    assert doubts[14] == "has no failing die" and doubts[15] == "has no passing die"


def test_sizes_that_were_never_trained_on_are_doubted() -> None:
    dies = int(DISC.sum())
    assert inspect(source(discs(1)), dies=(dies, dies)).doubts == {}
    assert inspect(source(discs(1)), dies=(dies + 1, 2000)).doubts == {
        0: f"has {dies} dies; trained on {dies + 1} to 2,000"
    }


def test_empty_borders_are_cropped_and_that_is_said() -> None:
    good = discs(3)
    read = source([np.pad(good[0], ((0, 9), (4, 0))), good[1], np.pad(good[2], 1)])
    inspected = inspect(read)
    assert inspected.notes == ["2 maps had empty border rows or columns, which were cropped"]
    for found, right in zip(cells(inspected.read.wafers), good, strict=True):
        np.testing.assert_array_equal(found, right)
    assert read.wafers.map(0).shape == (SIDE + 9, SIDE + 4)  # what was read is as it was


def test_a_cropped_map_keeps_the_smallest_side() -> None:
    one = np.zeros((9, 7), np.uint8)
    one[8, 0] = 2
    small, count = crop(source([one]).wafers)
    assert count == 1 and small.map(0).shape == (5, 5) and small.map(0)[4, 0] == 2 == small.map(0).sum()


def test_codes_are_read_and_nonsense_is_named() -> None:
    assert parse_codes("") == Codes() and parse_codes("swapped") == Codes((0, 2, 1))
    assert parse_codes("fail=0,pass=1") == Codes((2, 1, 0)) and parse_codes("outline=disc") == Codes(disc=True)
    for wrong in ("swap", "pass=3,fail=0", "pass=1,fail=1", "pass=1", "pass=1,fail=2,fail=0", "outline=box", "a=1"):
        with pytest.raises(ValueError, match=r"--codes .*: give swapped, or"):
            parse_codes(wrong)


def test_outline_is_applied_after_the_codes() -> None:
    found = recode(source([np.zeros((5, 5), np.uint8) + np.eye(5, dtype=np.uint8)]).wafers, Codes((1, 2, 0), True))
    corner = np.array([[0, 1, 1], [1, 2, 1], [1, 1, 2]])
    np.testing.assert_array_equal(found.map(0)[:3, :3], corner)
