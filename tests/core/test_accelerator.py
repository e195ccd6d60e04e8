"""What a GPU or TPU would be given, read off the traced program, since none is needed to trace."""

from functools import cache, partial

import jax
import numpy as np
import programs
import pytest

from trm_jax.core import accelerator, losses
from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.support.flops import bodies

ATTENTION = Config().override(
    **{"model.width": 16, "model.heads": 2, "model.layers": 1, "model.mixer": "attention", "model.grid": (3, 4),
       "model.positions": "rotary_2d", "model.relations": "lines", "recursion.N_sup": 2, "recursion.n": 2}
)  # fmt: skip
NARROW = ATTENTION.override(**{"model.dtype": "bfloat16"})
LINEAR = NARROW.override(**{"model.mixer": "linear", "model.positions": "none", "model.relations": "none"})
POOLED = NARROW.override(**{"model.readout": "mean_max", "model.halt_token": "mean"})
TOKENS = ATTENTION.model.cells


@pytest.fixture
def elsewhere(monkeypatch):
    """Trace as on a TPU, or on the platform given; what comes out still runs on a processor."""
    return lambda platform="tpu": monkeypatch.setattr(accelerator, "platform", lambda: platform)


def loss(config, params, inputs, labels):
    outputs = model.forward(config, params, inputs)
    return losses.deep_supervision(config.loss, outputs, labels)[0]


def arguments(config):
    rng = np.random.default_rng(0)
    labels = (4, TOKENS) if config.model.readout == "cell" else (4,)
    params = model.initialise(config.model, jax.random.key(0))
    params["halting"]["kernel"] = jax.random.normal(jax.random.key(1), params["halting"]["kernel"].shape)
    return params, rng.integers(1, 6, (4, TOKENS)), rng.integers(1, 6, labels)


def gradients(config):
    value, gradient = jax.jit(jax.value_and_grad(lambda *a: loss(config, *a)))(*arguments(config))
    return jax.tree.map(np.asarray, (value, gradient))


def equations(config, name, gradient=True):
    """Every equation of a primitive in the loss, or its gradient, in whatever loop it stands."""
    return [found for found in _equations(config, gradient, accelerator.platform()) if found.primitive.name == name]


@cache
def _equations(config, gradient, platform):
    function = partial(loss, config)
    traced = jax.make_jaxpr(jax.grad(function) if gradient else function)(*arguments(config))
    return list(programs.equations(traced.jaxpr))


def innermost_loops(config):
    """Results of each loop that holds no other in the gradient, and the equations of its body, forward first."""
    loops = []
    for loop in equations(config, "scan"):
        body = list(programs.equations(loop.params["jaxpr"].jaxpr))
        if all(equation.primitive.name != "scan" for equation in body):
            count = sum(not list(bodies(equation.params)) for equation in body)
            loops.append((len(loop.outvars), count))
    return loops


def types(equation):
    return {str(variable.aval.dtype) for variable in equation.invars}, str(equation.outvars[0].aval.dtype)


def precisions(config):
    return {str(equation.params["precision"]) for equation in equations(config, "dot_general")}


def test_precision_is_in_every_product_of_loss_and_gradient(elsewhere):
    exact = ATTENTION.override(**{"model.matmul_precision": "highest"})
    assert precisions(ATTENTION) == {"None"}
    assert precisions(exact) == {"(Precision.HIGHEST, Precision.HIGHEST)"}
    elsewhere()
    assert precisions(ATTENTION) == {"(Precision.HIGH, Precision.HIGH)"}
    assert precisions(NARROW) == {"None", "BF16_BF16_F32"}  # jax's own attention says that it sums in float32
    assert precisions(exact) == {"(Precision.HIGHEST, Precision.HIGHEST)"}


@pytest.mark.parametrize("where", ["cpu", "tpu"])
def test_scores_and_heads_of_bfloat16_are_summed_in_float32(elsewhere, where):
    elsewhere(where)
    products = equations(NARROW, "dot_general", gradient=False)
    assert {frozenset(types(p)[0]) for p in products} == {frozenset({"bfloat16"})}
    wide = [p.outvars[0].aval.shape for p in products if types(p)[1] == "float32"]
    scores = [p for p in products if p.outvars[0].aval.shape.count(TOKENS) == 2]
    assert len(scores) == 2 and {types(p)[1] for p in scores} == {"float32"}
    assert (4 * TOKENS, NARROW.model.classes) in wide and (4, 2) in wide and len(wide) == 2 + 2
    heads = [p for p in equations(POOLED, "dot_general") if p.outvars[0].aval.shape in ((4, 6), (4, 2))]
    assert len(heads) == 2 and {types(p)[1] for p in heads} == {"float32"}


