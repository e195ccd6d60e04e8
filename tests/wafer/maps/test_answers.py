"""The table of answers: one line for every map of the source, in its order, with exactly the documented columns."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.answers import ALWAYS, answers, decide, plain_cell, summary, write_answers
from trm_jax.wafer.maps.validate import ReadResult, Rejected, build_wafers
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN


def loaded(rows: list[int], rejected: list[int], labels: list[int] | None = None) -> ReadResult:
    """Wafers of these rows, and rejected maps."""
    wafers = synthetic_wafers(9 + len(rows)).take(np.arange(len(rows)))
    wafers.row[:] = rows
    wafers.label[:] = UNKNOWN if labels is None else labels
    return ReadResult(wafers, [Rejected(row, f"is broken in row {row}") for row in rejected])


def probabilities(*classes: int, confidence: float = 0.6) -> np.ndarray:
    """One row for each of the classes, the others sharing the rest."""
    found = np.full((len(classes), 9), (1 - confidence) / 8, np.float32)
    found[np.arange(len(classes)), list(classes)] = confidence
    return found


def written(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_every_column_of_every_kind_of_line(tmp_path: Path) -> None:
    found = np.concatenate([probabilities(7), probabilities(0, confidence=0.92)])
    path = tmp_path / "answers.csv"
    write_answers(path, loaded([3, 8], [5, 1], [UNKNOWN, 8]), found, np.array([2, 3]), 0.9)
    header, *lines = written(path)
    assert header == ["row", "prediction", "confidence", "decision", "steps"] + [f"p_{name}" for name in CLASSES] + [
        "label",
        "reason",
    ]
    empty = [""] * 9
    low = ["0.050000"] * 7 + ["0.600000", "0.050000"]
    assert lines == [
        ["1", "", "", "rejected", "", *empty, "", "is broken in row 1"],
        ["3", "Scratch", "0.600000", "review", "2", *low, "", ""],
        ["5", "", "", "rejected", "", *empty, "", "is broken in row 5"],
        ["8", "Center", "0.920000", "auto", "3", "0.920000", *["0.010000"] * 8, "none", ""],
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_label_and_reason_only_where_there_are_any(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    for rejected, labels, last in [([], None, "p_none"), ([], [0], "label"), ([4], None, "reason")]:
        write_answers(path, loaded([2], rejected, labels), probabilities(1), np.array([1]), 0.5)
        assert written(path)[0][-1] == last
    assert "label" not in written(path)[0]


def test_an_answer_of_a_class_that_is_always_reviewed_says_so_unless_the_map_is_doubted(tmp_path: Path) -> None:
    limits = tuple(1.0 if label in (3, 7) else 0.5 for label in range(9))
    found, cluster = probabilities(3, 0, 7), np.array([0, 1, 2])
    lines = list(answers(loaded([0, 1, 2], []), found, np.ones(3, int), limits, {2: "is half"}, cluster=cluster))
    assert [line.reason for line in lines] == [ALWAYS, "", "is half"]
    assert [line.decision for line in lines] == ["review", "auto", "review"]
    assert [line.cluster for line in lines] == [0, 1, 2]
    path, score = tmp_path / "a.csv", np.array([-1, 2.5, 3], np.float32)
    write_answers(path, loaded([0, 1, 2], []), found, np.ones(3, int), limits, {}, score, cluster)
    header, *rows = written(path)
    assert [row[header.index("reason")] for row in rows] == [ALWAYS, "", ALWAYS]
    assert [row[header.index("cluster")] for row in rows] == ["", "1", "2"]
    text = summary(loaded([0, 1, 2], []), found, limits, {}, cluster)
    assert "of these:  2 (Edge-Ring 1, Scratch 1) always" in text
    assert "clusters:  2 of unlike maps that are like each other; the largest: 1, 1" in text


def test_confidence_at_the_threshold_needs_no_review() -> None:
    made = decide(np.array([[0.5, 0.5], [0.51, 0.49]]), 0.51)
    assert made.predicted.tolist() == [0, 0] and made.review.tolist() == [True, False]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(0, 5))
def test_lines_come_in_the_order_of_the_rows(usable: list[bool], step: int) -> None:
    rows = [index * (step + 1) for index in range(len(usable))]
    good = [row for row, use in zip(rows, usable, strict=True) if use]
    broken = [row for row, use in zip(rows, usable, strict=True) if not use]
    found = probabilities(*[0] * len(good))
    lines = list(answers(loaded(good, broken), found, np.ones(len(good), int), 0.5))
    assert [line.row for line in lines] == rows
    assert [line.decision != "rejected" for line in lines] == usable


def test_a_source_in_another_order_keeps_it() -> None:
    lines = answers(loaded([7, 2, 5], [6]), probabilities(0, 1, 2), np.ones(3, int), 0.5)
    assert [line.row for line in lines] == [6, 7, 2, 5]


def test_answers_that_do_not_fit_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("old")
    one = loaded([0], [])
    with pytest.raises(ValueError, match=r"1 wafers need probabilities \(1, 9\)"):
        write_answers(path, one, probabilities(0, 1), np.array([1]), 0.5)
    with pytest.raises(ValueError, match="NaN or infinite"):
        write_answers(path, one, probabilities(0) * np.nan, np.array([1]), 0.5)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_no_cell_can_be_taken_for_a_formula(tmp_path: Path) -> None:
    names = ("=HYPERLINK(1).csv", "+1.csv", "-1.csv", "@x.csv", "\tx.csv", "a=b.csv")
    rows = loaded([0, 1, 2, 3, 4], [])
    rejected = ReadResult(rows.wafers, [Rejected(5, "=1+1")], {"file": names})
    write_answers(tmp_path / "a.csv", rejected, probabilities(0, 0, 0, 0, 0), np.ones(5, int), 0.5)
    lines = written(tmp_path / "a.csv")[1:]
    assert [line[0] for line in lines] == [f"'{name}" for name in names[:-1]] + ["a=b.csv"]
    assert lines[-1][-1] == "'=1+1" and plain_cell("\r=1") == "'\r=1" and plain_cell("") == ""


def test_nothing_but_rejected_maps(tmp_path: Path) -> None:
    row = np.arange(1)
    none = build_wafers(np.full(25, 7, np.uint8), np.array([5]), np.array([5]), {"row": row, "group": row}, "test")
    write_answers(tmp_path / "a.csv", none, np.zeros((0, 9)), np.zeros(0, int), 0.5)
    assert written(tmp_path / "a.csv")[1][-1] == "has a cell 7; cells are 0, 1 or 2"


def test_what_equals_the_threshold_is_decided_but_a_threshold_of_one_decides_nothing() -> None:
    found = np.array([[0.7, 0.3], [np.nextafter(0.7, 0), 0.3], [1.0, 0.0]])
    assert decide(found, 0.7).review.tolist() == [False, True, False]
    assert decide(found, 1.0).review.tolist() == [True, True, True]
