"""Adaptive inference equals the full recursion read at each sample's own step, and uses no more steps than it says."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trm_jax.core import predict
from trm_jax.core.config import Config
from trm_jax.core.network import model

SIZE, N_SUP = 23, 5
BASE = Config().override(
    **{"model.width": 8, "model.layers": 1, "recursion.N_sup": N_SUP, "recursion.T": 1, "recursion.n": 1}
)
VARIANTS = {
    "alternating": {},
    "pooled": {"model.readout": "pooled", "model.halt_token": "mean", "model.mixer": "attention"},
    "three answers": {"model.readout": "mean_max", "model.answers": 3, "model.mixer": "attention"},
    "no z": {"model.form": "joint", "model.combine": "concat", "model.use_z": False},
    "prefix": {"model.prefix_tokens": 1, "model.prefix_width": 8, "model.puzzles": SIZE, "model.initial_state": "zero"},
}


@cache
def case(name):
    """A model whose halting logits differ between samples and steps, its inputs, and its outputs after every step."""
    config = BASE.override(**VARIANTS[name])
    params = model.initialise(config.model, jax.random.key(0))
    # The head starts at zero; a trained one tells samples apart.
    params["halting"]["kernel"] = 2 * jax.random.normal(jax.random.key(1), params["halting"]["kernel"].shape)
    params["halting"]["bias"] = jnp.zeros(2)
    puzzle = None
    if config.model.puzzles > 1:
        params["puzzles"] = jax.random.normal(jax.random.key(2), params["puzzles"].shape)
        puzzle = jnp.arange(SIZE)
    inputs = jax.random.randint(jax.random.key(3), (SIZE, config.model.cells), 0, config.model.vocabulary)
    outputs = jax.jit(partial(model.forward, config))(params, inputs, puzzle)
    return config, params, inputs, puzzle, jax.device_get(outputs)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("batch", [1, 6, 1000])
def test_every_sample_answers_as_the_full_recursion_does_at_its_own_step(name, batch):
    config, params, inputs, puzzle, outputs = case(name)
    limit = float(np.quantile(outputs.q_halt, 0.8))
    above = outputs.q_halt > limit
    expected = np.where(above.any(axis=0), above.argmax(axis=0) + 1, N_SUP)
    assert len(set(expected)) >= 3, "the samples must stop at different steps"
    stopped = jax.device_get(
        predict.adaptive_forward(config, params, inputs, 1 / (1 + np.exp(-limit)), puzzle, batch=batch)
    )
    assert stopped.steps.tolist() == expected.tolist()
    own = expected - 1, np.arange(SIZE)
    assert np.array_equal(stopped.logits.argmax(axis=-1), outputs.logits.argmax(axis=-1)[own])
    used = np.arange(N_SUP) < expected[:, None]
    every = np.where(used, 1 / (1 + np.exp(-outputs.q_halt.T)), np.nan)
    np.testing.assert_allclose(stopped.halt, every, atol=1e-5)


@pytest.mark.parametrize(("threshold", "steps"), [(0.0, 1), (1.0, N_SUP)])
@pytest.mark.parametrize("bias", [-200.0, 0.0, 200.0])  # probabilities that round to 0 and to 1
def test_threshold_zero_takes_one_step_and_threshold_one_takes_all(threshold, steps, bias):
    config, params, inputs, _, outputs = case("alternating")
    params = params | {"halting": params["halting"] | {"bias": jnp.full(2, bias)}}
    stopped = predict.adaptive_forward(config, params, inputs, threshold, batch=6)
    assert stopped.steps.tolist() == [steps] * SIZE
    assert np.array_equal(stopped.logits.argmax(axis=-1), outputs.logits.argmax(axis=-1)[steps - 1])


def test_no_evaluation_is_spent_on_finished_samples_while_others_wait(monkeypatch):
    config, params, inputs, _, _ = case("alternating")
    turns = []
    real = model.supervision_step

    def counted(*arguments):
        jax.debug.callback(lambda: turns.append(1))
        return real(*arguments)

    monkeypatch.setattr(model, "supervision_step", counted)
    # A config of its own, so that no compiled program without the counter is reused.
    config = config.override(**{"run.steps": 401})
    for batch in (4, SIZE):
        turns.clear()
        steps = np.asarray(predict.adaptive_forward(config, params, inputs, 0.5, batch=batch).steps)
        jax.effects_barrier()
        slots = [0] * batch
        for used in steps:  # each sample goes to the slot that is free first
            slots[slots.index(min(slots))] += used
        assert len(turns) == max(slots)
    assert steps.sum() < SIZE * N_SUP


@pytest.mark.parametrize(("threshold", "batch"), [(-0.1, 4), (1.5, 4), (float("nan"), 4), (0.5, 0)])
def test_thresholds_that_are_no_probability_and_no_slots_are_refused(threshold, batch):
    config, params, inputs, _, _ = case("alternating")
    with pytest.raises(ValueError, match=r"threshold is a probability|need samples and slots"):
        predict.adaptive_forward(config, params, inputs, threshold, batch=batch)
