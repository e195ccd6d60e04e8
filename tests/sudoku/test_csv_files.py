"""Sudoku files: what is written is read back, what is broken is refused by name, and the real data agree with us."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trm_jax.sudoku import solver
from trm_jax.sudoku.csv_files import read_csv, write_csv
from trm_jax.sudoku.puzzles import Puzzles, generate
from trm_jax.sudoku.solver import Box, all_grids, is_solution, solve

SMALL, LARGE = Box(2, 2), Box(3, 3)
QUESTION, ANSWER = "1.3.341.2143432.", "1234341221434321"


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    picks = data.draw(st.lists(st.tuples(st.integers(0, 287), st.integers(0, 2**16 - 1)), min_size=1, max_size=8))
    solutions = np.array([all_grids(SMALL)[grid] for grid, _ in picks])
    blank = np.array([[bits >> cell & 1 for cell in range(16)] for _, bits in picks], dtype=bool)
    expected = Puzzles(np.where(blank, 0, solutions).astype(np.int8), solutions)
    path = tmp_path_factory.mktemp("csv") / "puzzles.csv"
    write_csv(path, expected, SMALL)
    found = read_csv(path, SMALL)
    assert np.array_equal(found, expected) and found.puzzles.dtype == found.solutions.dtype == np.int8
    assert [file.name for file in path.parent.iterdir()] == ["puzzles.csv"]


def test_writing_replaces_whole_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "puzzles.csv"
    write_csv(path, generate(3, LARGE, (20, 30), seed=0), LARGE)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"expected \(N, 81\)"):
        write_csv(path, generate(3, SMALL, (4, 4), seed=0), LARGE)

    def interrupted(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(OSError, match="disk full"):
        write_csv(path, generate(2, LARGE, (20, 30), seed=1), LARGE)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_columns_blanks_and_lines_may_vary(tmp_path: Path) -> None:
    path = tmp_path / "puzzles.csv"
    path.write_bytes(
        b"\xef\xbb\xbfrating,answer,source,question\r\n"
        + f'1,{ANSWER},"a, quoted",{QUESTION}\r\n\r\n1,{ANSWER},b,{QUESTION.replace(".", "0")}\r\n'.encode()
    )
    puzzles, solutions = read_csv(path, SMALL)
    assert puzzles.tolist() == [[int(symbol) for symbol in QUESTION.replace(".", "0")]] * 2
    assert solutions.tolist() == [[int(symbol) for symbol in ANSWER]] * 2


def test_a_missing_answer_is_solved(tmp_path: Path) -> None:
    expected = generate(5, LARGE, (30, 40), seed=0)
    path = tmp_path / "both.csv"
    write_csv(path, expected, LARGE)
    questions = [line.split(",")[0] for line in path.read_text().splitlines()]
    assert np.array_equal(read_csv(write_lines(tmp_path / "questions.csv", *questions), LARGE), expected)


FAULTS = {
    "short": (QUESTION[:-1], ANSWER, "'question': has 15 characters, a grid has 16"),
    "long answer": (QUESTION, ANSWER + "1", "'answer': has 17 characters"),
    "empty answer": (QUESTION, "", "'answer': has 0 characters"),
    "letter": (QUESTION[:5] + "x" + QUESTION[6:], ANSWER, "'question': bad character 'x' at position 6"),
    "digit too high": (QUESTION, ANSWER[:-1] + "5", "'answer': bad character '5' at position 16"),
    "other script": (QUESTION, "١" + ANSWER[1:], "'answer': bad character '١' at position 1"),  # noqa: RUF001
    "contradiction": ("11" + QUESTION[2:], ANSWER, "'question': the givens contradict"),
    "blank answer": (QUESTION, "." + ANSWER[1:], "'answer': has blanks"),
    "broken answer": (QUESTION, "2" + ANSWER[1:], "'answer': is not a valid grid"),
    "other answer": ("2" + "." * 15, ANSWER, "'answer': does not match the givens"),
    "extra field": (QUESTION, ANSWER + ",1", "3 fields under 2 columns"),
    "no answer": (QUESTION, None, "1 fields under 2 columns"),
}


@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=8, deadline=None)
@given(before=st.integers(0, 4), after=st.integers(0, 4), blank_line=st.booleans())
def test_a_hostile_row_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, fault: str, before: int, after: int, blank_line: bool
) -> None:
    question, answer, reason = FAULTS[fault]
    good, bad = f"{QUESTION},{ANSWER}", question if answer is None else f"{question},{answer}"
    path = tmp_path_factory.mktemp("csv") / "hostile.csv"
    write_lines(path, "question,answer", *[""] * blank_line, *[good] * before, bad, *[good] * after)
    with pytest.raises(ValueError) as caught:
        read_csv(path, SMALL)
    message = str(caught.value)
    assert message.startswith(f"{path}, row {before + 1} (line {before + 2 + blank_line})")
    assert reason in message and "\n" not in message


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("." * 16, "more than one solution"),
        ("12....34" + "." * 8, "no solution"),  # 3 and 4 are needed above the 3 and 4 of the same box
    ],
)
def test_questions_without_one_solution_are_refused(tmp_path: Path, question: str, reason: str) -> None:
    path = write_lines(tmp_path / "questions.csv", "question", QUESTION, question)
    with pytest.raises(ValueError, match=rf"row 2 \(line 3\), column 'question': has {reason}"):
        read_csv(path, SMALL)


def test_a_question_that_the_search_does_not_decide_is_refused_in_bounded_time(tmp_path: Path, monkeypatch) -> None:
    """No digit can be placed by force, and no order of guesses finds the contradiction soon."""
    undecided = ".....5.8....6.1.43..........1.5........1.6...3.......553.....61........4........."
    monkeypatch.setattr(solver, "BUDGET", 2000)
    with pytest.raises(ValueError, match=r"row 1 \(line 2\), column 'question': is undecided after 2,000 boards"):
        read_csv(write_lines(tmp_path / "questions.csv", "question", undecided), LARGE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"question,answer\n", "is empty"),
        (b"board,answer\n1,2\n", "must have one column 'question'.*board"),
        (b"puzzle,answer\n1,2\n", "row 1 .line 2., column 'question': has 1 characters"),
        (b"puzzle,question\n1,2\n", "must have one column 'question'"),
        (b"question,question\n1,2\n", "must have one column 'question'"),
        (b"question\n\xff\xfe123412341234\x00.\n", "row 1 .line 2.*bad character"),
        (b"question\n" + b"1" * 200_000 + b"\n", "line 2: field larger than"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "broken.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"broken.csv.*{reason}"):
        read_csv(path, SMALL)


def test_sudoku_extreme(data_root: Path) -> None:
    folder = data_root / "sudoku_extreme"
    if not folder.is_dir():
        pytest.skip(f"no Sudoku-Extreme files in {folder}; set TRM_DATA")
    start = time.perf_counter()
    puzzles, solutions = read_csv(folder / "test_10k.csv")
    assert time.perf_counter() - start < 3
    assert puzzles.shape == solutions.shape == (10_000, 81)
    assert is_solution(solutions, LARGE).all()
    hard = read_csv(folder / "train_1k.csv")
    for puzzle, solution in zip(hard.puzzles[:20], hard.solutions[:20], strict=True):
        assert solve(puzzle, LARGE).tolist() == [solution.tolist()]
