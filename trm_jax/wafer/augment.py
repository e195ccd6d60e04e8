"""Wafer augmentation inside the jitted training step: what a wafer may look like and still mean the same.

Turning or mirroring a wafer keeps its pattern, and a few more random failures do too. Moving or cropping it does not:
where on the wafer dies fail is the diagnosis. The shape of the wafer is kept exactly.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Augmentation:
    """How grids are changed, by options of `WaferTask`; hashable, so that it can be a static argument."""

    untouched: float = 0.3
    compose: bool = False
    noise: tuple[float, float] = (0.01, 0.02)


def augment_wafers(key: jax.Array, grids: jax.Array, options: Augmentation) -> jax.Array:
    """Change every grid by draws of its own; (B, size, size, 2) failing and die part of each cell, uint8, as `to_grid`.

    Channels behind these two are turned and mirrored with them. Pure function of the key; ``options`` is static under
    jit.
    """
    keys = jax.random.split(key, len(grids))
    return jax.vmap(lambda key, grid: _augment(key, grid, options))(keys, grids)


def _augment(key: jax.Array, grid: jax.Array, options: Augmentation) -> jax.Array:
    touch_key, kind_key, turn_key, mirror_key, noise_key = jax.random.split(key, 5)
    kind = jax.random.randint(kind_key, (), 0, 3)
    turns, mirrors, noisy = (jnp.full((), True) if options.compose else kind == number for number in range(3))
    # A single turn or mirror always moves something; together they reach all eight images of a square alike.
    quarter = jax.random.randint(turn_key, (), 0 if options.compose else 1, 4)
    sideways = jax.random.bernoulli(mirror_key)
    changed = jnp.where(turns, quarter_turns(grid, quarter), grid)
    other = changed if options.compose else changed[::-1]
    changed = jnp.where(mirrors, jnp.where(sideways, changed[:, ::-1], other), changed)
    changed = jnp.where(noisy, add_failures(noise_key, changed, options.noise), changed)
    return jnp.where(jax.random.bernoulli(touch_key, options.untouched), grid, changed)


def quarter_turns(grid: jax.Array, turns: jax.Array) -> jax.Array:
    """Turn a grid (size, size, C) counter-clockwise by a traced number of quarter turns, 0 to 3."""
    half = jnp.where(turns >= 2, grid[::-1, ::-1], grid)
    return jnp.where(turns % 2 == 1, half.swapaxes(0, 1)[::-1], half)


def add_failures(key: jax.Array, grid: jax.Array, share: tuple[float, float]) -> jax.Array:
    """Let the passing dies of a random share of the cells fail; the die part of every cell stays what it is."""
    share_key, cell_key = jax.random.split(key)
    probability = jax.random.uniform(share_key, (), minval=share[0], maxval=share[1])
    hit = jax.random.bernoulli(cell_key, probability, grid.shape[:2])
    failing, dies = grid[..., :1], grid[..., 1:2]
    return jnp.concatenate([jnp.where(hit[..., None], dies, failing), grid[..., 1:]], axis=-1)
