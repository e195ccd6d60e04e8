"""AdamW with clipping, a schedule counted in optimizer steps, and a debiased moving average of the weights."""

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from trm_jax.core.config import OptimConfig


def schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """Learning rate of optimizer step 0, 1, ...: linear warm-up, then cosine that ends after ``steps``, or constant."""
    if config.schedule == "constant" and config.warmup == 0:
        return optax.constant_schedule(config.learning_rate)
    if config.schedule == "constant":
        return optax.warmup_constant_schedule(0.0, config.learning_rate, config.warmup)
    end = config.learning_rate * config.final_fraction
    return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, config.warmup, steps, end)


def decayed(params):
    """Tree of booleans, one per weight: True where weight decay acts, on matrices and embeddings.

    Vectors (biases, norm scales, initial states) and the biases of relations have none.
    """
    return unflatten_dict(
        {path: leaf.ndim >= 2 and path[-1] != "relations" for path, leaf in flatten_dict(params).items()}
    )


def optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW (Loshchilov & Hutter 2019)."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(
            schedule(config, steps), config.beta1, config.beta2, weight_decay=config.weight_decay, mask=decayed
        ),
    )


def init_ema(params):
    """Moving average before the first update: zeros, which the debiasing takes out again."""
    return jax.tree.map(jnp.zeros_like, params)


def update_ema(config: OptimConfig, average, params):
    """Moving average after one more update."""
    return optax.tree.update_moment(params, average, config.ema, 1)


def debiased_ema(config: OptimConfig, average, count):
    """Average of the weights after ``count`` updates, free of the zeros it started from; count 0 gives zeros."""
    return optax.tree.bias_correction(average, config.ema, jnp.maximum(count, 1))
