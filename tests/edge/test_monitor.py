"""The monitor: it sees faults that were put in, and raises no more false alarms than it says."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trm_jax.edge.monitor import ALPHA, QUANTITIES, Monitor, append, baseline, examine, measured, reference
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.wafers import CLASSES, FAIL, NO_DIE, PASS, Wafers

WINDOW, REVIEW = 250, 0.7
PARTS = sum(map(len, QUANTITIES.values()))


def read_log(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records of a log, and how many torn lines were skipped."""
    records, torn = [], 0
    for line in path.read_bytes().splitlines():
        try:
            records.append(dict(json.loads(line)))
        except ValueError:
            torn += bool(line.strip())
    return records, torn


def answers(wafers: Wafers, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and steps of a classifier by the nearest of the classes' mean grids (9, cells)."""
    grids = to_grid(wafers, 12)[..., 0].reshape(len(wafers), -1) / 255.0
    distance = ((grids[:, None] - centres) ** 2).sum(axis=2)
    powers = np.exp(-(distance - distance.min(axis=1, keepdims=True)))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    return probabilities, np.where(probabilities.max(axis=1) > 0.9, 2, 3)


@pytest.fixture(scope="module")
def centres() -> np.ndarray:
    wafers = synthetic_wafers(1000, seed=1)
    grids = to_grid(wafers, 12)[..., 0].reshape(len(wafers), -1) / 255.0
    return np.stack([grids[wafers.label == label].mean(axis=0) for label in range(len(CLASSES))])


@pytest.fixture(scope="module")
def known(centres: np.ndarray) -> dict[str, Any]:
    """The reference of 2,000 generated wafers in 80 lots, as it comes out of a model's metadata."""
    wafers = synthetic_wafers(2000, seed=2)
    return json.loads(json.dumps(reference(wafers, *answers(wafers, centres), REVIEW, WINDOW, draws=4000)))


def alarms(wafers: Wafers, centres: np.ndarray, known: dict[str, Any]) -> dict[str, str]:
    """The sentences about the first window of these wafers, by quantity."""
    values = measured(wafers, *answers(wafers, centres), REVIEW)[:WINDOW]
    return {sentence[len("change of ") :].partition(":")[0]: sentence for sentence in examine(known, values).alarms}


def changed(wafers: Wafers, cells: np.ndarray) -> Wafers:
    return Wafers(**{**vars(wafers), "flat": cells})


def test_the_reference_holds_the_means_and_is_small(known: dict[str, Any], centres: np.ndarray) -> None:
    wafers = synthetic_wafers(2000, seed=2)
    probabilities, steps = answers(wafers, centres)
    failing = [(wafers.map(index) == FAIL).sum() / (wafers.map(index) != NO_DIE).sum() for index in range(2000)]
    predicted = np.bincount(probabilities.argmax(axis=1), minlength=9) / 2000
    names = [part for parts in QUANTITIES.values() for part in parts]
    means = dict(zip(names, known["mean"], strict=True))
    assert means["of the dies fail"] == pytest.approx(np.mean(failing), rel=1e-4)
    assert [means[f"are {name}"] for name in CLASSES] == pytest.approx(predicted.tolist(), rel=1e-5)
    confidence = probabilities.max(axis=1)
    assert means["is the mean confidence"] == pytest.approx(confidence.mean(), rel=1e-5)
    assert means["go to review"] == pytest.approx((confidence < REVIEW).mean(), rel=1e-5)
    assert means["are used on average"] == pytest.approx(steps.mean(), rel=1e-5)
    assert (known["wafers"], known["lots"], known["window"]) == (2000, len(set(wafers.group)), WINDOW)
    assert len(json.dumps(known)) < 8000


def test_the_place_of_the_wafer_and_of_failures_on_the_map() -> None:
    wafers = synthetic_wafers(9)
    cells = np.zeros((10, 20), np.uint8)
    cells[4:6, 8:12] = PASS  # in the middle, 40 % of the columns wide
    cells[4:6, 10:12] = FAIL  # the right half of it
    one = Wafers(**{**vars(wafers.take(np.arange(1))), "flat": cells.ravel(), "start": np.array([0])})
    one.height[:], one.width[:] = cells.shape
    values = measured(one, np.eye(9)[:1], np.array([1]), 0.5)[0]
    names = [part for parts in QUANTITIES.values() for part in parts]
    found = dict(zip(names, values.tolist(), strict=True))
    assert abs(found["half heights down lie the dies"]) < 0.01
    assert abs(found["half widths to the right lie the dies"]) < 0.01
    # Failing dies lie at +0.1 half widths, and are half of the dies.
    assert found["half widths to the right lie failing dies, times their share"] == pytest.approx(0.05, abs=0.01)
    assert found["of the dies fail"] == 0.5 and found["mean logarithm of a map's cells"] == pytest.approx(np.log(200))


def test_unchanged_wafers_raise_no_alarm(known: dict[str, Any], centres: np.ndarray) -> None:
    wafers = synthetic_wafers(2000, seed=7)
    windows = [wafers.take(np.arange(begin, begin + WINDOW)) for begin in range(0, 2000, WINDOW)]
    assert [alarms(window, centres, known) for window in windows] == [{}] * 8


def test_a_tester_that_swaps_passing_and_failing(known: dict[str, Any], centres: np.ndarray) -> None:
    wafers = synthetic_wafers(WINDOW, seed=7)
    found = alarms(changed(wafers, np.array([NO_DIE, FAIL, PASS], np.uint8)[wafers.flat]), centres, known)
    assert {"defect density", "radial profile", "predicted classes"} <= set(found) and "map size" not in found
    assert "of the dies fail in the last 250 wafers, 0." in found["defect density"]


def test_a_chuck_that_is_shifted_by_two_dies(known: dict[str, Any], centres: np.ndarray) -> None:
    wafers = synthetic_wafers(WINDOW, seed=7)
    cells = wafers.flat.copy()
    for index in range(len(wafers)):
        moved = np.roll(wafers.map(index), 2, axis=1)
        start = wafers.start[index]
        cells[start : start + moved.size] = moved.ravel()
    found = alarms(changed(wafers, cells), centres, known)
    assert "place on the map" in found and "half widths to the right lie the dies" in found["place on the map"]
    assert not {"defect density", "map size"} & set(found)


def test_a_pattern_that_was_never_seen(known: dict[str, Any], centres: np.ndarray) -> None:
    """A third of the wafers fail in every second row."""
    wafers = synthetic_wafers(WINDOW, seed=7)
    cells = wafers.flat.copy()
    for index in range(0, len(wafers), 3):
        stripes = wafers.map(index).copy()
        stripes[::2] = np.where(stripes[::2] != NO_DIE, FAIL, NO_DIE)
        cells[wafers.start[index] : wafers.start[index] + stripes.size] = stripes.ravel()
    found = alarms(changed(wafers, cells), centres, known)
    assert {"defect density", "predicted classes"} <= set(found)


def test_another_mix_of_classes_and_another_product(known: dict[str, Any], centres: np.ndarray) -> None:
    wafers = synthetic_wafers(4000, seed=7)
    donut = CLASSES.index("Donut")
    order = np.argsort(wafers.label != donut, kind="stable")[:WINDOW]
    found = alarms(wafers.take(order), centres, known)
    assert "are Donut" in found["predicted classes"]
    large = wafers.take(np.flatnonzero(wafers.height == 52)[:WINDOW])
    assert "8.03 mean logarithm of a map's cells in the last 250 wafers" in alarms(large, centres, known)["map size"]


def lots_of(rng: np.random.Generator, count: int, alike: float) -> tuple[np.ndarray, np.ndarray]:
    """Values (25 * count, 31) and lots (25 * count,): a share ``alike`` of every variance is common to a lot."""
    effect = np.repeat(rng.gamma(1, 1, (count, PARTS)) - 1, 25, axis=0)
    values = np.sqrt(alike) * effect + np.sqrt(1 - alike) * rng.normal(size=effect.shape)
    return values, np.repeat(np.arange(count), 25)


def false_alarms(alike: float, lotwise: bool, references: int = 6, windows: int = 200) -> float:
    """Share of unchanged windows with an alarm, over many references, each with windows of its own."""
    rng = np.random.default_rng(11)
    raised = 0
    for number in range(references):
        values, lots = lots_of(rng, 120, alike)
        known = baseline(values, lots if lotwise else np.arange(len(values)), 100, draws=4000, seed=number)
        later = lots_of(rng, 4 * windows + 1, alike)[0][7 : 7 + 100 * windows]  # windows begin within lots
        raised += sum(bool(examine(known, window).alarms) for window in later.reshape(windows, 100, PARTS))
    return raised / (references * windows)


def test_false_alarms_are_as_rare_as_stated_although_wafers_of_a_lot_are_alike() -> None:
    # 1,200 windows, lots of very uneven size of effect: the standard error of a share of 1 % is 0.3 %.
    assert 0.001 < false_alarms(alike=0.3, lotwise=True) <= ALPHA + 0.006
    # The simulation would notice: a reference that takes wafers for independent cries wolf in most windows.
    assert false_alarms(alike=0.3, lotwise=False, references=2) > 0.3


def test_one_odd_wafer_is_no_drift() -> None:
    values = np.ones((500, PARTS))
    known = baseline(values, np.repeat(np.arange(20), 25), 100, draws=4000)
    window = np.ones((100, PARTS))
    window[:2] = 2
    assert examine(known, window).alarms == []
    window[:40] = 2
    assert len(examine(known, window).alarms) == len(QUANTITIES)


def test_references_that_say_nothing(known: dict[str, Any]) -> None:
    wafers = synthetic_wafers(300)
    with pytest.raises(ValueError, match="needs 20 lots"):
        reference(wafers, np.full((300, 9), 1 / 9), np.ones(300), REVIEW)
    values = np.zeros((2000, PARTS))
    assert baseline(values, np.arange(2000) // 20, None, 4000)["window"] == 250
    assert baseline(values, np.arange(2000) // 100, None, 4000)["window"] == 400  # four lots
    with pytest.raises(ValueError, match="does not fit; export it again"):
        examine(known | {"mean": [0.0] * 3}, np.zeros((2, PARTS)))
    with pytest.raises(ValueError, match="no monitoring reference"):
        Monitor({})
    for change in (
        {"window": 0}, {"window": -1}, {"window": 1}, {"window": True}, {"window": 2.5}, {"window": 10**9},
        {"mean": None}, {"spread": [0.0] * PARTS}, {"mean": [float("nan")] * PARTS}, {"limits": {}}, {"tail": [1.0]},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="does not fit; export it again"):
            Monitor(known | change)


def test_the_monitor_fills_windows_and_logs_them(known: dict[str, Any], centres: np.ndarray, tmp_path: Path) -> None:
    good = synthetic_wafers(WINDOW, seed=7)
    bad = changed(good, np.array([NO_DIE, FAIL, PASS], np.uint8)[good.flat])
    log = tmp_path / "drift.jsonl"
    watch = Monitor(known, log)
    said = []
    for wafers in (good, bad):
        for begin in range(0, WINDOW, 100):  # 100, 100, 50
            part = wafers.take(np.arange(begin, min(begin + 100, WINDOW)))
            said.append(watch.add(part, *answers(part, centres), REVIEW))
    assert [bool(one) for one in said] == [False] * 5 + [True]
    records, torn = read_log(log)
    assert torn == 0 and [bool(record["alarms"]) for record in records] == [False, True]
    assert records[1]["alarms"] == said[-1] and set(records[0]["tests"]) == set(QUANTITIES)
    whole = watch.add(good, *answers(good, centres), REVIEW)
    assert whole == [] and len(read_log(log)[0]) == 3


def test_a_full_disk_loses_neither_answers_nor_alarms_nor_lines(
    known: dict[str, Any], centres: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = synthetic_wafers(WINDOW, seed=7)
    bad = changed(good, np.array([NO_DIE, FAIL, PASS], np.uint8)[good.flat])
    watch = Monitor(known, tmp_path / "drift.jsonl")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert watch.add(bad, *answers(bad, centres), REVIEW)  # the alarm is raised all the same
        assert watch.error == f"the monitor cannot write to {tmp_path / 'drift.jsonl'}: No space left on device"
    (tmp_path / "drift.jsonl").unlink()
    assert watch.add(good, *answers(good, centres), REVIEW) == [] and watch.error == ""
    assert [bool(record["alarms"]) for record in read_log(tmp_path / "drift.jsonl")[0]] == [True, False]


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_line_torn_by_a_power_loss_is_skipped_and_closed(tmp_path: Path, cut: int) -> None:
    log = tmp_path / "log.jsonl"
    for number in range(3):
        append(log, {"number": number})
    content = log.read_bytes()
    log.write_bytes(content[:-cut])
    kept = [0, 1, 2] if cut == 1 else [0, 1]  # without its line break a record is still whole
    assert [record["number"] for record in read_log(log)[0]] == kept
    assert read_log(log)[1] == (cut > 1)
    append(log, {"number": 3})
    assert [record["number"] for record in read_log(log)[0]] == [*kept, 3]
    log.write_bytes(log.read_bytes() + b"\0" * 100)  # blocks that were never written
    assert [record["number"] for record in read_log(log)[0]] == [*kept, 3]
    append(log, {"number": 4})
    assert [record["number"] for record in read_log(log)[0]] == [*kept, 3, 4]


def test_a_record_is_on_the_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, log, real = [], tmp_path / "log.jsonl", os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (sizes.append(log.stat().st_size), real(number)))
    append(log, {"a": 1})
    append(log, {"a": 2})
    assert sizes == [9, 9, 18]  # the file, its directory; the file


def test_the_p_of_a_score_is_that_of_the_highest_limit_passed_and_an_alarm_needs_a_third_of_alpha() -> None:
    """Eight quantities, of which one moves: Holm's factor is 8."""
    known = {"window": 2, "mean": [0.0] * PARTS, "spread": [1.0] * PARTS, "tail": [0.5, 0.0005, 0.0001, 1e-5],
             "limits": {name: [1.0, 4.0, 5.0, 6.0] for name in QUANTITIES}}  # fmt: skip

    def tested(score: float) -> tuple[float, int]:
        values = np.zeros((2, PARTS))
        values[:, 0] = score
        window = examine(known, values)
        return window.tests["defect density"]["p"], len(window.alarms)

    assert tested(2.9) == (1.0, 0)  # below three standard errors nothing counts
    assert tested(4.0) == (1.0, 0)  # passed 1 alone, whose 0.5 is corrected to 1
    assert tested(4.1) == (pytest.approx(8 * 0.0005), 0)  # below ALPHA, but not a third of it
    assert tested(5.5) == (pytest.approx(8 * 0.0001), 1)
    assert tested(7.0) == (pytest.approx(8 * 1e-5), 1)
