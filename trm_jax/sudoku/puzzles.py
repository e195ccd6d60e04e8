"""Sudoku as a data set: puzzles with one solution, splits that do not leak, tokens for a model, and its score.

Rules and solver are in `sudoku_solver`, files in `sudoku_csv`, augmentation inside the training step in `augment`.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np

from trm_jax.sudoku.solver import Box, all_grids, count_completions, is_solution, random_grid, relabelling_form, solve

PAD = 0  # tokens: PAD is 0, a blank is 1, digit d is d + 1

FEWEST_GIVENS = {Box(2, 2): 4, Box(2, 3): 8, Box(3, 3): 17}  # known minima for a single solution
PATIENCE = 10  # rounds of candidates without a new puzzle before `generate` gives up


class Puzzles(NamedTuple):
    """Puzzles and their solutions, both (N, cells) int8; a blank is 0."""

    puzzles: np.ndarray
    solutions: np.ndarray


class Splits(NamedTuple):
    """Train, validation and test puzzles, and how far the three are apart.

    `held_out` (C, cells) are relabelling forms that training must not show, not even through augmentation.
    `overlap` is the share of test puzzles whose solution, up to relabelling, is also a training solution.
    """

    train: Puzzles
    validation: Puzzles
    test: Puzzles
    held_out: np.ndarray
    overlap: float


def generate(
    count: int,
    box: Box,
    blanks: tuple[int, int],
    seed: int | np.random.SeedSequence,
    grids: np.ndarray | None = None,
) -> Puzzles:
    """Make `count` different puzzles, each with exactly one solution; equal seeds give equal puzzles.

    Every puzzle draws its number of blanks uniformly from `blanks = (low, high)`, both included. Solutions come from
    `grids` (G, cells), all of them before one is used again, or are random. 4x4 puzzles are random blankings that
    turned out to have one solution; larger ones are dug, cell by cell, as long as there is only one.
    Raises ValueError if `blanks` is not a range or leaves too few givens, if `grids` are not solutions, or if the
    search finds too few puzzles.
    """
    _check_blanks(blanks, box)
    if grids is not None and not (len(grids) and grids.shape[1:] == (box.cells,) and is_solution(grids, box).all()):
        raise ValueError(f"`grids` must be complete {box.side}x{box.side} solutions, at least one")
    rng = np.random.default_rng(seed)
    wanted = rng.integers(*blanks, size=count, endpoint=True)
    source = _solution_source(grids, box, rng)
    puzzles, solutions = np.zeros((2, count, box.cells), np.int8)
    filled = np.zeros(count, dtype=bool)
    seen: set[bytes] = set()
    fruitless_rounds = 0
    while not filled.all():
        # Whole rounds even for the last puzzles missing: rare ones need many candidates.
        slots = np.resize(np.flatnonzero(~filled), 4096 if box.side <= 4 else 16)
        candidates = np.stack(list(islice(source, len(slots))))
        blanked, unique = _blank_out(candidates, wanted[slots], box, rng)
        seen_before = len(seen)
        for index in np.flatnonzero(unique):
            slot, key = slots[index], blanked[index].tobytes()
            if not filled[slot] and key not in seen:
                seen.add(key)
                filled[slot] = True
                puzzles[slot], solutions[slot] = blanked[index], candidates[index]
        fruitless_rounds = 0 if len(seen) > seen_before else fruitless_rounds + 1
        if fruitless_rounds == PATIENCE:
            missing = wanted[~filled].max()
            raise ValueError(
                f"found only {len(seen)} of {count} different {box.side}x{box.side} puzzles with one solution, no "
                f"other with {missing} blanks: ask for fewer puzzles or another range of blanks than {blanks}"
            )
    return Puzzles(puzzles, solutions)


def _check_blanks(blanks: tuple[int, int], box: Box) -> None:
    low, high = blanks
    if not 0 <= low <= high <= box.cells:
        raise ValueError(f"blanks must be (low, high) with 0 <= low <= high <= {box.cells}, got {blanks}")
    fewest = FEWEST_GIVENS.get(box, box.side - 1)
    if box.cells - high < fewest:
        raise ValueError(
            f"{high} blanks leave {box.cells - high} givens; a {box.side}x{box.side} puzzle with one solution needs "
            f"at least {fewest}"
        )


def _solution_source(grids: np.ndarray | None, box: Box, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless complete grids: the pool in a new order each time round, or random ones."""
    if grids is None and box.side <= 4:
        grids = all_grids(box)
    while True:
        if grids is None:
            yield random_grid(box, rng)
        else:
            yield from rng.permutation(grids)


