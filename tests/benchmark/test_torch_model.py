"""The PyTorch side of the benchmark computes what ours does: logits, every gradient, and updates."""

import importlib
from functools import partial

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from toys import Toy, on_device

from trm_jax.benchmark import jax_side as ours
from trm_jax.benchmark.cases import random_data
from trm_jax.core import train_step
from trm_jax.core.config import Config

SMALL = Config().override(**{"model.width": 8, "model.layers": 1, "recursion.N_sup": 2, "run.batch": 6})
CONFIGS = {
    "alternating": {},
    "attention, 2-D": {"model.mixer": "attention", "model.positions": "rotary_2d", "recursion.gradient": "last_cycle"},
    "attention, 1-D, pre-norm": {
        **{"model.mixer": "attention", "model.positions": "rotary_1d", "model.norm": "pre", "model.norm_scale": True},
        **{"recursion.gradient": "one_step", "model.heads": 2},
    },
    "swiglu": {"model.mixer": "swiglu", "recursion.N_sup": 1},
    "teaching form": {
        **{"model.form": "joint", "model.combine": "concat", "recursion.T": 1, "recursion.n": 5},
        **{"model.readout": "pooled", "model.halt_token": "mean"},
        "model.positions": "learned",
    },
    "joint, one step": {"model.form": "joint", "recursion.T": 1, "recursion.n": 4, "recursion.gradient": "one_step"},
    "no z": {"model.use_z": False, "model.combine": "concat", "recursion.gradient": "last_cycle"},
    "concat, zero": {"model.combine": "concat", "model.initial_state": "zero", "model.expansion": 2.0},
}


def pytorch():
    """The PyTorch side; skips the test without it."""
    pytest.importorskip("torch", reason="PyTorch is optional: pip install -e .[bench]")
    return importlib.import_module("trm_jax.benchmark.torch_side")


@pytest.mark.parametrize("name", CONFIGS)
def test_both_sides_give_the_same_logits_and_gradients(name):
    peer = pytorch()
    config = SMALL.override(**{"model.width": 16, "model.layers": 2, **CONFIGS[name]})
    params, data = jax.device_get(ours.weights(config)), random_data(config, 6)
    if data["labels"].ndim == 2:
        data["labels"][:, :5] = -100
        data["labels"][3] = -100
    mine = ours.logits_and_gradients(config, params, data)
    model = peer.build(config, params, compiled=False)
    ours.check_equal(name, mine, peer.logits_and_gradients(model, data))
    np.testing.assert_allclose(peer.logits(model, data["inputs"]), mine[0], atol=1e-3)
    # Every other mode of the gradient is told apart, unless it is the same.
    other = "one_step" if config.recursion.gradient == "full" else "full"
    model = peer.build(config.override(**{"recursion.gradient": other}), params, compiled=False)
    with pytest.raises(ours.Mismatch, match="gradient of"):
        ours.check_equal(name, mine, peer.logits_and_gradients(model, data))


def test_both_sides_make_the_same_updates():
    peer = pytorch()
    config = SMALL.override(**{"optim.warmup": 2, "run.steps": 6, "optim.clip": 0.1})
    data = random_data(config, 1)  # one sample, so that both draw the same batches
    drawn_from = on_device(data)
    state = jax.jit(partial(train_step.init, config))(drawn_from, 0)
    params = jax.device_get(ours.weights(config))
    trainer = peer.Trainer(peer.build(config, params, compiled=False), data)
    state = state._replace(params=params)
    step = jax.jit(partial(train_step.train_step, config, Toy({})))
    for _ in range(4):
        state, metrics = step(state, drawn_from)
        assert trainer.step() == pytest.approx(float(metrics["loss"]), rel=1e-4)
    weights, averages = flatten_dict(state.params), flatten_dict(state.ema)
    for (name, weight), average in zip(trainer.model.named_parameters(), trainer.ema, strict=True):
        path = trainer.model.paths[name]
        turned = path[-1] == "kernel"
        for one, other in ((weight, weights[path]), (average, averages[path])):
            one = one.detach().numpy()
            np.testing.assert_allclose(one.T if turned else one, other, atol=5e-4, err_msg=name)
        assert np.abs(weights[path] - flatten_dict(params)[path]).max() > 0.01


@pytest.mark.parametrize("section", ["model.separate_nets", "model.dtype", "loss.cross_entropy"])
def test_what_the_peer_does_not_have_is_refused_by_name(section):
    peer = pytorch()
    values = {"model.separate_nets": True, "model.dtype": "bfloat16", "loss.cross_entropy": "stablemax"}
    config = SMALL.override(**{section: values[section]})
    with pytest.raises(ValueError, match=section):
        peer.build(config, ours.weights(SMALL), compiled=False)
