"""What a model answers to many inputs: after every supervision step, or after as many as each input needs.

The adaptive form really stops for samples that are sure of their answer. N samples go through B slots; a slot whose
sample halts takes the next one waiting, so that no evaluation is spent on a finished sample while others wait, and the
time follows the steps used. With B = N all samples run side by side until the last one halts.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.sharding import shard_batch, tree_where
from trm_jax.core.task import Prediction
from trm_jax.support.schema import require

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
    return join_batches(batches, size)


def join_batches(tree, size: int):
    """Answers to batches, (batches, N_sup, B, ...), as those to N samples, (N_sup, N, ...), without the padding."""

    def join(values):
        joined = jnp.moveaxis(values, 0, 1)
        return joined.reshape(joined.shape[0], -1, *joined.shape[3:])[:, :size]

    return jax.tree.map(join, tree)


def pad_to_batches(tree, batch: int):
    """Arrays (N, ...) as batches (batches, B, ...), the last one padded with zeros."""

    def pad(values):
        batches = -(-len(values) // batch)
        padded = jnp.pad(values, ((0, batches * batch - len(values)), *((0, 0),) * (values.ndim - 1)))
        return padded.reshape(batches, batch, *values.shape[1:])

    return jax.tree.map(pad, tree)


class AdaptiveOutput(NamedTuple):
    """The answer of each sample at the supervision step where it stopped."""

    logits: Any  # (N, L, V) per cell, (N, classes) pooled, or (N, answers, classes)
    halt: Any  # (N, N_sup) probability that the whole answer is right after each step used, NaN after the others
    steps: Any  # (N,) supervision steps used, 1..N_sup


class _Slots(NamedTuple):
    """What the loop carries."""

    sample: Any  # (B,) index of the sample in each slot; N where the slot is idle
    y: Any
    z: Any
    steps: Any  # (B,) supervision steps the sample has had
    waiting: Any  # index of the first sample that has no slot yet
    stopped: AdaptiveOutput


def adaptive_forward(
    config: Config, params, inputs, threshold: float, puzzle=None, batch: int = BATCH, inference: bool = False
) -> AdaptiveOutput:
    """Answer inputs (N, cells), each with as many supervision steps as it needs, at most N_sup.

    A sample stops after the first step whose halting probability is above ``threshold``: 0 stops all of them after one
    step, 1 none before N_sup, 0.5 is the official rule. ``batch`` is the number of slots B; ``puzzle`` (N,) names
    puzzle embeddings. Equals the full recursion read at each sample's own last step.
    Raises ValueError for a threshold outside 0 to 1, or without samples or slots.
    """
    require(0 <= threshold <= 1, f"threshold is a probability, got {threshold}")
    require(len(inputs) >= 1 and batch >= 1, f"need samples and slots, got {len(inputs)} samples, batch={batch}")
    # Compared as logits: the probability itself rounds to 0 and to 1, where every or no sample must stop.
    limit = math.log(threshold / (1 - threshold)) if 0 < threshold < 1 else math.copysign(math.inf, threshold - 0.5)
    return _halted(config, min(batch, len(inputs)), inference, params, inputs, limit, puzzle)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _halted(config: Config, batch: int, inference: bool, params, inputs, limit, puzzle) -> AdaptiveOutput:
    size = len(inputs)
    fresh_y, fresh_z = model.initial(config, params, batch)
    logits = jnp.zeros((size, *config.model.answer_shape, config.model.classes))
    nothing = AdaptiveOutput(logits, jnp.full((size, config.recursion.N_sup), jnp.nan), jnp.zeros(size, jnp.int32))
    steps = jnp.zeros(batch, jnp.int32)
    start = _Slots(jnp.arange(batch), fresh_y, fresh_z, steps, jnp.asarray(batch), nothing)

    # Embedded once, where a slot would do so before every step.
    batches = pad_to_batches((inputs, puzzle), batch)
    questions = jax.lax.map(lambda part: model.embed(config, params, part[0], part[1], inference), batches)
    questions = questions.reshape(-1, *questions.shape[2:])

    def step(slots: _Slots) -> _Slots:
        x = questions[jnp.minimum(slots.sample, size - 1)]
        y, z = model.supervision_step(config, params, x, slots.y, slots.z, inference)
        output = model.heads(config, params, y, inference)
        steps = slots.steps + 1
        stops = (slots.sample < size) & ((output.q_halt > limit) | (steps >= config.recursion.N_sup))
        row = jnp.where(stops, slots.sample, size)  # row N does not exist: nothing is written there
        rows = slots.stopped
        stopped = AdaptiveOutput(
            rows.logits.at[row].set(output.logits, mode="drop"),
            rows.halt.at[slots.sample, slots.steps].set(jax.nn.sigmoid(output.q_halt), mode="drop"),
            rows.steps.at[row].set(steps, mode="drop"),
        )
        following = jnp.minimum(slots.waiting + jnp.cumsum(stops) - 1, size)

        sample, y, z, steps = tree_where(stops, (following, fresh_y, fresh_z, 0), (slots.sample, y, z, steps))
        return _Slots(sample, y, z, steps, slots.waiting + stops.sum(), stopped)

    return jax.lax.while_loop(lambda slots: (slots.sample < size).any(), step, start).stopped
