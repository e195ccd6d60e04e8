"""Sudoku files in the layout of Sudoku-Extreme: columns source, question, answer, rating; one puzzle a line."""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trm_jax.sudoku.puzzles import Puzzles, Splits, solution_overlap
from trm_jax.sudoku.solver import Box, has_conflict, is_solution, relabelling_form, solve
from trm_jax.support.files import replacing

SUDOKU_EXTREME = Box(3, 3)
CONTRADICT = "the givens contradict: a digit is repeated in a unit"


def read_csv(path: str | os.PathLike[str], box: Box = SUDOKU_EXTREME) -> Puzzles:
    """Read puzzles and answers, refusing a file with any row that is not a Sudoku.

    Of the columns only `question` (`.` or `0` is a blank) and `answer` are read. A file without answers is solved, and
    then each puzzle must have exactly one solution; with answers, that they are the only ones is taken on trust.
    Raises ValueError for the first fault found, naming file, data row (from 1), line of the file, column and reason.
    """
    table = _read_table(Path(path))
    puzzles = _parse(table, "question", box)
    table.refuse(has_conflict(puzzles, box), "question", CONTRADICT)
    if "answer" not in table.columns:
        return Puzzles(puzzles, _solve_all(table, puzzles, box))
    solutions = _parse(table, "answer", box)
    table.refuse((solutions == 0).any(axis=1), "answer", "has blanks")
    table.refuse(~is_solution(solutions, box), "answer", "is not a valid grid: a digit is repeated in a unit")
    changed = (puzzles != 0) & (puzzles != solutions)
    table.refuse(changed.any(axis=1), "answer", "does not match the givens of the question")
    return Puzzles(puzzles, solutions)


def read_questions(path: str | os.PathLike[str], box: Box = SUDOKU_EXTREME) -> np.ndarray:
    """The puzzles of a file alone, (N, cells), whatever solutions they have. Raises ValueError as `read_csv` does."""
    table = _read_table(Path(path))
    puzzles = _parse(table, "question", box)
    table.refuse(has_conflict(puzzles, box), "question", CONTRADICT)
    return puzzles


def read_splits(train_file: str, test_file: str, box: Box, train: int, validation: int, test: int) -> Splits:
    """Training and validation puzzles from one file, test puzzles from another; at most so many of each.

    The last rows of the training file validate. `held_out` lists the validation and test solutions, so that no
    augmentation leads to one of them; `overlap` tells how many test solutions the training file holds all the same.
    Raises ValueError for a file with a fault, or a training file that is too short to validate.
    """
    known, tested = read_csv(train_file, box), read_csv(test_file, box)
    if len(known.puzzles) <= validation:
        raise ValueError(
            f"{train_file} has {len(known.puzzles)} puzzles, and data.validation={validation} leaves none to train on"
        )
    fitted = Puzzles(*(array[:-validation][:train] for array in known))
    held = Puzzles(*(array[-validation:] for array in known))
    tested = Puzzles(*(array[:test] for array in tested))
    held_out = np.unique(relabelling_form(np.concatenate([held.solutions, tested.solutions]), box), axis=0)
    return Splits(fitted, held, tested, held_out, solution_overlap(tested, fitted, box))


def write_csv(path: str | os.PathLike[str], puzzles: Puzzles, box: Box) -> None:
    """Write columns question and answer, `.` for a blank; the file appears complete or not at all.

    Raises ValueError if the arrays are not both (N, box.cells) with digits 0..side.
    """
    for array in puzzles:
        if array.shape != (len(puzzles.puzzles), box.cells) or not ((array >= 0) & (array <= box.side)).all():
            raise ValueError(f"expected (N, {box.cells}) digits 0 to {box.side}, got an array of shape {array.shape}")
    symbols = np.array(list(".123456789"))
    questions, answers = (["".join(row) for row in symbols[array]] for array in puzzles)
    with replacing(Path(path)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["question", "answer"])
        writer.writerows(zip(questions, answers, strict=True))


@dataclass(frozen=True)
class _Table:
    """The needed columns of a file as strings, and where each row stands in it."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def refuse(self, bad: np.ndarray, column: str, reason: str) -> None:
        """Raise ValueError for the first row marked in `bad` (N,), if there is one."""
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(f"{self.path}, row {row + 1} (line {self.lines[row]}), column {column!r}: {reason}")


def _read_table(path: Path) -> _Table:
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; give the path of a CSV file with a column 'question'")
    # Undecodable bytes become a character that no grid has, so that they are reported with their row.
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.reader(file)
        try:
            rows = [(reader.line_num, fields) for fields in reader if fields]
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    if len(rows) < 2:
        raise ValueError(f"{path} is empty: expected a header with a column 'question' and at least one row")
    header = rows[0][1]
    if header.count("question") != 1 or header.count("answer") > 1:
        raise ValueError(f"{path} must have one column 'question' and at most one 'answer', its header is {header}")
    lines, records = [line for line, _ in rows[1:]], [fields for _, fields in rows[1:]]
    for number, (line, fields) in enumerate(zip(lines, records, strict=True), start=1):
        if len(fields) != len(header):
            raise ValueError(f"{path}, row {number} (line {line}): {len(fields)} fields under {len(header)} columns")
    needed = {"question", "answer"}.intersection(header)
    columns = {name: [fields[header.index(name)] for fields in records] for name in needed}
    return _Table(path, columns, lines)


def _parse(table: _Table, column: str, box: Box) -> np.ndarray:
    """One column as digits, (N, cells) int8."""
    texts = table.columns[column]
    wrong = np.array([len(text) != box.cells for text in texts])
    table.refuse(wrong, column, f"has {len(texts[wrong.argmax()])} characters, a grid has {box.cells}")
    codes = np.array(texts, dtype=f"U{box.cells}").view(np.uint32).reshape(len(texts), box.cells)
    grids = np.where(codes == ord("."), ord("0"), codes).astype(np.int32) - ord("0")
    bad = (grids < 0) | (grids > box.side)
    row, cell = divmod(int(bad.argmax()), box.cells)
    table.refuse(np.any(bad, axis=1), column, f"bad character {texts[row][cell]!r} at position {cell + 1}")
    return grids.astype(np.int8)


def _solve_all(table: _Table, puzzles: np.ndarray, box: Box) -> np.ndarray:
    solved = []
    for row, puzzle in enumerate(puzzles):
        try:
            solved.append(solve(puzzle, box, limit=2))
        except ValueError as error:
            table.refuse(np.arange(len(puzzles)) == row, "question", f"is {error}")
    counts = np.array([len(solutions) for solutions in solved])
    table.refuse(counts == 0, "question", "has no solution")
    table.refuse(counts > 1, "question", "has more than one solution")
    return np.concatenate([solutions[:1] for solutions in solved])
