"""Adam with clipping, a schedule counted in steps, sign-SGD of puzzle tables, and the average of the weights."""

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from trm_jax.core.config import OptimConfig
from trm_jax.support.schema import require

TABLE = "puzzles"
"""Weight with a row for every puzzle."""


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


def trained(params):
    """Tree of booleans: True but for the fixed initial states, which are no parameters in the official code."""
    return unflatten_dict({path: path[-1] not in ("initial_y", "initial_z") for path in flatten_dict(params)})


def optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW (Loshchilov & Hutter 2019) or Adam-atan2 (Everett et al. 2024)."""
    clip = optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()
    rate = schedule(config, steps)
    shifted = rate if config.first_update == 0 else lambda count: rate(count + config.first_update)
    mask = decayed if config.decay == "matrices" else trained
    if config.algorithm == "adamw":
        adam = optax.scale_by_adam(config.beta1, config.beta2)
    else:
        adam = scale_by_adam_atan2(config.beta1, config.beta2)
    decay = optax.add_decayed_weights(config.weight_decay, mask)
    return optax.chain(clip, optax.chain(adam, decay, optax.scale_by_learning_rate(shifted)))


def held(config: OptimConfig, params):
    """Weights of which the parts that are not trained let no gradient through: they neither cost nor are clipped with.

    Raises ValueError for a part that the net does not have.
    """
    unknown = set(config.frozen) - set(params)
    require(not unknown, f"optim.frozen: the net has no part {min(unknown, default='')}, but {', '.join(params)}")
    return {**params, **{name: jax.lax.stop_gradient(params[name]) for name in config.frozen}}


def still(config: OptimConfig, updates):
    """Updates of all weights, with zeros for the parts that are not trained, which would decay otherwise."""
    return {**updates, **{name: jax.tree.map(jnp.zeros_like, updates[name]) for name in config.frozen}}


def scale_by_adam_atan2(beta1: float, beta2: float) -> optax.GradientTransformation:
    """Adam without an epsilon: atan2 of the first moment and the root of the second, over the bias of the first.

    As the package adam-atan2 computes it, which the official code uses: the bias of the first moment is taken out after
    the arc tangent, so early updates are larger than in the paper.
    """
    adam = optax.scale_by_adam(beta1, beta2)

    def update(gradient, state, params=None):
        _, state = adam.update(gradient, state, params)
        first, second = (1 - jnp.power(beta, state.count) for beta in (beta1, beta2))
        return jax.tree.map(lambda m, v: jnp.arctan2(m, jnp.sqrt(v / second)) / first, state.mu, state.nu), state

    return optax.GradientTransformation(adam.init, update)


def split_table(params):
    """Weights without the puzzle table, which has an optimizer of its own, and the table; None where there is none."""
    return {name: value for name, value in params.items() if name != TABLE}, params.get(TABLE)


def update_table(config: OptimConfig, steps: int, table, gradient, drawn, count):
    """Puzzle table (P, width) after update number ``count`` (from 0): sign-SGD with decay on the rows ``drawn`` (B,).

    Every other row stays as it is (official code, CastedSparseEmbeddingSignSGD_Distributed).
    """
    relative = schedule(config, steps)(count + config.first_update) / config.learning_rate
    rate = relative * config.puzzle_learning_rate
    moved = table * (1 - rate * config.puzzle_weight_decay) - rate * jnp.sign(gradient)
    return table.at[drawn].set(moved[drawn])


def init_ema(params, config: OptimConfig = OptimConfig()):  # noqa: B008
    """Moving average before the first update: zeros, which the debiasing takes out again, or the weights."""
    return params if config.ema_start == "weights" else jax.tree.map(jnp.zeros_like, params)


def update_ema(config: OptimConfig, average, params):
    """Moving average after one more update; that of a puzzle table is the table itself (official)."""
    updated = optax.tree.update_moment(params, average, config.ema, 1)
    # Averaged from their own value on, the fixed initial states would drift by roundings.
    copied = (TABLE, "initial_y", "initial_z") if config.ema_start == "weights" else (TABLE,)
    return updated | {name: params[name] for name in copied if name in params}


def debiased_ema(config: OptimConfig, average, count):
    """Average of the weights after ``count`` updates, free of the zeros it started from; count 0 gives zeros."""
    if config.ema_start == "weights":
        return average
    unbiased = optax.tree.bias_correction(average, config.ema, jnp.maximum(count, 1))
    return {**unbiased, TABLE: average[TABLE]} if TABLE in average else unbiased
