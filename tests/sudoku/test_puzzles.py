"""The generator, the splits, tokens and score of Sudoku."""

import numpy as np
import pytest

from trm_jax.sudoku.puzzles import PAD, generate, score, split_puzzles, to_digits, to_tokens, vocabulary
from trm_jax.sudoku.solver import Box, all_grids, random_grid, solve

SMALL, MIDDLE, LARGE = Box(2, 2), Box(2, 3), Box(3, 3)


def as_set(grids: np.ndarray) -> set[bytes]:
    return {grid.astype(np.int8).tobytes() for grid in grids}


def renamed(grid: np.ndarray) -> tuple[int, ...]:
    """The grid with its digits numbered in order of appearance: the test's own idea of a relabelling class."""
    order: dict[int, int] = {}
    return tuple(order.setdefault(digit, len(order)) for digit in grid.tolist())


# Generator


def test_generated_puzzles_are_distinct_and_have_one_solution() -> None:
    puzzles, solutions = generate(2000, SMALL, (6, 9), seed=3)
    assert len(as_set(puzzles)) == 2000
    for puzzle, solution in zip(puzzles, solutions, strict=True):
        completions = all_grids(SMALL)[((puzzle == 0) | (all_grids(SMALL) == puzzle)).all(axis=1)]
        assert completions.tolist() == [solution.tolist()]
    share = np.bincount((puzzles == 0).sum(axis=1), minlength=11)[6:11] / 2000
    assert share[:4] == pytest.approx(0.25, abs=0.04) and share[4] == 0


@pytest.mark.parametrize(("box", "blanks"), [(MIDDLE, (14, 20)), (LARGE, (40, 50))])
def test_generated_puzzles_on_larger_boards(box: Box, blanks: tuple[int, int]) -> None:
    puzzles, solutions = generate(20, box, blanks, seed=0)
    counts = (puzzles == 0).sum(axis=1)
    assert counts.min() >= blanks[0] and counts.max() <= blanks[1] and len(set(counts)) > 3
    for puzzle, solution in zip(puzzles, solutions, strict=True):
        assert solve(puzzle, box).tolist() == [solution.tolist()]


def test_generation_follows_the_seed() -> None:
    for box, blanks in [(SMALL, (8, 8)), (LARGE, (30, 40))]:
        one, same, other = (generate(10, box, blanks, seed) for seed in (0, 0, 1))
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)


def test_every_grid_of_the_pool_is_used_before_one_comes_again() -> None:
    pool = all_grids(SMALL)[5:45]
    solutions = generate(40, SMALL, (1, 1), seed=0, grids=pool).solutions
    assert as_set(solutions) == as_set(pool)
    assert len(generate(288, SMALL, (0, 0), seed=0).puzzles) == 288


