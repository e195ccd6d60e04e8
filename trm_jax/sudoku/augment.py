"""Sudoku augmentation inside the jitted training step: pure functions of a key, shapes as in `sudoku.to_tokens`."""

import jax
import jax.numpy as jnp
import numpy as np

from trm_jax.sudoku.solver import Box


def sudoku_symmetry(key: jax.Array, box: Box) -> jax.Array:
    """A random symmetry of the board as a (cells,) int32 gather index: `grid[index]` is a Sudoku again.

    Shuffles bands, rows in bands, stacks and columns in stacks; transposes half the time if the box is square (the
    boxes of a transposed 6x6 board would have another shape).
    """
    row_key, column_key, transpose_key = jax.random.split(key, 3)
    rows = _shuffle_in_groups(row_key, box.cols, box.rows)
    columns = _shuffle_in_groups(column_key, box.rows, box.cols)
    index = rows[:, None] * box.side + columns[None, :]
    if box.rows == box.cols:
        index = jnp.where(jax.random.bernoulli(transpose_key), index.T, index)
    return index.reshape(-1)


def augment_sudoku(
    key: jax.Array, inputs: jax.Array, labels: jax.Array, box: Box, held_out: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Give each sample its own relabelling of digits and symmetry of the board; inputs and labels (B, cells) int32.

    PAD and blank keep their meaning. The trap: symmetries turn training solutions into held-out ones (all
    4x4 grids are images of just two), so where the image of a solution has its relabelling form in `held_out`
    (`fingerprints` of C forms) the sample keeps its geometry and only its digits change. `box` is static under jit.
    Raises ValueError for sequences that are not one
    board long.
    """
    if inputs.shape[-1] != box.cells or labels.shape != inputs.shape:
        raise ValueError(f"inputs {inputs.shape} and labels {labels.shape} must both be (B, {box.cells})")
    digit_keys, symmetry_keys = jax.random.split(key, (2, inputs.shape[0]))
    symmetry = jax.vmap(lambda key: sudoku_symmetry(key, box))(symmetry_keys)
    leaks = _is_held_out(jnp.take_along_axis(labels, symmetry, axis=1), box, held_out)
    symmetry = jnp.where(leaks[:, None], jnp.arange(box.cells)[None, :], symmetry)
    new_token = jax.vmap(lambda key: _relabelling(key, box))(digit_keys)

    def move_and_rename(tokens: jax.Array) -> jax.Array:
        return jnp.take_along_axis(new_token, jnp.take_along_axis(tokens, symmetry, axis=1), axis=1)

    return move_and_rename(inputs), move_and_rename(labels)


def _shuffle_in_groups(key: jax.Array, groups: int, size: int) -> jax.Array:
    """A random order of groups * size lines that keeps the lines of a group together, (groups * size,) int32."""
    noise = jax.random.uniform(key, (groups, size + 1))
    group_order = jnp.argsort(noise[:, 0])
    member_order = jnp.argsort(noise[:, 1:], axis=1)
    return (group_order[:, None] * size + member_order).reshape(-1).astype(jnp.int32)


def _relabelling(key: jax.Array, box: Box) -> jax.Array:
    """A random renaming of the digits as a table from token to token, (vocabulary,) int32; PAD and blank stay."""
    digits = jnp.argsort(jax.random.uniform(key, (box.side,))).astype(jnp.int32)
    return jnp.concatenate([jnp.array([0, 1], jnp.int32), digits + 2])


def _is_held_out(solutions: jax.Array, box: Box, held_out: jax.Array) -> jax.Array:
    """Whether each solution, tokens (B, cells), has a relabelling form in `held_out` (C,) fingerprints: (B,) bool."""
    new_digit = jnp.argsort(solutions[:, : box.side], axis=1) + 1
    forms = jnp.take_along_axis(new_digit, solutions - 2, axis=1)
    prints = (forms.astype(jnp.uint32) * _fingerprint_weights(box)).sum(axis=1)
    return (prints[:, None] == held_out[None, :]).any(axis=1)


def fingerprints(forms: np.ndarray, box: Box) -> np.ndarray:
    """32-bit fingerprints (C,) uint32 of relabelling forms (C, cells), made on the host.

    They keep the comparison with thousands of held-out grids cheap; a rare collision costs one symmetry.
    """
    return (forms.astype(np.uint32) * _fingerprint_weights(box)).sum(axis=1, dtype=np.uint32)


def _fingerprint_weights(box: Box) -> np.ndarray:
    return np.random.default_rng(0).integers(2**32, size=(1, box.cells), dtype=np.uint32)
