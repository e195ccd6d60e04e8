"""Several nets as one model answer with the mean of what each says by itself."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from toys import Toy

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.network.encoders import question_features
from trm_jax.core.predict import adaptive_forward
from trm_jax.core.task import override
from trm_jax.sudoku.task import Sudoku
from trm_jax.training.loop import fit

SMALL = {"model.width": 8, "model.layers": 1, "model.hidden_multiple": 1, "recursion.n": 2, "recursion.T": 1}
FORMS = {
    "cells": {},
    "without z": {"model.use_z": False},
    "joint": {"model.form": "joint"},
    "images": {
        "model.encoder": {"image": 8, "patch": 4, "widths": (4,), "views": 2},
        "model.grid": (2, 2),
        "model.readout": "mean_max",
        "model.halt_token": "mean",
    },
}


def nets(options, members=3):
    """Config and weights of the members together, halting heads that differ included, and inputs."""
    config = Config().override(**SMALL | options | {"model.members": members})
    params = model.initialise(config.model, jax.random.key(0))
    for number, net in enumerate(params.values()):
        kernel = jax.random.normal(jax.random.key(number), net["halting"]["kernel"].shape)
        net["halting"] = {**net["halting"], "kernel": kernel}
    shape = model.blank_inputs(config.model, 4).shape
    return config, params, jax.random.randint(jax.random.key(9), shape, 0, 6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inference", [False, True])
def test_members_answer_with_the_mean_of_their_probabilities(form, inference):
    config, params, inputs = nets(FORMS[form])
    found = jax.jit(partial(model.forward, config, inference=inference))(params, inputs)
    single = config.override(**{"model.members": 1})
    alone = [model.forward(single, net, inputs, inference=inference) for net in params.values()]
    expected = np.mean([softmax(one.logits, axis=-1) for one in alone], axis=0)
    np.testing.assert_allclose(np.exp(found.logits), expected, atol=1e-5)
    np.testing.assert_allclose(logsumexp(found.logits, axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(found.q_halt, np.mean([one.q_halt for one in alone], axis=0), atol=1e-4)
    assert max(np.abs(expected - softmax(one.logits, axis=-1)).max() for one in alone) > 0.01


def test_equal_members_answer_as_one_net_does():
    config, params, inputs = nets(FORMS["images"], members=2)
    net = params["member_1"]
    found = model.forward(config, {"member_0": net, "member_1": net}, inputs)
    expected = model.forward(config.override(**{"model.members": 1}), net, inputs)
    np.testing.assert_allclose(found.logits, jax.nn.log_softmax(expected.logits), atol=1e-5)
    np.testing.assert_allclose(found.q_halt, expected.q_halt, atol=1e-5)


def test_probabilities_too_small_for_a_number_leave_their_logarithms_finite():
    logits = jnp.array([[0.0, -300.0]])
    outputs = [model.StepOutput(logits, jnp.zeros(1), jnp.zeros(1))] * 2
    np.testing.assert_allclose(model.members.average(outputs).logits, logits, atol=1e-4)


def test_a_wafer_that_stops_early_gets_the_answer_of_its_step():
    config, params, inputs = nets(FORMS["images"] | {"recursion.N_sup": 3})
    outputs = model.forward(config, params, inputs, inference=True)
    for threshold, step in ((0.0, 0), (1.0, 2)):
        stopped = adaptive_forward(config, params, inputs, threshold, batch=2, inference=True)
        np.testing.assert_array_equal(stopped.steps, step + 1)
        np.testing.assert_allclose(stopped.logits, outputs.logits[step], atol=1e-5)


def test_features_stand_side_by_side_and_work_and_weights_add_up():
    config, params, inputs = nets(FORMS["images"])
    single = config.override(**{"model.members": 1})
    chex.assert_shape(model.embed(config, params, inputs), (4, config.model.state_tokens, 8))
    found = question_features(config.model, model.embed(config, params, inputs))
    alone = [question_features(single.model, model.embed(single, net, inputs)) for net in params.values()]
    np.testing.assert_allclose(found, np.concatenate(alone, axis=1), atol=1e-6)
    assert model.count_parameters(config.model, params) == 3 * model.count_parameters(single.model, params["member_1"])
    assert model.forward_flops(config, params) == 3 * model.forward_flops(single, params["member_1"])
    chex.assert_trees_all_equal_shapes_and_dtypes(params, model.abstract_weights(config.model))


def test_members_are_not_trained_together(tmp_path):
    config = Config().override(**SMALL | {"model.members": 2})
    with pytest.raises(ValueError, match=r"model.members=2: nets are trained one by one"):
        fit(Toy({}), config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"model.members=2: nets are trained one by one"):
        override(Sudoku(), Config(), {"model.members": 2})  # as every command makes its options, before it writes
