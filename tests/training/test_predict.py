"""The one way to ask trained models: any number of inputs, one compiled program, scores by level of difficulty."""

import chex
import jax
import numpy as np
import pytest
from toys import Toy

from trm_jax.core import predict as core
from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import Examples
from trm_jax.training import predict as engine

CONFIG = Config().override(
    **{"model.width": 8, "model.layers": 1, "recursion.N_sup": 3, "recursion.T": 1, "recursion.n": 1,
       "run.seeds": (0, 1)}
)  # fmt: skip
INPUTS = np.random.default_rng(0).integers(1, 6, (23, 16)).astype(np.int32)


@pytest.fixture(scope="module")
def params():
    return jax.vmap(lambda seed: model.initialise(CONFIG.model, jax.random.key(seed)))(np.arange(2))


@pytest.fixture(scope="module")
def forward(params):
    """What the forward pass of each seed answers to all inputs."""
    return jax.jit(jax.vmap(lambda params: model.forward(CONFIG, params, INPUTS)))(params)


@pytest.mark.parametrize("count", [1, 7, 8, 23])
def test_any_number_of_inputs_gets_the_answers_of_the_forward_pass(params, forward, count, monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 8)
    output = engine.predict(CONFIG, params, INPUTS[:count], batch=4, reduce=core.everything)
    assert output.logits.shape == (2, 3, count, 16, 6)
    np.testing.assert_allclose(output.logits, forward.logits[:, :, :count], atol=1e-5)
    np.testing.assert_allclose(output.q_halt, forward.q_halt[:, :, :count], atol=1e-5)
    assert np.abs(output.logits[0] - output.logits[1]).max() > 1e-2


def test_parts_of_every_size_share_one_program(params, monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 8)
    engine._compiled.cache_clear()
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(core.predict, n=1)
    monkeypatch.setattr(core, "predict", traced)
    for count in (8, 23, 9, 16):
        engine.predict(CONFIG, params, INPUTS[:count], batch=4)
    engine._compiled.cache_clear()


def test_the_config_says_how_many_are_evaluated_at_a_time(params, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        engine, "_compiled", lambda config, batch, *rest: sizes.append(batch) or real(config, batch, *rest)
    )
    output = engine.predict(CONFIG.override(**{"run.eval_batch": 5}), params, INPUTS)
    np.testing.assert_array_equal(output.classes, engine.predict(CONFIG, params, INPUTS).classes)
    assert sizes == [5, 32]  # the default is 256, but there are 23


real = engine._compiled


def test_more_steps_than_trained_with_and_the_last_step_alone(params):
    deeper = engine.predict(CONFIG, params, INPUTS, steps=5, reduce=core.everything)
    last = engine.predict(CONFIG, params, INPUTS, reduce=core.last_step)
    assert deeper.logits.shape[1] == 5 and last.logits.shape[1] == 1
    np.testing.assert_allclose(deeper.logits[:, 2:3], last.logits, atol=1e-5)


def test_scores_are_told_apart_by_level(params):
    levels = np.array(["easy", "hard", "easy"])
    examples = Examples({"inputs": INPUTS[:3], "labels": INPUTS[:3]}, levels=levels)
    by_level = engine.scores_by_level(Toy({}), CONFIG, params, examples)
    whole = engine.scores(Toy({}), CONFIG, params, examples)
    assert list(by_level) == ["easy", "hard"] and whole["cells"].shape == (2, 3)
    mixed = (2 * by_level["easy"]["cells"] + by_level["hard"]["cells"]) / 3
    np.testing.assert_allclose(mixed, whole["cells"])
    assert np.ptp(whole["cells"]) > 0
