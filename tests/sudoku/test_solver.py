"""The rules and the solver, judged against enumeration that shares no code with them."""

from itertools import combinations, permutations, product

import numpy as np
import pytest

from trm_jax.sudoku.solver import (
    Box,
    all_grids,
    count_completions,
    guesses,
    has_conflict,
    is_solution,
    random_grid,
    relabelling_form,
    solve,
    units,
)

SMALL, MIDDLE, LARGE = Box(2, 2), Box(2, 3), Box(3, 3)


@pytest.fixture(scope="module")
def every_grid() -> np.ndarray:
    """All 4x4 grids, by trying all 24**4 stacks of rows that are permutations."""
    rows = np.array(list(permutations([1, 2, 3, 4])), dtype=np.int8)
    grids = rows[np.array(list(product(range(24), repeat=4)))]
    columns = grids.swapaxes(1, 2)
    boxes = np.stack([grids[:, r : r + 2, c : c + 2].reshape(-1, 4) for r in (0, 2) for c in (0, 2)], axis=1)
    good = [(np.sort(lines, axis=2) == [1, 2, 3, 4]).all(axis=(1, 2)) for lines in (columns, boxes)]
    return grids[good[0] & good[1]].reshape(-1, 16)


def completions(puzzle: np.ndarray, every_grid: np.ndarray) -> set[bytes]:
    return as_set(every_grid[((puzzle == 0) | (every_grid == puzzle)).all(axis=1)])


def as_set(grids: np.ndarray) -> set[bytes]:
    return {grid.astype(np.int8).tobytes() for grid in grids}


def renamed(grid: np.ndarray) -> tuple[int, ...]:
    """The grid with its digits numbered in order of appearance: the test's own idea of a relabelling class."""
    order: dict[int, int] = {}
    return tuple(order.setdefault(digit, len(order)) for digit in grid.tolist())


def test_box_gives_the_board_and_refuses_what_is_none() -> None:
    assert [Box.from_side(side) for side in (4, 6, 9, 16)] == [SMALL, MIDDLE, LARGE, Box(4, 4)]
    assert (MIDDLE.side, MIDDLE.cells) == (6, 36)
    for side in (0, 5, 25):
        with pytest.raises(ValueError, match=f"side {side}: choose 4, 6, 9 or 16"):
            Box.from_side(side)
    with pytest.raises(ValueError, match="4 x 5"):
        Box(4, 5)


def test_units_of_a_board_with_oblong_boxes() -> None:
    rows, columns, boxes = units(MIDDLE).reshape(3, 6, 6).tolist()
    assert rows[1] == [6, 7, 8, 9, 10, 11]
    assert columns[1] == [1, 7, 13, 19, 25, 31]
    assert boxes[:3] == [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11], [12, 13, 14, 18, 19, 20]]


def test_all_grids_are_the_288_found_by_brute_force(every_grid: np.ndarray) -> None:
    assert len(all_grids(SMALL)) == len(every_grid) == 288
    assert as_set(all_grids(SMALL)) == as_set(every_grid)
    with pytest.raises(ValueError, match="too many grids"):
        all_grids(MIDDLE)


def test_twelve_relabelling_classes_in_two_orbits(every_grid: np.ndarray) -> None:
    forms = relabelling_form(every_grid, SMALL)
    assert (forms[:, :4] == [1, 2, 3, 4]).all()
    by_form = {(form.tobytes(), renamed(grid)) for form, grid in zip(forms, every_grid, strict=True)}
    assert len(by_form) == len({form for form, _ in by_form}) == len({names for _, names in by_form}) == 12

    index = np.arange(16).reshape(4, 4)
    swaps = [[1, 0, 2, 3], [2, 3, 0, 1]]  # these and the transpose generate all symmetries
    moves = [index.T.ravel(), *(index[swap].ravel() for swap in swaps)]
    classes = as_set(forms)
    orbits = []
    while classes:
        orbit, frontier = set(), {classes.pop()}
        while frontier:
            orbit |= frontier
            grids = np.array([np.frombuffer(form, np.int8) for form in frontier])
            frontier = set().union(*(as_set(relabelling_form(grids[:, move], SMALL)) for move in moves)) - orbit
        orbits.append(len(orbit))
        classes -= orbit
    assert sorted(orbits) == [4, 8]


