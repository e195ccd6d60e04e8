"""Evaluation of all N_sup supervision steps on padded batches."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trm_jax import model
from trm_jax.config import Config
from trm_jax.seeds import share_batch


class Predictions(NamedTuple):
    """What a model answers after each supervision step."""

    classes: Any  # (N_sup, N, L) or (N_sup, N) most probable class
    halt: Any  # (N_sup, N) probability that the whole answer is right


def predict(config: Config, params, inputs, puzzle=None, batch: int = 256) -> Predictions:
    """Predict for inputs (N, cells) with every supervision step, in batches; the last one is padded, then trimmed."""
    size = len(inputs)
    batch = min(batch, size)
    batches = -(-size // batch)

    def pad(values):
        padded = jnp.pad(values, ((0, batches * batch - size), *((0, 0),) * (values.ndim - 1)))
        return padded.reshape(batches, batch, *values.shape[1:])

    def one(arguments):
        readings = model.forward(config, params, *share_batch(arguments))
        return Predictions(readings.logits.argmax(axis=-1).astype(jnp.int16), jax.nn.sigmoid(readings.halt))

    arguments = (pad(inputs), None if puzzle is None else pad(puzzle))
    predictions = jax.lax.map(one, arguments)  # leading axis: batches

    def join(values):
        joined = jnp.moveaxis(values, 0, 1)
        return joined.reshape(joined.shape[0], -1, *joined.shape[3:])[:, :size]

    return jax.tree.map(join, predictions)
