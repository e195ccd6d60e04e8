"""The axis of seeds: a seed gives the same run alone, among others, vectorised, and on two devices."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Toy, on_device

from trm_jax.core import accelerator, train_step
from trm_jax.core.config import Config
from trm_jax.training.devices import over_seeds, place_seeds, replicate, seed_mesh, seeds_at_once

CONFIG = Config().override(
    **{"model.width": 8, "model.layers": 1, "recursion.N_sup": 1, "recursion.T": 1, "recursion.n": 1, "run.batch": 4,
       "run.steps": 10, "optim.warmup": 2}
)  # fmt: skip
DATA = on_device(
    {
        "inputs": jnp.asarray(np.random.default_rng(0).integers(1, 6, (9, 16)), jnp.int32),
        "labels": jnp.asarray(np.random.default_rng(1).integers(2, 6, (9, 16)), jnp.int32),
    }
)


@cache
def start(mesh):
    return over_seeds(lambda seed, data: train_step.init(CONFIG, data, seed), mesh)


def run(seeds, devices, at_once=1):
    """Weights and losses of five steps for some seeds on some devices."""
    mesh = seed_mesh(len(seeds), devices)
    chunk = over_seeds(
        lambda state, data: train_step.train_chunk(CONFIG, Toy({}), 5, state, data), mesh, at_once=at_once
    )
    data = replicate(mesh, DATA)
    state, metrics = chunk(start(mesh)(place_seeds(mesh, np.array(seeds)), data), data)
    return jax.device_get(state.params), np.asarray(metrics["loss"])


@pytest.fixture(scope="module")
def alone():
    """The runs of two seeds by themselves."""
    return {seed: run([seed], jax.devices()[:1]) for seed in (5, 8)}


@pytest.mark.parametrize(("devices", "at_once"), [(1, 1), (1, 0), (1, 2), (1, 3), (2, 1), (2, 0)])
def test_a_seed_among_others_equals_its_solo_run(alone, devices, at_once):
    together, losses = run([5, 3, 8, 1], jax.devices()[:devices], at_once)
    for index, seed in ((0, 5), (2, 8)):
        weights, loss = alone[seed]
        np.testing.assert_allclose(losses[index], loss[0], rtol=1e-5)
        jax.tree.map(lambda a, b, i=index: np.testing.assert_allclose(a[i], b[0], atol=1e-5), together, weights)
    assert np.ptp(losses[:, -1]) > 1e-3


def test_seeds_are_spread_over_as_many_devices_as_divide_them():
    devices = jax.devices()
    assert len(devices) == 2
    assert [seed_mesh(seeds).size for seeds in (1, 2, 3, 4, 6)] == [1, 2, 1, 2, 2]
    placed = place_seeds(seed_mesh(4), np.arange(4))
    assert len(placed.sharding.device_set) == 2


def test_a_device_trains_as_many_seeds_side_by_side_as_its_memory_allows(monkeypatch):
    """Read off the program: the leading axis of what a seed computes."""

    def traced(at_once, seeds=6):
        program = over_seeds(jnp.sin, seed_mesh(seeds, jax.devices()[:1]), at_once=at_once)
        return str(jax.make_jaxpr(program)(jnp.zeros((seeds, 7))))

    assert "f32[6,7] = sin" in traced(0) and "f32[6,7] = sin" in traced(6)
    assert "f32[2,7] = sin" in traced(2) and "f32[7] = sin" in traced(1)
    grid = {"model.mixer": "attention", "model.dtype": "bfloat16", "model.width": 32, "model.heads": 4}
    related = CONFIG.override(**grid, **{"model.relations": "lines"})
    assert seeds_at_once(CONFIG) == seeds_at_once(related) == 1
    monkeypatch.setattr(accelerator, "platform", lambda: "gpu")
    assert seeds_at_once(CONFIG) == seeds_at_once(CONFIG.override(**grid)) == 0 and seeds_at_once(related) == 1
    assert seeds_at_once(CONFIG.override(**{"run.seeds_at_once": 4})) == 4


def test_a_donated_state_is_gone():
    mesh = seed_mesh(2)
    state = place_seeds(mesh, np.arange(2, dtype=np.float32))
    double = over_seeds(lambda value: 2 * value, mesh, donate=True)
    np.testing.assert_array_equal(double(state), [0.0, 2.0])
    assert state.is_deleted()