@pytest.mark.parametrize("where", ["cpu", "tpu"])
def test_softmax_rotation_and_reductions_of_bfloat16_are_in_float32(elsewhere, where):
    elsewhere(where)
    for config in (NARROW, POOLED):
        for name in ("exp", "reduce_sum", "sin", "cos"):
            found = equations(config, name)
            assert found and {str(e.invars[0].aval.dtype) for e in found} <= {"float32", "int32"}, name


def test_rotated_queries_are_rounded_once(elsewhere):
    """From float32 to bfloat16 once for queries and once for keys in each evaluation: the scale stands before it."""
    narrowed = [e for e in equations(NARROW, "convert_element_type") if types(e) == ({"float32"}, "bfloat16")]
    head_width = NARROW.model.width // NARROW.model.heads
    shape = (4, NARROW.model.heads, TOKENS, head_width)
    forward = [e for e in narrowed if e.outvars[0].aval.shape == shape]
    multiplied = [e for e in equations(NARROW, "mul") if e.outvars[0].aval.shape == shape]
    assert forward and {types(e)[1] for e in multiplied} == {"float32"}


@pytest.mark.parametrize(
    "config", [ATTENTION, LINEAR.override(**{"model.dtype": "float32"})], ids=["attention", "linear"]
)
def test_the_forms_of_an_accelerator_compute_the_same(elsewhere, config):
    expected = gradients(config)
    elsewhere()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), gradients(config), expected)
    assert max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected[1])) > 0.1


def test_recomputation_needs_no_barrier_inside_scans_of_an_accelerator(elsewhere):
    def barriers(config):
        return {
            equation.params["prevent_cse"] for equation in equations(config, "remat2") + equations(config, "checkpoint")
        }

    assert barriers(LINEAR) == {True}
    elsewhere()
    assert barriers(LINEAR) == {False}
    assert barriers(LINEAR.override(**{"recursion.unroll": True})) == {True}


@pytest.mark.parametrize(("config", "most"), [(LINEAR, (40, 110)), (NARROW, (85, 255))])
def test_loops_carry_and_do_no_more_than_they_must(config, most):
    """The gradient of a scan takes time by what its body does and carries (jax issue 40150)."""
    weights = len(jax.tree.leaves(arguments(config)[0]["net"]))
    (forward, equations_forward), (backward, equations_backward) = innermost_loops(config)
    assert forward == 2  # z, and the one state that every turn stores
    assert backward == 3 + weights  # gradients of x, y and z, and of every weight of the net
    assert 20 < equations_forward <= most[0] and equations_forward < equations_backward <= most[1]


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({}, True),
        ({"model.dtype": "float32"}, False),
        ({"model.grid": (3, 3)}, False),  # a bias needs an even number of tokens
        ({"model.grid": (3, 3), "model.relations": "none"}, True),
        ({"model.width": 8}, False),  # head width 4
    ],
)
def test_the_fused_kernel_is_used_where_it_can_be(elsewhere, options, fused):
    assert not accelerator.cudnn_attention(NARROW.model)
    elsewhere("gpu")
    assert accelerator.cudnn_attention(NARROW.override(**options).model) == fused


def test_a_gpu_is_given_the_fused_kernel_forward_and_backward(elsewhere, monkeypatch):
    """Lowered for CUDA, never run: the scores appear in no array of the program."""
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91200)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda least: True)
    elsewhere("gpu")
    traced = jax.jit(jax.grad(lambda *a: loss(NARROW, *a))).trace(*arguments(NARROW))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "__cudnn$fmhaScaleBiasSoftmax" in text and "__cudnn$fmhaScaleBiasSoftmaxBackward" in text
    assert f"4x2x{TOKENS}x{TOKENS}x" not in text


def test_the_default_device_says_where_a_program_runs():
    assert accelerator.platform() == "cpu"
    with jax.default_device(jax.devices("cpu")[0]):
        assert accelerator.on_cpu()
    with jax.default_device("gpu"):
        assert accelerator.platform() == "gpu"
