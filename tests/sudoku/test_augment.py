"""Augmentation keeps a Sudoku a Sudoku, reaches every symmetry, and never leads to a held-out solution."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trm_jax.sudoku.augment import augment_sudoku, fingerprints, sudoku_symmetry
from trm_jax.sudoku.puzzles import PAD, Puzzles, Splits, generate, split_puzzles, to_digits, to_tokens
from trm_jax.sudoku.solver import Box, all_grids, count_completions, is_solution, relabelling_form, solve

SMALL, MIDDLE, LARGE = Box(2, 2), Box(2, 3), Box(3, 3)
BATCH = 1024
NOTHING = np.zeros((4, 16), np.int8)  # forbids no grid, in the shape of the list of a 4x4 split

augment = jax.jit(augment_sudoku, static_argnames="box")


def augmented(puzzles: Puzzles, box: Box, held_out: np.ndarray, seed: int = 0) -> Puzzles:
    inputs, labels = augment(jax.random.key(seed), *to_tokens(puzzles), box, fingerprints(held_out, box))
    assert inputs.dtype == labels.dtype == jnp.int32
    return Puzzles(to_digits(inputs), to_digits(labels))


def repeated(puzzles: Puzzles, count: int = BATCH) -> Puzzles:
    return Puzzles(*(np.resize(array, (count, array.shape[1])) for array in puzzles))


def forms(solutions: np.ndarray, box: Box) -> list[bytes]:
    return [form.tobytes() for form in relabelling_form(solutions, box)]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return split_puzzles(SMALL, (7, 9), BATCH, 64, 64, seed=0)


@pytest.mark.parametrize("box", [SMALL, MIDDLE, LARGE])
def test_symmetry_keeps_rules_and_transposes_square_boxes_only(box: Box) -> None:
    keys = jax.random.split(jax.random.key(0), 2000)
    index = np.asarray(jax.jit(jax.vmap(partial(sudoku_symmetry, box=box)))(keys))
    assert index.dtype == np.int32
    assert (np.sort(index, axis=1) == np.arange(box.cells)).all()
    boards = index.reshape(-1, box.side, box.side)
    first_row = boards[:, 0]
    transposed = (first_row % box.side == first_row[:, :1] % box.side).all(axis=1)
    assert transposed.mean() == (0 if box == MIDDLE else pytest.approx(0.5, abs=0.05))
    # Every cell of the board comes to the corner, so bands, stacks and the lines in them are all shuffled.
    assert len(set(index[:, 0])) == box.cells


@pytest.mark.parametrize(("box", "blanks"), [(SMALL, (7, 9)), (MIDDLE, (14, 18)), (LARGE, (35, 45))])
def test_augmented_puzzles_are_puzzles_with_the_augmented_solution(box: Box, blanks: tuple[int, int]) -> None:
    original = repeated(generate(12, box, blanks, seed=0))
    puzzles, solutions = augmented(original, box, np.zeros((0, box.cells), np.int8))
    assert is_solution(solutions, box).all()
    assert np.array_equal(puzzles, np.where(puzzles == 0, 0, solutions))
    assert np.array_equal((puzzles == 0).sum(axis=1), (original.puzzles == 0).sum(axis=1))
    assert len({puzzle.tobytes() for puzzle in puzzles}) > 0.9 * BATCH
    if box == SMALL:
        assert (count_completions(puzzles, all_grids(box), box) == 1).all()
    else:
        for puzzle, solution in zip(puzzles[:12], solutions[:12], strict=True):
            assert solve(puzzle, box).tolist() == [solution.tolist()]


def test_all_grids_are_images_of_two(splits: Splits) -> None:
    reached = set()
    for solution in splits.train.solutions[:20]:
        one = repeated(Puzzles(solution[None], solution[None]))
        images = {grid.tobytes() for seed in range(2) for grid in augmented(one, SMALL, NOTHING, seed).solutions}
        assert len(images) in (96, 192)
        reached |= images
    assert len(reached) == 288


@pytest.mark.parametrize(("box", "blanks", "leaking"), [(SMALL, (7, 9), 0.1), (MIDDLE, (8, 8), 0.002)])
def test_held_out_solutions_are_never_shown(box: Box, blanks: tuple[int, int], leaking: float) -> None:
    splits = split_puzzles(box, blanks, 100, 150, 150, seed=0)
    train = repeated(splits.train)
    forbidden = set(forms(splits.held_out, box))
    leaks_without_guard = 0
    for seed in range(8):
        unguarded = augmented(train, box, np.zeros_like(splits.held_out), seed)
        guarded = augmented(train, box, splits.held_out, seed)
        leaks = np.array([form in forbidden for form in forms(unguarded.solutions, box)])
        leaks_without_guard += leaks.sum()
        assert not forbidden & set(forms(guarded.solutions, box))
        # Where nothing leaks the guard changes nothing; where it would, only the digits are renamed.
        assert np.array_equal(guarded.solutions[~leaks], unguarded.solutions[~leaks])
        assert np.array_equal(guarded.puzzles[~leaks], unguarded.puzzles[~leaks])
        assert np.array_equal(guarded.puzzles[leaks] == 0, train.puzzles[leaks] == 0)
        assert forms(guarded.solutions[leaks], box) == forms(train.solutions[leaks], box)
        assert (guarded.solutions[leaks] != train.solutions[leaks]).any(axis=1).mean() > 0.8
    assert leaks_without_guard > leaking * 8 * BATCH


def test_samples_and_keys_vary_and_equal_keys_do_not(splits: Splits) -> None:
    one = repeated(Puzzles(*(array[:1] for array in splits.train)))
    puzzles = augmented(one, SMALL, NOTHING).puzzles
    assert len({tuple(np.flatnonzero(puzzle)) for puzzle in puzzles}) > 50
    assert len({puzzle.tobytes() for puzzle in puzzles}) > 500
    assert np.array_equal(puzzles, augmented(one, SMALL, NOTHING).puzzles)
    assert not np.array_equal(puzzles, augmented(one, SMALL, NOTHING, seed=1).puzzles)


def test_padding_stays(splits: Splits) -> None:
    inputs, labels = to_tokens(splits.train)
    held_out = fingerprints(splits.held_out, SMALL)
    full = augment(jax.random.key(0), inputs, labels, SMALL, held_out)
    inputs[-3:] = PAD
    padded = augment(jax.random.key(0), inputs, labels, SMALL, held_out)
    assert (padded[0][-3:] == PAD).all() and np.array_equal(padded[0][:-3], full[0][:-3])
    assert np.array_equal(padded[1], full[1])


def test_the_program_holds_no_constant_that_grows_with_the_held_out_grids(splits: Splits) -> None:
    arrays = [jax.ShapeDtypeStruct((8, 16), jnp.int32)] * 2
    for count in (4, 4000):
        forms = jax.ShapeDtypeStruct((count,), jnp.uint32)
        traced = jax.make_jaxpr(partial(augment_sudoku, box=SMALL))(jax.random.key(0), *arrays, held_out=forms)
        assert sum(np.size(constant) for constant in traced.consts) < 100


def test_sequences_of_another_length_are_refused(splits: Splits) -> None:
    inputs, labels = to_tokens(splits.train)
    with pytest.raises(ValueError, match=r"must both be \(B, 36\)"):
        augment(jax.random.key(0), inputs, labels, MIDDLE, fingerprints(NOTHING, SMALL))
    with pytest.raises(ValueError, match="must both be"):
        augment(jax.random.key(0), inputs, labels[:, :8], SMALL, fingerprints(NOTHING, SMALL))
