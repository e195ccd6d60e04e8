"""Sudoku grids of any box shape: the rules, a solver that counts solutions, and sameness under relabelling.

A grid is a flat (cells,) int8 array, row by row, digits 1..side and 0 for a blank.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

BUDGET = 100_000
"""Boards that a search looks at before it gives up: many times what a hard puzzle takes."""


@dataclass(frozen=True)
class Box:
    """The shape of one box, which fixes the whole board: Box(2, 2) is 4x4, Box(2, 3) is 6x6, Box(3, 3) is 9x9.

    Raises ValueError unless both lengths are positive and the side is at most 16; above 9 the digits go on with A to G.
    """

    rows: int
    cols: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.cols < 1 or self.side > 16:
            raise ValueError(f"a box of {self.rows} x {self.cols} cells does not give a Sudoku of side 1 to 16")

    @property
    def side(self) -> int:
        return self.rows * self.cols

    @property
    def cells(self) -> int:
        return self.side**2

    @classmethod
    def from_side(cls, side: int) -> "Box":
        """The usual box of a 4x4, 6x6, 9x9 or 16x16 board; ValueError for any other side."""
        shapes = {4: (2, 2), 6: (2, 3), 9: (3, 3), 16: (4, 4)}
        if side not in shapes:
            raise ValueError(f"no Sudoku of side {side}: choose 4, 6, 9 or 16")
        return cls(*shapes[side])


@cache
def units(box: Box) -> np.ndarray:
    """Cell numbers of every row, column and box, which must each hold all digits once: (3 * side, side)."""
    cell = np.arange(box.cells).reshape(box.side, box.side)
    boxes = cell.reshape(box.cols, box.rows, box.rows, box.cols).swapaxes(1, 2).reshape(box.side, box.side)
    index = np.concatenate([cell, cell.T, boxes])
    index.setflags(write=False)
    return index


def has_conflict(grids: np.ndarray, box: Box) -> np.ndarray:
    """True where a digit occurs twice in a row, column or box; blanks never conflict. (..., cells) -> (...)."""
    is_digit = (grids >= 1) & (grids <= box.side)
    bits = np.where(is_digit, 1 << grids.clip(0, box.side).astype(np.int32), 0)
    conflict = np.zeros(grids.shape[:-1], dtype=bool)
    for unit in units(box):
        members = bits[..., unit]
        # Distinct powers of two add up to their bitwise or; a repeated one exceeds it.
        conflict |= members.sum(axis=-1) != np.bitwise_or.reduce(members, axis=-1)
    return conflict


def is_solution(grids: np.ndarray, box: Box) -> np.ndarray:
    """True for complete grids that obey the rules, whichever solution they are. (..., cells) -> (...)."""
    return ((grids >= 1) & (grids <= box.side)).all(axis=-1) & ~has_conflict(grids, box)


def relabelling_form(solutions: np.ndarray, box: Box) -> np.ndarray:
    """Rename digits so that the first row reads 1..side: two solutions are relabellings iff their forms are equal.

    (N, cells) complete grids -> (N, cells) int8. The 288 grids of 4x4 have 12 forms.
    """
    new_digit = np.argsort(solutions[:, : box.side], axis=1) + 1
    return np.take_along_axis(new_digit, solutions.astype(np.intp) - 1, axis=1).astype(np.int8)


def count_completions(puzzles: np.ndarray, grids: np.ndarray, box: Box) -> np.ndarray:
    """How many of `grids` (G, cells) agree with the givens of each puzzle: (N, cells) -> (N,).

    With `grids = all_grids(box)` this is the number of solutions, for thousands of puzzles at once.
    """

    def one_hot(rows: np.ndarray) -> np.ndarray:
        return (rows[:, :, None] == np.arange(1, box.side + 1)).reshape(len(rows), -1).astype(np.float32)

    agreeing_cells = one_hot(puzzles) @ one_hot(grids).T
    givens = np.count_nonzero(puzzles, axis=1)
    return np.count_nonzero(agreeing_cells == givens[:, None], axis=1)


class _Masks(NamedTuple):
    """Sets of cells as integers, bit c for cell c."""

    board: int
    peers: tuple[int, ...]  # per cell: the other cells of its row, column and box
    units: tuple[int, ...]


@cache
def _masks(box: Box) -> _Masks:
    unit_masks = [sum(1 << cell for cell in unit) for unit in units(box).tolist()]
    peers = [0] * box.cells
    for cell in range(box.cells):
        for mask in unit_masks:
            if mask >> cell & 1:
                peers[cell] |= mask & ~(1 << cell)
    return _Masks((1 << box.cells) - 1, tuple(peers), tuple(unit_masks))


def _members(cells: int) -> Iterator[int]:
    """The cell numbers in a set, lowest first."""
    while cells:
        lowest = cells & -cells
        yield lowest.bit_length() - 1
        cells ^= lowest


def _propagate(places: list[int], settled: int, masks: _Masks) -> tuple[int, int] | None:
    """Settle every forced cell; `places[d]` is the set of cells that may still hold digit d + 1 (changed in place).

    Returns the settled cells and the cells worth a guess (two candidates if there are such, none if the board is
    full), or None if the board is contradictory.
    """
    while True:
        single = double = triple = 0  # cells with at least one, two, three candidates
        for cells in places:
            triple |= double & cells
            double |= single & cells
            single |= cells
        if single != masks.board:
            return None
        forced = single & ~double & ~settled
        if forced:
            settled |= forced
            for digit, cells in enumerate(places):
                for cell in _members(cells & forced):
                    places[digit] &= ~masks.peers[cell]
            continue
        only_places = _only_places(places, double, masks)
        if not only_places:
            return settled, double & ~triple or double
        for digit, cell_bit in only_places:
            for other in range(len(places)):
                if other != digit:
                    places[other] &= ~cell_bit


def _only_places(places: list[int], unsettled: int, masks: _Masks) -> list[tuple[int, int]]:
    """Digits that have one place left in some unit, each with the bit of that cell."""
    only = []
    for digit, cells in enumerate(places):
        if cells & unsettled:
            for unit in masks.units:
                candidates = cells & unit
                if candidates & unsettled and not candidates & (candidates - 1):
                    only.append((digit, candidates))
    return only


def solve(grid: np.ndarray, box: Box, limit: int = 2, rng: np.random.Generator | None = None) -> np.ndarray:
    """Up to `limit` solutions of a puzzle, (k, cells) int8: none if the givens contradict, one if it is a true Sudoku.

    Depth-first search over the forced cells and a cell with the fewest candidates. `rng` shuffles the guesses, which
    turns the empty grid into a source of random full grids. Raises ValueError for a grid of the wrong shape or digits,
    or one that `BUDGET` boards do not decide.
    """
    return _search(grid, box, limit, rng)[0]


def guesses(grid: np.ndarray, box: Box) -> int:
    """How hard a puzzle is for `solve`: boards it tries until there is no second solution; 0 where cells are forced one
    after another. Raises ValueError as `solve`."""
    return _search(grid, box, 2, None)[1] - 1


def _search(grid: np.ndarray, box: Box, limit: int, rng: np.random.Generator | None) -> tuple[np.ndarray, int]:
    """Solutions, and the number of boards that were looked at."""
    digits = np.asarray(grid).tolist()
    if np.shape(grid) != (box.cells,) or not all(0 <= digit <= box.side for digit in digits):
        raise ValueError(f"a grid must be ({box.cells},) digits 0 to {box.side}, got shape {np.shape(grid)}")
    masks = _masks(box)
    start = [masks.board] * box.side
    for cell, given in enumerate(digits):
        if given:
            for digit in range(box.side):
                if digit != given - 1:
                    start[digit] &= ~(1 << cell)

    solutions: list[list[int]] = []
    open_boards, seen = [(start, 0)], 0
    while open_boards and len(solutions) < limit:
        seen += 1
        if seen > BUDGET:
            raise ValueError(f"undecided after {BUDGET:,} boards: probably no solution, or many givens are missing")
        places, settled = open_boards.pop()
        progress = _propagate(places, settled, masks)
        if progress is None:
            continue
        settled, open_cells = progress
        if not open_cells:
            solutions.append(_digits(places, box))
            continue
        cell_bit = open_cells & -open_cells
        candidates = [digit for digit in range(box.side) if places[digit] & cell_bit]
        for digit in candidates if rng is None else rng.permutation(candidates):
            guess = [cells if other == digit else cells & ~cell_bit for other, cells in enumerate(places)]
            open_boards.append((guess, settled))
    return np.array(solutions, dtype=np.int8).reshape(-1, box.cells), seen


def _digits(places: list[int], box: Box) -> list[int]:
    solution = [0] * box.cells
    for digit, cells in enumerate(places, start=1):
        for cell in _members(cells):
            solution[cell] = digit
    return solution


@cache
def all_grids(box: Box) -> np.ndarray:
    """Every complete grid, (288, 16) for 4x4; ValueError for larger boards, where the list is out of reach."""
    if box.side > 4:
        raise ValueError(f"a {box.side}x{box.side} board has too many grids to list (6x6 already 28 million)")
    grids = solve(np.zeros(box.cells, np.int8), box, limit=1000)
    grids.setflags(write=False)
    return grids


def random_grid(box: Box, rng: np.random.Generator) -> np.ndarray:
    """A random complete grid, (cells,); varied but not exactly uniform over all grids."""
    return solve(np.zeros(box.cells, np.int8), box, limit=1, rng=rng)[0]
