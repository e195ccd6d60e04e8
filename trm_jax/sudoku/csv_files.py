"""Sudoku files in the layout of Sudoku-Extreme: columns source, question, answer, rating; one puzzle a line."""

import csv
import math
import os
import sys
from pathlib import Path

import numpy as np

from trm_jax.sudoku.puzzles import FEWEST_GIVENS, Puzzles, Splits, solution_overlap
from trm_jax.sudoku.solver import Box, has_conflict, is_solution, relabelling_form, solve
from trm_jax.sudoku.tables import BLANKS, SYMBOLS, Table, read_table
from trm_jax.support.files import replacing
from trm_jax.support.schema import require

SUDOKU_EXTREME = Box(3, 3)
CONTRADICT = "the givens contradict: a digit is repeated in a unit"


def read_csv(path: str | os.PathLike[str], box: Box | None = None) -> Puzzles:
    """Read puzzles and answers, refusing a file with any row that is not a Sudoku.

    Headers, blanks, separators and encodings may vary (see `trm_jax.sudoku.tables`); without a ``box`` the length of
    the first grid decides it. A file without answers is solved, and
    then each puzzle must have exactly one solution; with answers, that they are the only ones is taken on trust.
    Raises ValueError for the first fault found, naming file, data row (from 1), line of the file, column and reason.
    """
    table = read_table(Path(path))
    box = box or box_of(table)
    puzzles = _parse(table, "question", box)
    table.refuse(has_conflict(puzzles, box), "question", CONTRADICT)
    if "answer" not in table.columns:
        return Puzzles(puzzles, _solve_all(table, puzzles, box))
    solutions = _parse(table, "answer", box)
    table.refuse((solutions == 0).any(axis=1), "answer", "has blanks")
    table.refuse(~is_solution(solutions, box), "answer", "is not a valid grid: a digit is repeated in a unit")
    changed = (puzzles != 0) & (puzzles != solutions)
    table.refuse(changed.any(axis=1), "answer", "does not match the givens of the question")
    _say_several(table, puzzles, box)
    return Puzzles(puzzles, solutions)


def read_questions(path: str | os.PathLike[str], box: Box = SUDOKU_EXTREME) -> np.ndarray:
    """The puzzles of a file alone, (N, cells), whatever solutions they have. Raises ValueError as `read_csv` does."""
    table = read_table(Path(path))
    puzzles = _parse(table, "question", box)
    table.refuse(has_conflict(puzzles, box), "question", CONTRADICT)
    return puzzles


def box_of(table: Table) -> Box:
    """The usual box for the length of the first grid; that of 9x9 where no board has such a length."""
    side = math.isqrt(len(table.columns["question"][0]))
    known = side in (4, 6, 9, 16) and side**2 == len(table.columns["question"][0])
    return Box.from_side(side) if known else SUDOKU_EXTREME


def _say_several(table: Table, puzzles: np.ndarray, box: Box) -> None:
    """A line where answers cannot be the only ones: too few givens, or two digits that no given tells apart."""
    digits = np.sort(puzzles, axis=1)
    different = (np.diff(digits, axis=1, prepend=0) > 0).sum(axis=1)
    givens = np.count_nonzero(puzzles, axis=1)
    several = (givens < FEWEST_GIVENS.get(box, 0)) | (different < box.side - 1)
    if several.any():
        print(
            f"{table.path}: {several.sum()} of {len(several)} puzzles have more than one solution (first in row "
            f"{several.argmax() + 1}); only the given answer counts as right",
            file=sys.stderr,
        )


def read_splits(train_file: str, test_file: str, box: Box, train: int, validation: int, test: int) -> Splits:
    """Training and validation puzzles from one file, test puzzles from another; at most so many of each.

    The last rows of the training file validate; training rows that repeat one of them are left out, with a line.
    `held_out` lists the validation and test solutions, so that no augmentation leads to one of them; `overlap` tells
    how many test solutions the training file holds all the same.
    Raises ValueError for a file with a fault, or a training file that is too short to validate.
    """
    known, tested = read_csv(train_file, box), read_csv(test_file, box)
    if len(known.puzzles) <= validation:
        raise ValueError(
            f"{train_file} has {len(known.puzzles)} puzzles, and data.validation={validation} leaves none to train on"
        )
    held = Puzzles(*(array[-validation:] for array in known))
    seen = {puzzle.tobytes() for puzzle in held.puzzles}
    fresh = np.array([puzzle.tobytes() not in seen for puzzle in known.puzzles[:-validation]])
    if not fresh.all():
        print(
            f"{train_file}: {np.count_nonzero(~fresh)} training puzzles are validation puzzles too and are left out",
            file=sys.stderr,
        )
    require(bool(fresh.any()), f"{train_file}: every training puzzle is a validation puzzle too; lower task.validation")
    fitted = Puzzles(*(array[:-validation][fresh][:train] for array in known))
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
    symbols = np.array(list("." + SYMBOLS))
    questions, answers = (["".join(row) for row in symbols[array]] for array in puzzles)
    with replacing(Path(path)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["question", "answer"])
        writer.writerows(zip(questions, answers, strict=True))


def _parse(table: Table, column: str, box: Box) -> np.ndarray:
    """One column as digits, (N, cells) int8."""
    texts = table.columns[column]
    rounded = np.array(["E+" in text.upper() for text in texts])
    table.refuse(
        rounded, column, "is a number that a spreadsheet has rounded, its digits are lost; export the column as text"
    )
    wrong = np.array([len(text) != box.cells for text in texts])
    table.refuse(wrong, column, f"has {len(texts[wrong.argmax()])} characters, a grid has {box.cells}")
    codes = np.array(texts, dtype=f"U{box.cells}").view(np.uint32).reshape(len(texts), box.cells)
    digit_of = np.full(128, -1, np.int8)
    digit_of[[ord(blank) for blank in BLANKS]] = 0
    for name in (SYMBOLS, SYMBOLS.lower()):
        digit_of[[ord(symbol) for symbol in name[: box.side]]] = np.arange(1, box.side + 1)
    grids = np.where(codes < 128, digit_of[np.minimum(codes, 127)], -1).astype(np.int8)
    bad = grids < 0
    row, cell = divmod(int(bad.argmax()), box.cells)
    table.refuse(np.any(bad, axis=1), column, f"bad character {texts[row][cell]!r} at position {cell + 1}")
    return grids


def _solve_all(table: Table, puzzles: np.ndarray, box: Box) -> np.ndarray:
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
