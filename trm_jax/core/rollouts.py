"""Thinking more than once: the same question with noise in the states, and the choice among the answers.

The weights are trained as ever; noise at test time alone makes rollouts that differ (PTRM, arXiv 2605.19943, which adds
it to z and lets the halting head choose).
"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from trm_jax.core.config import Config
from trm_jax.core.network import model, recursion
from trm_jax.core.predict import join_batches, most_probable, pad_to_batches
from trm_jax.core.task import IGNORE, Prediction


def noisy_forward(config: Config, params, inputs, key, noise, puzzle=None) -> model.StepOutput:
    """Readings after each supervision step, (N_sup, N, ...), with noise of this size on y and z before every step.

    States have unit root mean square with ``norm=post``, so 0.3 is 30 %. Without noise it equals `model.forward`.
    """
    x = model.embed(config, params, inputs, puzzle, inference=True)

    def disturbed(state, key):
        return None if state is None else state + noise * jax.random.normal(key, state.shape, state.dtype)

    def step(y, z_and_key):
        z, key = z_and_key
        key, y_key, z_key = jax.random.split(key, 3)
        y, z = model.supervision_step(config, params, x, disturbed(y, y_key), disturbed(z, z_key), inference=True)
        return y, (z, key)

    y, z = model.initial(config, params, len(inputs))
    outputs = recursion.supervise(
        step, lambda y: model.heads(config, params, y, inference=True), y, (z, key),
        N_sup=config.recursion.N_sup, detach=False,
    )[1]  # fmt: skip
    return outputs


@partial(jax.jit, static_argnames=("config", "K", "batch"))
def rollouts(config: Config, params, inputs, key, K: int, noise, puzzle=None, batch: int = 128) -> Prediction:
    """Most probable classes (K, N_sup, N, L) and halting probabilities (K, N_sup, N) of K rollouts of one model.

    The first rollout is without noise.
    """
    size = len(inputs)
    batch = min(batch, size)
    batches = pad_to_batches((inputs, puzzle), batch)
    count = -(-size // batch)

    def rollout(index):
        scale = jnp.where(index == 0, 0.0, noise)

        def answer(arguments):
            number, (inputs, puzzle) = arguments
            random = jax.random.fold_in(jax.random.fold_in(key, index), number)
            return most_probable(noisy_forward(config, params, inputs, random, scale, puzzle))

        return join_batches(jax.lax.map(answer, (jnp.arange(count), batches)), size)

    return jax.lax.map(rollout, jnp.arange(K))


def choose_by_halting(prediction: Prediction, K: int) -> np.ndarray:
    """Of the first K rollouts the answer with the highest halting probability, at every step: (N_sup, N, L)."""
    classes, halt = np.asarray(prediction.classes)[:K], np.asarray(prediction.halt)[:K]
    return np.take_along_axis(classes, halt.argmax(axis=0)[None, ..., None], axis=0)[0]


def choose_by_majority(prediction: Prediction, K: int) -> np.ndarray:
    """Of the first K rollouts the class that most of them give each cell, the lowest in a tie: (N_sup, N, L)."""
    classes = np.asarray(prediction.classes)[:K]
    votes = np.stack([(classes == label).sum(axis=0) for label in range(int(classes.max()) + 1)])
    return votes.argmax(axis=0).astype(classes.dtype)


Choice = Callable[[Prediction, int], np.ndarray]
"""From rollouts, and how many of them count, to classes (N_sup, N, L)."""
CHOICES: dict[str, Choice] = {"halting": choose_by_halting, "majority": choose_by_majority}


def right_by_count(
    prediction: Prediction, labels: np.ndarray, choices: Mapping[str, Choice] = CHOICES
) -> dict[tuple[int, str], np.ndarray]:
    """Which samples are right after the last step in every cell of ``labels`` (N, L) that counts, (N,) bool.

    One entry for each of 1, 2, 4, ... K rollouts and each way to choose among them.
    """
    last = Prediction(np.asarray(prediction.classes)[:, -1:], np.asarray(prediction.halt)[:, -1:])
    K = len(last.classes)
    counts = sorted({2**power for power in range(K.bit_length())} & set(range(K)) | {K})
    return {
        (count, name): ((choose(last, count)[0] == labels) | (labels == IGNORE)).all(axis=-1)
        for count in counts
        for name, choose in choices.items()
    }