def test_solver_finds_exactly_the_completions(every_grid: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    outcomes = set()
    for trial in range(400):
        puzzle = every_grid[rng.integers(288)] if trial % 4 else rng.integers(1, 5, 16).astype(np.int8)
        puzzle = np.where(rng.random(16) < rng.uniform(0.4, 1.0), 0, puzzle).astype(np.int8)
        expected = completions(puzzle, every_grid)
        found = solve(puzzle, SMALL, limit=288)
        assert len(found) == len(expected) and as_set(found) == expected
        assert len(solve(puzzle, SMALL)) == min(2, len(expected))
        assert count_completions(puzzle[None], all_grids(SMALL), SMALL) == len(expected)
        outcomes.add(min(2, len(expected)))
    assert outcomes == {0, 1, 2}


def test_share_of_random_blankings_with_several_solutions(every_grid: np.ndarray) -> None:
    masks = np.ones((12870, 16), dtype=np.int8)
    for mask, blank in zip(masks, combinations(range(16), 8), strict=True):
        mask[list(blank)] = 0
    one_of_each_class = np.unique(relabelling_form(every_grid, SMALL), axis=0)
    ambiguous = [(count_completions(masks * grid, every_grid, SMALL) > 1).sum() for grid in one_of_each_class]
    # The share depends on the orbit. The 18.9 % in circulation weigh the orbits 1 to 3, as filling a grid cell by
    # cell at random does; over all grids alike it is 1 to 2 and 20.1 %.
    assert sorted(ambiguous) == [1980] * 8 + [3806] * 4
    assert np.mean(ambiguous) / 12870 == pytest.approx(0.2011, abs=1e-4)
    assert np.average([3806, 1980], weights=[1, 3]) / 12870 == pytest.approx(0.189, abs=1e-3)
    rng = np.random.default_rng(0)
    sampled = masks[rng.integers(12870, size=4000)] * every_grid[rng.integers(288, size=4000)]
    several = [len(solve(puzzle, SMALL)) > 1 for puzzle in sampled]
    assert np.mean(several) == pytest.approx(0.2011, abs=0.025)


@pytest.mark.parametrize("box", [MIDDLE, LARGE])
def test_solver_on_larger_boards(box: Box) -> None:
    rng = np.random.default_rng(1)
    grids = np.stack([random_grid(box, rng) for _ in range(5)])
    assert is_solution(grids, box).all() and len(as_set(grids)) == 5
    assert len(solve(np.zeros(box.cells, np.int8), box, limit=7)) == 7
    # Four blanks in a rectangle of two digits can be filled in two ways.
    grid = grids[0].reshape(box.side, box.side)
    pairs = [
        (row, other, np.flatnonzero(grid[row] == digit)[0], np.flatnonzero(grid[other] == digit)[0])
        for row in range(box.side)
        for other in range(row + 1, box.side)
        if row // box.rows == other // box.rows
        for digit in range(1, box.side + 1)
    ]
    for row, other, first, second in pairs:
        corners = np.ix_([row, other], [first, second])
        puzzle = grid.copy()
        puzzle[corners] = 0
        expected = 2 if grid[row, second] == grid[other, first] else 1
        assert len(solve(puzzle.ravel(), box)) == expected
    contradiction = np.where(np.arange(box.cells) == 1, grids[0][0], grids[0])
    assert solve(contradiction, box).shape == (0, box.cells)
    for malformed in (np.zeros(box.cells - 1), np.full(box.cells, box.side + 1), np.full(box.cells, -1)):
        with pytest.raises(ValueError, match="a grid must be"):
            solve(malformed, box)


@pytest.mark.parametrize("box", [SMALL, MIDDLE, LARGE])
def test_conflict_of_every_digit_in_every_unit(box: Box) -> None:
    assert not has_conflict(np.zeros(box.cells, np.int8), box)
    for unit, digit in product(units(box), range(1, box.side + 1)):
        grid = np.zeros(box.cells, np.int8)
        grid[unit[-1]] = digit
        assert not has_conflict(grid, box)
        grid[unit[0]] = digit
        assert has_conflict(grid, box)
        assert not is_solution(grid, box)


def test_forced_cells_need_no_guess_and_a_hard_puzzle_many():
    easy = all_grids(Box(2, 2))[0].copy()
    easy[[0, 5, 10]] = 0
    assert guesses(easy, Box(2, 2)) == 0
    # "AI Escargot" by Arto Inkala, published as the hardest of 2006.
    escargot = "1....7.9..3..2...8..96..5....53..9...1..8...26....4...3......1..4......7..7...3.."
    hard = np.array([0 if digit == "." else int(digit) for digit in escargot], np.int8)
    assert guesses(hard, Box(3, 3)) > 10
    assert len(solve(hard, Box(3, 3))) == 1
