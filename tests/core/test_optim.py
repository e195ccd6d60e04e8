"""Schedule, decay mask, clipping and moving average, against numpy in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from trm_jax.core import losses, optim
from trm_jax.core.config import Config, ModelConfig, OptimConfig
from trm_jax.core.model_config import ImageEncoder
from trm_jax.core.network import model
from trm_jax.core.network.model import INITIAL_STATES

STEPS = 40
OPTIONS = OptimConfig(learning_rate=0.01, warmup=0, weight_decay=0.5, clip=1.0)


def rates(config: OptimConfig, steps: int = STEPS) -> np.ndarray:
    """Learning rates of the steps 0..steps, the one after the last step included."""
    return np.asarray(jax.vmap(optim.schedule(config, steps))(jnp.arange(steps + 1)))


@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_cosine_schedule_rises_linearly_and_ends_exactly_at_its_final_fraction(warmup):
    config = OptimConfig(learning_rate=0.3, warmup=warmup, final_fraction=0.2)
    found = rates(config)
    np.testing.assert_allclose(found[:warmup], 0.3 * np.arange(warmup) / max(warmup, 1), rtol=1e-6)
    progress = (np.arange(warmup, STEPS + 1) - warmup) / (STEPS - warmup)
    np.testing.assert_allclose(found[warmup:], 0.06 + 0.24 * (1 + np.cos(np.pi * progress)) / 2, rtol=1e-5)
    assert found[0] == (0 if warmup else np.float32(0.3)) and found[warmup] == np.float32(0.3)
    assert found[-1] == optim.schedule(config, STEPS)(10 * STEPS) == pytest.approx(0.06, rel=1e-6)
    assert (np.diff(found[: warmup + 1]) > 0).all() and (np.diff(found[warmup:]) < 0).all()


@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_constant_schedule_stays_at_its_peak_for_ever(warmup):
    found = rates(OptimConfig(learning_rate=0.3, warmup=warmup, schedule="constant"))
    rise = np.minimum(np.arange(STEPS + 1) / warmup, 1) if warmup else np.ones(STEPS + 1)
    np.testing.assert_allclose(found, 0.3 * rise, rtol=1e-6)


def every_weight() -> list[ModelConfig]:
    """Models that have every kind of weight between them."""
    common = ModelConfig(width=8, layers=2, norm_scale=True, prefix_tokens=1, prefix_width=5)
    return [
        dataclasses.replace(common, mixer="attention", positions="learned", combine="concat", separate_nets=True),
        dataclasses.replace(common, mixer="attention", relations="lines"),
        dataclasses.replace(
            common,
            grid=(2, 2),
            readout="pooled",
            encoder=ImageEncoder(image=8, patch=4, widths=(4,), convolutions=(2,)),
        ),
        dataclasses.replace(common, mixer="swiglu", norm="pre"),
        dataclasses.replace(common, mixer="linear", form="joint"),
    ]


@pytest.mark.parametrize(
    "config",
    every_weight(),
    ids=lambda config: f"{config.mixer} {config.positions} {config.relations} {bool(config.encoder)}",
)
def test_every_matrix_and_nothing_else_is_marked_for_weight_decay(config):
    shapes = jax.eval_shape(lambda: model.initialise(config, jax.random.key(0)))
    marked, weights = flatten_dict(optim.decayed(shapes)), flatten_dict(shapes)
    assert {path[-1] for path in weights} >= {"kernel", "bias", "scale", "puzzles", *INITIAL_STATES}
    assert marked == {path: leaf.ndim == 2 and path[-1] != "relations" for path, leaf in weights.items()}


def test_weight_decay_shrinks_marked_weights_and_leaves_the_others_bitwise():
    shapes = {"kernel": (2, 3), "tokens": (4, 3), "bias": (3,), "bias_0": (3,), "scale": (3,), "relations": (2, 9)}
    params = {name: jnp.full(shape, 2.0) for name, shape in shapes.items()} | {"initial_y": jnp.full(3, 2.0)}
    transform = optim.optimizer(OPTIONS, STEPS)
    updates, _ = transform.update(jax.tree.map(jnp.zeros_like, params), transform.init(params), params)
    for name, update in updates.items():
        expected = -0.01 * 0.5 * 2.0 if name in ("kernel", "tokens") else 0.0
        np.testing.assert_allclose(update, np.full(update.shape, expected), rtol=1e-6, err_msg=name)


def test_fixed_initial_states_stay_bitwise_as_they_were():
    depth = {"recursion.N_sup": 1, "recursion.T": 1, "recursion.n": 1, "recursion.unroll": True}
    options = {"model.width": 8, "model.layers": 1}
    config = Config(optim=OPTIONS).override(**depth, **options)
    shapes = jax.eval_shape(lambda: model.initialise(config.model, jax.random.key(0)))
    rng = np.random.default_rng(0)
    before = jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape)), shapes)
    transform = optim.optimizer(config.optim, STEPS)
    inputs, labels = np.random.default_rng(0).integers(1, 6, (2, 3, 16))

    def loss(params):
        return losses.deep_supervision(config.loss, model.forward(config, params, inputs), labels)[0]

    @jax.jit
    def step(params, state):
        updates, state = transform.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    after, state = before, transform.init(before)
    for _ in range(3):
        after, state = step(after, state)
    for path, value in flatten_dict(after).items():
        kept = np.array_equal(value, flatten_dict(before)[path])
        assert kept == (path[-1] in INITIAL_STATES), path


def adamw(config: OptimConfig, weight, gradients):
    """Weights after each update, by the definition of AdamW with clipping, for a matrix, in float64."""
    first = second = np.zeros_like(weight)
    found = []
    for step, (gradient, rate) in enumerate(zip(gradients, rates(config), strict=False), start=1):
        gradient = gradient * min(1, config.clip / np.linalg.norm(gradient))
        first = config.beta1 * first + (1 - config.beta1) * gradient
        second = config.beta2 * second + (1 - config.beta2) * gradient**2
        direction = first / (1 - config.beta1**step) / (np.sqrt(second / (1 - config.beta2**step)) + 1e-8)
        weight = weight - rate * (direction + config.weight_decay * weight)
        found.append(weight)
    return np.array(found)


def updated(config: OptimConfig, weight, gradients) -> np.ndarray:
    """Weights after each update of the optimizer."""
    transform = optim.optimizer(config, STEPS)
    params = {"kernel": jnp.asarray(weight, jnp.float32)}
    state, found = transform.init(params), []
    for gradient in gradients:
        updates, state = transform.update({"kernel": jnp.asarray(gradient, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
        found.append(params["kernel"])
    return np.array(found)


def test_the_optimizer_equals_adamw_by_its_definition():
    rng = np.random.default_rng(0)
    config = OptimConfig(learning_rate=0.1, warmup=2, beta1=0.7, beta2=0.9, weight_decay=0.3, clip=2.0)
    # Sizes on both sides of the clip, so that a wrong clip would weigh the steps in another way.
    gradients = rng.normal(size=(6, 3, 4)) * np.array([5, 0.1, 1, 30, 0.3, 1]).reshape(6, 1, 1)
    weight = rng.normal(size=(3, 4))
    found = updated(config, weight, gradients)
    np.testing.assert_allclose(found, adamw(config, weight, gradients), rtol=1e-4, atol=1e-5)
    assert np.array_equal(found[0], np.float32(weight))  # the rate of step 0 is 0
    assert np.abs(found[-1] - weight).max() > 0.1


def test_a_huge_gradient_updates_like_the_clipped_one():
    rng = np.random.default_rng(0)
    weight, (first, second) = rng.normal(size=(3, 4)), rng.normal(size=(2, 3, 4))
    second *= 0.5 / np.linalg.norm(second)  # below the clip, so it counts fully
    huge, clipped = 1e6 * first, first / np.linalg.norm(first)
    # Adam forgets the size of a first gradient, so it is the second update that tells.
    found, expected = (updated(OPTIONS, weight, [gradient, second]) for gradient in (huge, clipped))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    unclipped = updated(dataclasses.replace(OPTIONS, clip=1e9), weight, [huge, second])
    assert np.abs(unclipped[1] - expected[1]).max() > 1e-3


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_the_average_of_constant_weights_is_these_weights_from_the_first_update_on(decay):
    config = OptimConfig(ema=decay)
    params = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)}
    average = optim.init_ema(params)
    for count in range(1, 101):
        average = optim.update_ema(config, average, params)
        if count in (1, 2, 100):
            found = optim.debiased_ema(config, average, count)["kernel"]
            # The two products and the quotient round: 1 - 0.999 keeps 13 of the 24 bits of a float32.
            np.testing.assert_allclose(found, params["kernel"], rtol=1e-4 if decay == 0.999 else 2e-6)


def test_the_average_of_changing_weights_equals_its_closed_form():
    values = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    config = OptimConfig(ema=0.8)
    average = optim.init_ema({"kernel": values[0]})
    for count, value in enumerate(values, start=1):
        average = optim.update_ema(config, average, {"kernel": value})
        shares = 0.8 ** np.arange(count)[::-1]
        expected = shares @ np.float64(values[:count]) / shares.sum()
        found = optim.debiased_ema(config, average, jnp.asarray(count))["kernel"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_average_before_any_update_is_zero_and_no_nan():
    average = optim.init_ema({"kernel": jnp.ones((2, 2))})
    assert not np.any(optim.debiased_ema(OptimConfig(), average, jnp.zeros((), jnp.int32))["kernel"])
