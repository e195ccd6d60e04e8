"""Rollouts: without noise they are the forward pass, with it they differ, and the choices are what they say."""

import jax
import numpy as np

from trm_jax.core import rollouts
from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import IGNORE, Prediction

CONFIG = Config().override(
    **{"model.width": 8, "model.layers": 1, "recursion.N_sup": 3, "recursion.T": 1, "recursion.n": 1}
)
PARAMS = jax.tree.map(lambda leaf: leaf + 0.1, model.initialise(CONFIG.model, jax.random.key(0)))
INPUTS = np.random.default_rng(0).integers(1, 6, (5, 16)).astype(np.int32)


def test_the_first_rollout_is_the_forward_pass_and_the_others_are_disturbed():
    answers = rollouts.rollouts(CONFIG, PARAMS, INPUTS, jax.random.key(1), 3, 0.5, batch=2)
    assert answers.classes.shape == (3, 3, 5, 16)
    plain = jax.jit(model.forward, static_argnums=0)(CONFIG, PARAMS, INPUTS)
    np.testing.assert_allclose(answers.halt[0], jax.nn.sigmoid(plain.q_halt), rtol=1e-5)
    np.testing.assert_array_equal(answers.classes[0], plain.logits.argmax(axis=-1))
    assert np.abs(answers.halt[1] - answers.halt[0]).max() > 0
    assert np.abs(answers.halt[1] - answers.halt[2]).max() > 0
    still = rollouts.rollouts(CONFIG, PARAMS, INPUTS, jax.random.key(1), 2, 0.0)
    np.testing.assert_array_equal(still.halt[0], still.halt[1])


def test_the_halting_head_and_the_majority_choose_among_the_first_rollouts():
    classes = np.array([[[[1, 2]]], [[[3, 2]]], [[[3, 4]]]])  # (K, N_sup, N, L)
    prediction = Prediction(classes, np.array([[[0.2]], [[0.1]], [[0.9]]]))
    np.testing.assert_array_equal(rollouts.choose_by_halting(prediction, 3), [[[3, 4]]])
    np.testing.assert_array_equal(rollouts.choose_by_halting(prediction, 2), [[[1, 2]]])
    np.testing.assert_array_equal(rollouts.choose_by_majority(prediction, 3), [[[3, 2]]])


def test_a_sample_is_right_when_the_last_answer_is_in_every_cell_that_counts():
    last = np.array([[[1, 2], [5, 5]], [[3, 2], [5, 5]], [[3, 2], [5, 5]]])  # (K, N, L)
    classes = np.stack([np.zeros_like(last), last], axis=1)  # (K, N_sup, N, L): after the first step nothing is right
    halt = np.array([[0.9, 0.1], [0.2, 0.1], [0.1, 0.1]])[:, None].repeat(2, axis=1)
    labels = np.array([[3, 2], [5, IGNORE]])
    right = rollouts.right_by_count(Prediction(classes, halt), labels)
    assert {key: value.tolist() for key, value in right.items()} == {
        (1, "halting"): [False, True], (1, "majority"): [False, True],
        (2, "halting"): [False, True], (2, "majority"): [False, True],  # one vote each: the lower class
        (3, "halting"): [False, True], (3, "majority"): [True, True],
    }  # fmt: skip
