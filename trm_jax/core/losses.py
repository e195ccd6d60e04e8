"""Losses on the outputs of supervision steps.

Labels are class indices, (B, L), (B, answers) or (B,); IGNORE marks cells that do not count.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trm_jax.core.config import LossConfig
from trm_jax.core.task import IGNORE
from trm_jax.support.schema import require


def log_stablemax(logits):
    """Logarithm of stablemax, s(v) / sum s with s(v) = v + 1 for v >= 0 and 1 / (1 - v) below (Prieto et al. 2025)."""
    # log s directly: log1p of |v| with the sign of v is exact where s itself would lose digits.
    size = jnp.log1p(jnp.abs(logits))
    log_s = jnp.where(logits >= 0, size, -size)  # not sign(v) * size, whose gradient at 0 is 0 instead of 1
    return log_s - jax.nn.logsumexp(log_s, axis=-1, keepdims=True)


def cross_entropy(config: LossConfig, logits, labels, soft_targets=None):
    """Cross-entropy of each counted cell, and 0 where the label is IGNORE. Same shape as ``labels``.

    ``soft_targets`` are probabilities in the shape of ``logits``, for ``loss.distillation``.
    """
    log_probabilities = log_stablemax(logits) if config.cross_entropy == "stablemax" else jax.nn.log_softmax(logits)
    counted = labels != IGNORE
    index = jnp.where(counted, labels, 0)
    loss = -jnp.take_along_axis(log_probabilities, index[..., None], axis=-1)[..., 0]
    if config.label_smoothing:
        loss = (1 - config.label_smoothing) * loss - config.label_smoothing * log_probabilities.mean(axis=-1)
    if config.distillation:
        require(soft_targets is not None, "loss.distillation needs soft targets, and the task has none")
        taught = -(soft_targets * log_probabilities).sum(axis=-1)
        loss = (1 - config.distillation) * loss + config.distillation * taught
    if config.class_weights:
        loss = loss * jnp.asarray(config.class_weights, loss.dtype)[index]
    return jnp.where(counted, loss, 0.0)


def sequence_mean(values, labels):
    """Mean over the counted cells of each sample, (B, L) -> (B,); labels of shape (B,) count as one cell."""
    if labels.ndim == 1:
        return values
    counted = (labels != IGNORE).sum(axis=-1)
    return values.sum(axis=-1) / jnp.maximum(counted, 1)


def sequence_correct(logits, labels):
    """True where every counted cell of a sample is predicted right, (B,).

    A sample without counted cells is not right; the official code, which never meets one in training, says it is.
    """
    right = (logits.argmax(axis=-1) == labels) | (labels == IGNORE)
    if labels.ndim == 1:
        return right & (labels != IGNORE)
    return right.all(axis=-1) & (labels != IGNORE).any(axis=-1)


def binary_cross_entropy(logits, targets):
    """Binary cross-entropy with logits, element by element."""
    return jax.nn.softplus(logits) - logits * targets


class LossTerms(NamedTuple):
    """Loss of a supervision step, each the mean over the batch."""

    total: Any
    cross_entropy: Any
    halt: Any
    q_continue: Any
    exact: Any  # share of samples whose counted cells are all right


def step_loss(config: LossConfig, output, labels, q_continue_target=None, soft_targets=None) -> LossTerms:
    """Loss terms of one supervision step (paper, Algorithm 3): cross-entropy plus weighted halting losses.

    ``q_continue_target`` (B,) in 0..1 switches the ACT continue loss on for this step; ``soft_targets`` as of
    `cross_entropy`.
    """
    values = cross_entropy(config, output.logits, labels, soft_targets)
    prediction = sequence_mean(values, labels).mean()
    right = jax.lax.stop_gradient(sequence_correct(output.logits, labels))
    halt = binary_cross_entropy(output.q_halt, right.astype(jnp.float32)).mean()
    q_continue = jnp.zeros(())
    if q_continue_target is not None:
        q_continue = binary_cross_entropy(output.q_continue, jax.lax.stop_gradient(q_continue_target)).mean()
    total = prediction + config.halt_weight * (halt + q_continue)
    return LossTerms(total, prediction, halt, q_continue, right.mean())


def q_continue_target(next_output, last):
    """Value of another step: the next halting probability, or the better of halting and going on (HRM, eq. 10).

    ``last`` says whether the next step is one after which no other may follow.
    """
    best = jnp.maximum(next_output.q_halt, next_output.q_continue)
    return jax.nn.sigmoid(jnp.where(last, next_output.q_halt, best))


def deep_supervision(config: LossConfig, outputs, labels, soft_targets=None) -> tuple[Any, LossTerms]:
    """Sum of the losses of all N_sup steps (leading axis of ``outputs``), and the terms of each step.

    With the continue loss, a step's target comes from the step after it; the last step has none, so going on from
    the step before it is worth what stopping after it is.
    """
    if not config.continue_loss:
        terms = jax.vmap(lambda output: step_loss(config, output, labels, None, soft_targets))(outputs)
        return terms.total.sum(), terms
    N_sup = outputs.q_halt.shape[0]
    steps = []
    for k in range(N_sup):
        output, following = (jax.tree.map(lambda leaf, i=i: leaf[min(i, N_sup - 1)], outputs) for i in (k, k + 1))
        target = q_continue_target(following, last=k + 2 >= N_sup) if k + 1 < N_sup else None
        steps.append(step_loss(config, output, labels, target, soft_targets))
    terms = jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps)
    return terms.total.sum(), terms
