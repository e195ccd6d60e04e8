"""Evaluation of all N_sup supervision steps on padded batches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.core.sharding import share_batch


class Predictions(NamedTuple):
    """What a model answers after each supervision step."""

    classes: Any  # (N_sup, N, L) or (N_sup, N) most probable class
    halt: Any  # (N_sup, N) probability that the whole answer is right


def predict(config: Config, params, inputs, puzzle=None, batch: int = 256) -> Predictions:
    """Predict for N inputs with every supervision step, in batches; the last one is padded, then trimmed."""

    def answer(reading: model.Reading) -> Predictions:
        return Predictions(reading.logits.argmax(axis=-1).astype(jnp.int16), jax.nn.sigmoid(reading.halt))

    return in_batches(config, params, inputs, puzzle, batch, answer)


def readings(config: Config, params, inputs, puzzle=None, batch: int = 256) -> model.Reading:
    """What the heads say of N inputs after every supervision step, each leaf (N_sup, N, ...), computed in batches."""
    return in_batches(config, params, inputs, puzzle, batch, lambda reading: reading)


def in_batches(config: Config, params, inputs, puzzle, batch: int, keep: Callable[[model.Reading], Any]) -> Any:
    """``keep`` of the readings of N inputs; a whole batch of readings at a time is in memory, not all of them."""
    size = len(inputs)
    batch = min(batch, size)

    def one(arguments):
        return keep(model.forward(config, params, *share_batch(arguments)))

    kept = jax.lax.map(one, divide((inputs, puzzle), batch))  # leading axis: batches

    def join(values):
        joined = jnp.moveaxis(values, 0, 1)
        return joined.reshape(joined.shape[0], -1, *joined.shape[3:])[:, :size]

    return jax.tree.map(join, kept)


def divide(tree, batch: int):
    """Arrays (N, ...) as batches (batches, B, ...), the last one padded with zeros."""

    def pad(values):
        batches = -(-len(values) // batch)
        padded = jnp.pad(values, ((0, batches * batch - len(values)), *((0, 0),) * (values.ndim - 1)))
        return padded.reshape(batches, batch, *values.shape[1:])

    return jax.tree.map(pad, tree)