def _blank_out(
    solutions: np.ndarray, blanks: np.ndarray, box: Box, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Try to blank `blanks[i]` cells of `solutions[i]`: puzzles (N, cells), and which have their blanks and one
    solution (N,)."""
    if box.side <= 4:
        rank = rng.random(solutions.shape).argsort(axis=1).argsort(axis=1)
        puzzles = np.where(rank < blanks[:, None], 0, solutions).astype(np.int8)
        return puzzles, count_completions(puzzles, all_grids(box), box) == 1
    puzzles = np.stack([_dig(solution, blank, box, rng) for solution, blank in zip(solutions, blanks, strict=True)])
    return puzzles, np.count_nonzero(puzzles == 0, axis=1) == blanks


def _dig(solution: np.ndarray, blanks: int, box: Box, rng: np.random.Generator) -> np.ndarray:
    """Blank cells in random order while the solution stays the only one; may end with fewer blanks than asked."""
    puzzle = solution.copy()
    for cell in rng.permutation(box.cells):
        if np.count_nonzero(puzzle == 0) == blanks:
            break
        puzzle[cell] = 0
        if len(solve(puzzle, box, limit=2)) > 1:
            puzzle[cell] = solution[cell]
    return puzzle


def split_puzzles(
    box: Box,
    blanks: tuple[int, int],
    train: int,
    validation: int,
    test: int,
    seed: int,
    by: Literal["class", "random"] = "class",
) -> Splits:
    """Generate that many puzzles for training, validation and test, split by class of solution or, naively, at random.

    "class": no solution of validation or test, nor a relabelling of it, is a training solution. 4x4 divides its 12
    relabelling classes 8 / 2 / 2. Larger boards divide the classes of freshly drawn grids in proportion to the counts.
    The trap is augmentation by symmetry: it leads from one class to another (4x4 has only 2 orbits of classes, 6x6
    only 39,168 classes), so `held_out` lists all classes of validation and test for `augment` to avoid. On 9x9 it is
    (0, cells): among 1.8e16 classes augmentation does not hit a given few thousand.
    "random": one pool cut in three; it promises nothing, `held_out` is (0, cells) and `overlap` tells how much leaks.
    Raises ValueError for an unknown `by` and wherever `generate` does.
    """
    if by not in ("class", "random"):
        raise ValueError(f'by must be "class" or "random", got {by!r}')
    counts = (train, validation, test)
    pool_seed, *seeds = np.random.SeedSequence(seed).spawn(4)
    held_out = np.zeros((0, box.cells), np.int8)
    if by == "random":
        pool = generate(sum(counts), box, blanks, pool_seed)
        starts = (0, train, train + validation)
        parts = [
            Puzzles(*(array[start : start + n] for array in pool)) for start, n in zip(starts, counts, strict=True)
        ]
    else:
        pools = _divide_by_class(box, counts, np.random.default_rng(pool_seed))
        parts = [generate(n, box, blanks, s, grids) for n, s, grids in zip(counts, seeds, pools, strict=True)]
        if any(solution_overlap(part, parts[0], box) for part in parts[1:]):
            raise RuntimeError("a validation or test solution is among the training puzzles")
        if box.side < 9:
            held_out = np.unique(relabelling_form(np.concatenate(pools[1:]), box), axis=0)
    return Splits(parts[0], parts[1], parts[2], held_out, solution_overlap(parts[2], parts[0], box))


def _divide_by_class(box: Box, counts: tuple[int, int, int], rng: np.random.Generator) -> list[np.ndarray]:
    """Complete grids for train, validation and test, no relabelling class in more than one of them."""
    if box.side <= 4:
        grids, weights = all_grids(box), (8, 2, 2)
    else:
        grids, weights = np.stack([random_grid(box, rng) for _ in range(max(sum(counts), 64))]), counts
    classes, member = np.unique(relabelling_form(grids, box), axis=0, return_inverse=True)
    shuffled = rng.permutation(len(classes))
    validation, test = (max(1, weight * len(classes) // sum(weights)) for weight in weights[1:])
    held, train = np.split(shuffled, [validation + test])
    groups = (train, held[:validation], held[validation:])
    return [grids[np.isin(member, group)] for group in groups]


def solution_overlap(part: Puzzles, train: Puzzles, box: Box) -> float:
    """Share of the puzzles in `part` whose solution is a training solution up to relabelling; 0 if there are none."""
    train_forms = {form.tobytes() for form in relabelling_form(train.solutions, box)}
    leaks = [form.tobytes() in train_forms for form in relabelling_form(part.solutions, box)]
    return float(np.mean(leaks)) if leaks else 0.0


def vocabulary(box: Box) -> int:
    """Number of tokens: PAD, blank and the digits."""
    return box.side + 2


def to_tokens(puzzles: Puzzles) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels for a model, both (N, L) int32."""
    return puzzles.puzzles.astype(np.int32) + 1, puzzles.solutions.astype(np.int32) + 1


def to_digits(tokens: np.ndarray) -> np.ndarray:
    """Digits of tokens of any shape, as int8; PAD and blank become 0, which is not a digit."""
    return np.maximum(np.asarray(tokens) - 1, 0).astype(np.int8)


def score(predictions: np.ndarray, puzzles: np.ndarray, solutions: np.ndarray, box: Box) -> dict[str, np.ndarray]:
    """Judge predicted digits (..., N, cells), any leading axes: measures per puzzle, each (..., N) float32 in 0..1.

    `exact`, `exact_blanks`: all cells, all blanks equal the solution. `cells`, `cells_blanks`: the share that does; 1
    for a puzzle without blanks. `valid`: a complete grid that obeys the rules and keeps the givens, be it another
    than the labelled solution (a puzzle may have several).
    """
    right = predictions == solutions
    blank = puzzles == 0
    keeps_givens = (blank | (predictions == puzzles)).all(axis=-1)
    blanks = np.count_nonzero(blank, axis=-1)
    wrong_blanks = np.count_nonzero(blank & ~right, axis=-1)
    measures = {
        "exact": right.all(axis=-1),
        "exact_blanks": wrong_blanks == 0,
        "valid": is_solution(predictions, box) & keeps_givens,
        "cells": right.mean(axis=-1),
        "cells_blanks": 1 - wrong_blanks / np.maximum(blanks, 1),
    }
    return {name: np.asarray(measure, dtype=np.float32) for name, measure in measures.items()}