@pytest.mark.parametrize(
    ("count", "box", "blanks", "reason"),
    [
        (289, SMALL, (0, 0), "found only 288 of 289"),
        (1, SMALL, (8, 13), "13 blanks leave 3 givens.*at least 4"),
        (1, LARGE, (50, 65), "65 blanks leave 16 givens.*at least 17"),
        (1, SMALL, (9, 8), "low <= high"),
        (1, SMALL, (0, 17), "<= 16"),
    ],
)
def test_impossible_requests_are_refused(count: int, box: Box, blanks: tuple[int, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        generate(count, box, blanks, seed=0)


def test_a_pool_must_hold_solutions() -> None:
    for pool in (np.zeros((0, 16), np.int8), np.ones((3, 16), np.int8), np.ones((1, 81), np.int8)):
        with pytest.raises(ValueError, match="complete 4x4 solutions"):
            generate(1, SMALL, (1, 1), seed=0, grids=pool)
    for box in (SMALL, MIDDLE):
        pool = random_grid(box, np.random.default_rng(0))[None]
        with pytest.raises(ValueError, match=f"found only {box.cells} of {box.cells + 1}"):
            generate(box.cells + 1, box, (1, 1), seed=0, grids=pool)


# Splits


def test_split_by_class_shares_no_relabelled_solution() -> None:
    divisions = set()
    for seed in range(6):
        splits = split_puzzles(SMALL, (6, 8), 300, 60, 60, seed)
        parts = (splits.train, splits.validation, splits.test)
        train, validation, test = ({renamed(grid) for grid in part.solutions} for part in parts)
        assert (len(train), len(validation), len(test)) == (8, 2, 2)
        assert not train & validation and not train & test and not validation & test
        assert [len(part.puzzles) for part in parts] == [300, 60, 60]
        assert {renamed(form) for form in splits.held_out} == validation | test and splits.held_out.shape == (4, 16)
        assert splits.overlap == 0
        divisions.add(frozenset(test))
    assert len(divisions) > 1
    again = split_puzzles(SMALL, (6, 8), 300, 60, 60, seed)
    assert np.array_equal(again.held_out, splits.held_out)
    assert all(np.array_equal(one, same) for one, same in zip(again[:3], splits[:3], strict=True))


def test_a_leak_between_the_parts_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trm_jax.sudoku.puzzles._divide_by_class", lambda box, counts, rng: [all_grids(box)] * 3)
    with pytest.raises(RuntimeError, match="a validation or test solution is among the training puzzles"):
        split_puzzles(SMALL, (8, 8), 50, 10, 10, seed=0)


def test_random_split_states_its_overlap() -> None:
    assert split_puzzles(SMALL, (8, 8), 300, 50, 50, seed=0, by="random").overlap == 1
    splits = split_puzzles(SMALL, (8, 8), 6, 5, 40, seed=0, by="random")
    train = {renamed(grid) for grid in splits.train.solutions}
    expected = np.mean([renamed(grid) in train for grid in splits.test.solutions])
    assert 0 < expected < 1 and splits.overlap == pytest.approx(expected)
    assert splits.held_out.shape == (0, 16)
    with pytest.raises(ValueError, match="'lot'"):
        split_puzzles(SMALL, (8, 8), 1, 1, 1, seed=0, by="lot")  # type: ignore[arg-type]


def test_split_by_class_on_larger_boards() -> None:
    splits = split_puzzles(MIDDLE, (10, 12), 60, 20, 20, seed=0)
    train, validation, test = ({renamed(grid) for grid in part.solutions} for part in splits[:3])
    assert not train & validation and not train & test and not validation & test
    held_out = {renamed(form) for form in splits.held_out}
    assert validation | test <= held_out and not train & held_out
    large = split_puzzles(LARGE, (20, 25), 4, 2, 2, seed=0)
    assert large.held_out.shape == (0, 81) and large.overlap == 0
    assert split_puzzles(SMALL, (8, 8), 20, 0, 0, seed=0).overlap == 0


# Tokens and score


def test_tokens_and_back() -> None:
    puzzles = generate(50, SMALL, (6, 9), seed=0)
    inputs, labels = to_tokens(puzzles)
    assert inputs.dtype == labels.dtype == np.int32
    assert inputs.min() == 1 and inputs.max() == vocabulary(SMALL) - 1 == 5
    assert np.array_equal(to_digits(inputs), puzzles.puzzles) and np.array_equal(to_digits(labels), puzzles.solutions)
    assert to_digits(np.array([PAD, 1, 2, 10])).tolist() == [0, 0, 1, 9]


def test_score_of_hand_made_predictions() -> None:
    solution = np.array([1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1])
    puzzle = solution.copy()
    puzzle[[0, 1, 8, 9]] = 0  # 1 2 over 2 1: these digits may be exchanged
    exchanged = solution.copy()
    exchanged[[0, 1, 8, 9]] = [2, 1, 1, 2]
    one_wrong = np.where(np.arange(16) == 0, 2, solution)
    given_lost = np.where(np.arange(16) == 15, 0, solution)
    other_grid = solution % 4 + 1  # a valid grid, but not of this puzzle
    out_of_range = np.where(np.arange(16) == 0, 9, solution)
    predictions = np.stack([solution, exchanged, one_wrong, given_lost, other_grid, out_of_range])
    measures = score(predictions, puzzle, solution, SMALL)
    assert {name: values.tolist() for name, values in measures.items()} == {
        "exact": [1, 0, 0, 0, 0, 0],
        "exact_blanks": [1, 0, 0, 1, 0, 0],
        "valid": [1, 1, 0, 0, 0, 0],
        "cells": [1, 12 / 16, 15 / 16, 15 / 16, 0, 15 / 16],
        "cells_blanks": [1, 0, 3 / 4, 1, 0, 3 / 4],
    }


def test_score_keeps_leading_axes() -> None:
    puzzles, solutions = generate(7, LARGE, (0, 30), seed=0)
    steps = np.stack([np.zeros_like(solutions), puzzles, solutions])
    measures = score(steps, puzzles, solutions, LARGE)
    assert all(values.shape == (3, 7) and values.dtype == np.float32 for values in measures.values())
    assert measures["exact"].sum(axis=1).tolist() == measures["valid"].sum(axis=1).tolist() == [0, 0, 7]
    np.testing.assert_allclose(measures["cells"][1], 1 - (puzzles == 0).mean(axis=1), rtol=1e-6)
    complete = score(solutions, solutions, solutions, LARGE)
    assert all((values == 1).all() for values in complete.values())
