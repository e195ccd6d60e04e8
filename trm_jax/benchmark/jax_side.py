"""What the benchmark runs of this project: weights, data, training steps and inference as calls that take no input."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from trm_jax.benchmark.cases import random_data
from trm_jax.core import losses, predict, train_step
from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import Examples, Task
from trm_jax.support import flops
from trm_jax.training.devices import over_seeds, place_seeds, replicate, run_mesh, seed_mesh, seeds_at_once

TOLERANCE = 1e-4
"""Largest difference of the two sides, relative to the largest value of the array."""
CALM = 0.7
"""Size of the weights with which the sides are compared: at full size a deep recursion amplifies rounding."""


class Mismatch(RuntimeError):
    """Two sides of a comparison that do not compute the same."""


def weights(config: Config, seed: int = 0, size: float = 1.0):
    """Random weights, multiplied by ``size``, with a random halting head; training would start that head at zero.

    At full size a deep recursion of an untrained net can amplify rounding a thousand times, which cannot be told from
    a mistake; weights of size ``CALM`` agree far below TOLERANCE.
    """
    params = jax.tree.map(lambda leaf: size * leaf, model.initialise(config.model, jax.random.key(seed)))
    kernel = jax.random.normal(jax.random.key(seed + 1), params["halting"]["kernel"].shape)
    return params | {"halting": {"kernel": kernel * config.model.width**-0.5, "bias": jnp.zeros(2)}}


def loss(config: Config, params, data):
    """Loss of deep supervision, and the logits of every step."""
    outputs = model.forward(config, params, data["inputs"])
    total, _ = losses.deep_supervision(config.loss, outputs, data["labels"])
    return total, outputs.logits


def logits_and_gradients(config: Config, params, data: dict[str, np.ndarray]):
    """Logits, and the gradient of the loss for every weight under its path, as numpy arrays."""
    gradient, logits = jax.jit(jax.grad(partial(loss, config), has_aux=True))(params, data)
    return np.asarray(logits), {path: np.asarray(value) for path, value in flatten_dict(gradient).items()}


def logits(config: Config, params, inputs: np.ndarray):
    """Logits of every supervision step as a numpy array."""
    return np.asarray(jax.jit(partial(model.forward, config))(params, inputs).logits)


def difference(ours: tuple, peer: tuple) -> dict[str, float]:
    """Largest absolute difference of logits and of each gradient, relative to the largest value of that array.

    A gradient smaller than a thousandth of the largest one is measured against that thousandth.
    """
    (our_logits, our_gradients), (peer_logits, peer_gradients) = ours, peer
    floor = 1e-3 * max((float(np.abs(value).max()) for value in our_gradients.values()), default=0.0)
    errors = {"logits": float(np.abs(our_logits - peer_logits).max() / np.abs(our_logits).max())}
    for path, value in our_gradients.items():
        other = peer_gradients.get(path, np.zeros_like(value))  # what a side does not train must have no gradient
        scale = max(float(np.abs(value).max()), floor)
        errors["gradient of " + "/".join(path)] = float(np.abs(value - other).max()) / scale
    return errors


def check_equal(name: str, ours: tuple, peer: tuple, tolerance: float = TOLERANCE) -> float:
    """Largest relative difference of two results of ``logits_and_gradients``. Raises Mismatch above the tolerance."""
    errors = difference(ours, peer)
    worst = max(errors, key=lambda key: errors[key] if np.isfinite(errors[key]) else np.inf)
    if not errors[worst] <= tolerance:
        raise Mismatch(
            f"{name}: the two sides compute different things, {worst} differs by {errors[worst]:.1e} of its largest "
            f"value (allowed: {tolerance:.0e}); nothing was timed"
        )
    return errors[worst]


def trainer(config: Config, data: dict[str, np.ndarray], steps: int, seeds: int = 1) -> Callable[[], None]:
    """A call that trains so many steps of so many models in one compiled program, over the devices of a run."""
    chunk = partial(train_step.train_chunk, config, Task(), steps)
    mesh = run_mesh(config.override(**{"run.seeds": tuple(range(seeds))}))
    shared = replicate(mesh, train_step.training_data(Examples(data), config.run.steps))
    at_once = seeds_at_once(config)
    start = over_seeds(lambda seed, data: train_step.init(config, data, seed), mesh, at_once=at_once)
    state = start(place_seeds(mesh, np.arange(seeds)), shared)
    run = over_seeds(chunk, mesh, donate=True, at_once=at_once)

    def call() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(run(state, shared))

    return call


def predictor(config: Config, params, inputs: np.ndarray) -> Callable[[], Any]:
    """A call that gives classes and halting probabilities after every supervision step, in one batch, over the
    devices of a run."""
    batch = len(inputs)
    mesh = run_mesh(config.override(**{"run.seeds": (0,), "run.batch": batch}))
    if mesh.size == 1:
        run: Any = jax.jit(partial(predict.predict, config, batch=batch))
    else:
        params = jax.tree.map(lambda leaf: leaf[None], params)
        run = over_seeds(lambda params, inputs: predict.predict(config, params, inputs, batch=batch), mesh)
    placed, params = replicate(mesh, (inputs, params))
    return lambda: jax.block_until_ready(run(params, placed))


def temporary_mb(config: Config, seeds: int = 0) -> float:
    """Memory that the compiled training step needs besides state and data, on every device, in 2**20 bytes.

    Of one model, or over a mesh of seeds; nothing is run.
    """
    data = train_step.training_data(Examples(random_data(config, config.run.batch)), config.run.steps)
    step = partial(train_step.train_step, config, Task())
    start = partial(train_step.init, config, data)
    if seeds:
        state = jax.eval_shape(jax.vmap(start), jnp.arange(seeds))
        compiled = over_seeds(step, seed_mesh(seeds), at_once=seeds_at_once(config)).lower(state, data).compile()
    else:
        compiled = jax.jit(step).lower(jax.eval_shape(start, 0), data).compile()
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def stopping_steps(halt: np.ndarray, threshold: float) -> np.ndarray:
    """The first supervision step (N,), from 1, whose halting probability (N_sup, N) is above the threshold.

    It is N_sup where none is.
    """
    above = halt > threshold
    return np.where(above.any(axis=0), above.argmax(axis=0) + 1, len(halt))


def halting_predictors(config: Config, params, inputs: np.ndarray, slots: int) -> tuple[dict[str, Callable], float]:
    """Calls "halted" and "all steps" through the same number of slots, and the share of the steps that halting uses.

    The threshold is the one at which the samples need about half of the steps; a single sample is chosen so that it
    needs half. Raises Mismatch when the answers are not those of the full recursion at each sample's last step.
    """
    N_sup, samples = config.recursion.N_sup, len(inputs)
    inputs = np.concatenate([inputs, random_data(config, 64)["inputs"]])  # of which the nearest to half is chosen
    full = jax.device_get(predict.predict(config, params, inputs))
    thresholds = np.quantile(full.halt, np.linspace(0.02, 0.98, 49)).astype(float)
    threshold = min(thresholds, key=lambda limit: abs(stopping_steps(full.halt, limit).mean() - N_sup / 2))
    steps = stopping_steps(full.halt, threshold)
    chosen = np.arange(samples) if samples > 1 else np.abs(steps - N_sup / 2).argsort()[:1]
    inputs, steps = inputs[chosen], steps[chosen]
    answers = predict.adaptive_forward(config, params, inputs, threshold, batch=slots)
    same = np.mean(np.asarray(answers.logits).argmax(axis=-1) == full.classes[steps - 1, chosen])
    if np.mean(np.asarray(answers.steps) == steps) < 0.99 or same < 0.99:
        raise Mismatch(f"halting at {threshold:.3f} does not answer as the full recursion does; nothing was timed")
    placed = jax.device_put(inputs)
    all_steps = jax.jit(partial(predict.predict, config, batch=slots))
    return {
        "halted": lambda: jax.block_until_ready(
            predict.adaptive_forward(config, params, placed, threshold, batch=slots)
        ),
        "all steps": lambda: jax.block_until_ready(all_steps(params, placed)),
    }, float(np.mean(answers.steps)) / N_sup


def training_flops(config: Config, batch: int) -> int:
    """Matrix-product operations of a training step's forward and backward pass, without recomputation."""
    config = config.override(**{"recursion.remat": False})
    params = model.abstract_weights(config.model)
    gradient = jax.grad(lambda params, data: loss(config, params, data)[0])
    return flops.matmul_flops(gradient, params, random_data(config, batch))


def forward_flops(config: Config, batch: int) -> int:
    """Matrix-product operations of a forward pass over all supervision steps."""
    return model.forward_flops(config, model.abstract_weights(config.model), batch)


def matrix_product(size: int = 2048) -> tuple[Callable[[], Any], int]:
    """A call that multiplies two square float32 matrices, and its operations: the machine's own peak."""
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(matrix, matrix)), 2 * size**3
