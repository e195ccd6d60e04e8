"""What a model answers to many inputs after each supervision step, in padded batches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.core.sharding import shard_batch
from trm_jax.core.task import Prediction

BATCH = 256
"""Inputs computed at a time."""
Reduce = Callable[[model.StepOutput], Any]


def most_probable(output: model.StepOutput) -> Prediction:
    """Classes and halting probabilities: what most scores need, and a fraction of the memory of logits."""
    return Prediction(output.logits.argmax(axis=-1).astype(jnp.int16), jax.nn.sigmoid(output.q_halt))


def everything(output: model.StepOutput) -> model.StepOutput:
    """Logits of classes and of halting, as they are."""
    return output


def last_step(output: model.StepOutput) -> model.StepOutput:
    """The same after the last supervision step alone."""
    return jax.tree.map(lambda leaf: leaf[-1:], output)


def predict(
    config: Config,
    params,
    inputs,
    puzzle=None,
    batch: int = BATCH,
    reduce: Reduce = most_probable,
    inference: bool = False,
) -> Any:
    """``reduce`` of what one model answers to N inputs, each leaf (N_sup, N, ...).

    Computed in batches, the last one padded and then trimmed: one batch of full outputs is in memory at a time.
    """
    size = len(inputs)
    batch = min(batch, size)

    def forward(arguments):
        inputs, puzzle = shard_batch(arguments)
        return reduce(model.forward(config, params, inputs, puzzle, inference))

    batches = jax.lax.map(forward, pad_to_batches((inputs, puzzle), batch))

    def join(values):
        joined = jnp.moveaxis(values, 0, 1)
        return joined.reshape(joined.shape[0], -1, *joined.shape[3:])[:, :size]

    return jax.tree.map(join, batches)


def pad_to_batches(tree, batch: int):
    """Arrays (N, ...) as batches (batches, B, ...), the last one padded with zeros."""

    def pad(values):
        batches = -(-len(values) // batch)
        padded = jnp.pad(values, ((0, batches * batch - len(values)), *((0, 0),) * (values.ndim - 1)))
        return padded.reshape(batches, batch, *values.shape[1:])

    return jax.tree.map(pad, tree)
