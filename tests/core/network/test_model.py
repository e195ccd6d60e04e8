"""The model's forms, written out by hand, and what each option does to weights and gradients."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.network.model import TRM

SMALL = Config().override(**{"model.width": 8, "model.layers": 1, "recursion.n": 2, "recursion.T": 2})
INPUTS = jnp.asarray(np.random.default_rng(0).integers(1, 6, (3, 16)), jnp.int32)

FORMS = {
    "alternating add": {},
    "alternating concat": {"model.combine": "concat"},
    "alternating without z": {"model.use_z": False},
    "alternating concat without z": {"model.use_z": False, "model.combine": "concat"},
    "alternating separate nets": {"model.separate_nets": True},
    "joint add": {"model.form": "joint", "recursion.T": 1},
    "joint concat": {"model.form": "joint", "recursion.T": 1, "model.combine": "concat"},
    "joint without z": {"model.form": "joint", "recursion.T": 1, "model.use_z": False, "model.combine": "concat"},
}


def written_out(config: Config, params, inputs):
    """One supervision step as loops over explicit formulas, with the net applied as a black box."""
    options = config.model
    joined = options.combine == "concat"
    trm = TRM(options)

    def net(h, name="net"):
        return trm.apply({"params": params}, h, method=lambda module, h: getattr(module, name)(h))

    def combine(*states):
        return jnp.concatenate(states, -1) if joined else sum(states[1:], states[0])

    def project(h, name):
        return h @ params[name]["kernel"] if name in params else h

    x = model.embed(config, params, inputs)
    y, z = model.initial(config, params, len(inputs))
    for _ in range(config.recursion.T):
        if options.form == "joint":
            for _ in range(config.recursion.n):
                h = net(combine(x, y, z) if options.use_z else combine(x, y))
                y, z = project(h, "to_y"), project(h, "to_z") if options.use_z else None
        elif not options.use_z:
            for _ in range(config.recursion.n + 1):
                y = project(net(combine(x, y)), "to_y")
        else:
            for _ in range(config.recursion.n):
                z = project(net(combine(x, y, z)), "to_z")
            last = combine(jnp.zeros_like(x), y, z) if joined else y + z
            y = project(net(last, "net_y" if options.separate_nets else "net"), "to_y")
    return y, z


@cache
def stepped(form):
    """Config and weights of a form, and (y, z) after a supervision step."""
    config = SMALL.override(**FORMS[form])
    params = model.initialise(config.model, jax.random.key(0))

    def run(params):
        x = model.embed(config, params, INPUTS)
        return model.supervision_step(config, params, x, *model.initial(config, params, len(INPUTS)))

    return config, params, jax.jit(run)(params)


@pytest.mark.parametrize("form", FORMS)
def test_a_supervision_step_equals_its_formula_written_out(form):
    config, params, state = stepped(form)
    jax.tree.map(
        lambda ours, expected: np.testing.assert_allclose(ours, expected, atol=1e-5),
        state,
        jax.jit(lambda params: written_out(config, params, INPUTS))(params),
    )


def test_the_forms_differ():
    answers = [stepped(form)[2][0] for form in FORMS]
    for index, answer in enumerate(answers):
        assert all(float(jnp.abs(answer - other).max()) > 1e-3 for other in answers[:index])


@pytest.mark.parametrize("gradient", ["full", "last_cycle", "one_step"])
@pytest.mark.parametrize("form", ["alternating add", "joint concat"])
def test_remat_and_unrolling_change_the_program_and_not_the_result(form, gradient):
    results, programs = [], []
    variants = [(0, 0, 0), (0, 1, 0), (1, 0, 0)] + [(1, 1, 0), (1, 0, 2)] * (gradient == "full")
    params = model.initialise(SMALL.override(**FORMS[form]).model, jax.random.key(0))
    for remat, unroll, segment in variants:
        config = SMALL.override(
            **FORMS[form],
            **{"recursion.remat": bool(remat), "recursion.unroll": bool(unroll), "recursion.segment": segment},
            **{"recursion.gradient": gradient, "recursion.N_sup": 2, "recursion.n": 3},
        )

        def loss(params, config=config):
            return (model.forward(config, params, INPUTS).logits ** 2).mean()

        traced = jax.jit(jax.grad(loss)).trace(params)
        results.append(jax.tree.leaves(traced.lower().compile()(params)))
        programs.append(str(traced.jaxpr))
    assert len(set(programs)) == len(variants)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_form_without_z_has_the_same_parameters_in_the_add_form():
    counts = []
    for use_z in (True, False):
        config = SMALL.override(**{"model.use_z": use_z})
        counts.append(model.count_parameters(config.model, model.initialise(config.model, jax.random.key(0))))
    assert counts[0] == counts[1] > 0


def test_a_wider_state_makes_up_for_z_in_the_teaching_form():
    teaching = {"model.form": "joint", "model.combine": "concat", "recursion.T": 1, "model.layers": 2}
    teaching |= {"model.expansion": 6.0, "model.width": 48}
    counts = {}
    for name, options in {
        "with z": {},
        "without z": {"model.use_z": False},
        "without z, width matched": {"model.use_z": False, "model.width": 72},
    }.items():
        options = SMALL.override(**teaching).override(**options).model
        counts[name] = model.count_parameters(
            options, jax.eval_shape(partial(model.initialise, options), jax.random.key(0))
        )
    assert counts["without z"] < 0.5 * counts["with z"]
    assert abs(counts["without z, width matched"] / counts["with z"] - 1) < 0.02


def test_initial_states_are_not_trained_and_not_counted():
    params = model.initialise(SMALL.model, jax.random.key(0))
    gradient = jax.jit(jax.grad(lambda params: model.forward(SMALL, params, INPUTS).logits.sum()))(params)
    assert not gradient["initial_y"].any() and gradient["tokens"].any()
    counted = model.count_parameters(SMALL.model, params)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) - counted == 2 * 8


IMAGES = {
    "model.encoder": {"image": 8, "patch": 4, "widths": (4,), "views": 2},
    "model.grid": (2, 2),
    "model.readout": "pooled",
}


@pytest.mark.parametrize("options", [{}, {"model.mixer": "attention"}, {"model.mixer": "swiglu"}, IMAGES])
def test_the_forms_for_inference_compute_the_same_by_another_program(options):
    config = SMALL.override(**options)
    params = model.initialise(config.model, jax.random.key(0))
    inputs = jax.random.randint(jax.random.key(1), model.blank_inputs(config.model, 3).shape, 0, 6)
    trained, inferred = (
        jax.jit(lambda inputs, form=form: model.forward(config, params, inputs, inference=form))
        for form in (False, True)
    )
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), trained(inputs), inferred(inputs))
    assert trained.lower(inputs).as_text() != inferred.lower(inputs).as_text()


def test_zero_initial_states_are_zero_and_have_no_weights():
    config = SMALL.override(**{"model.initial_state": "zero"})
    params = model.initialise(config.model, jax.random.key(0))
    y, z = model.initial(config, params, 2)
    assert not y.any() and not z.any() and "initial_y" not in params


def test_a_new_model_halts_nowhere_and_its_readings_differ_between_steps():
    params = model.initialise(SMALL.model, jax.random.key(0))
    outputs = jax.jit(partial(model.forward, SMALL))(params, INPUTS)
    np.testing.assert_array_equal(outputs.q_halt, -5.0)
    assert float(jnp.abs(outputs.logits[0] - outputs.logits[1]).max()) > 1e-3


def test_embedded_tokens_have_unit_scale():
    config = SMALL.override(**{"model.width": 256, "model.vocabulary": 50})
    params = model.initialise(config.model, jax.random.key(0))
    x = model.embed(config, params, jnp.arange(48).reshape(3, 16))
    assert abs(float(x.std()) - 1) < 0.05


def test_puzzle_prefix_stands_before_the_grid_and_is_padded_with_zeros():
    config = SMALL.override(**{"model.prefix_tokens": 2, "model.prefix_width": 10, "model.puzzles": 3})
    params = dict(model.initialise(config.model, jax.random.key(0)))
    params["puzzles"] = jnp.arange(30.0).reshape(3, 10) + 1
    x = np.asarray(model.embed(config, params, INPUTS, jnp.array([0, 2, 2])))
    expected = np.pad(np.asarray(params["puzzles"])[[0, 2, 2]], ((0, 0), (0, 6))).reshape(3, 2, 8) * 8**0.5
    np.testing.assert_allclose(x[:, :2], expected, rtol=1e-6)
    logits = jax.eval_shape(partial(model.forward, config), params, INPUTS, jnp.array([0, 2, 2])).logits
    assert x.shape == (3, 18, 8) and logits.shape[-2] == 16


@pytest.mark.parametrize("readout", ["pooled", "mean_max"])
def test_a_pooled_readout_takes_the_cells_and_not_the_prefix(readout):
    """With a readout that adds up what it gets, the answer is that of the cells alone."""
    config = SMALL.override(**{"model.prefix_tokens": 2, "model.prefix_width": 10, "model.readout": readout})
    params = dict(model.initialise(config.model, jax.random.key(0)))
    parts = 2 if readout == "mean_max" else 1
    params["readout"] = {"kernel": jnp.ones((parts * 8, config.model.classes))}
    y = jax.random.normal(jax.random.key(1), (3, 18, 8))
    cells = y[:, 2:]
    expected = cells.mean(axis=1).sum(axis=-1) + (cells.max(axis=1).sum(axis=-1) if parts == 2 else 0)
    np.testing.assert_allclose(model.heads(config, params, y).logits[:, 0], expected, rtol=1e-5)


def test_several_answers_are_those_of_their_own_parts_of_the_read_out():
    config = SMALL.override(**{"model.readout": "pooled", "model.answers": 3})
    params = dict(model.initialise(config.model, jax.random.key(0)))
    y = jax.random.normal(jax.random.key(1), (2, 16, 8))
    found = model.heads(config, params, y).logits
    classes, kernel = config.model.classes, params["readout"]["kernel"]
    assert found.shape == (2, 3, classes) and kernel.shape == (8, 3 * classes)
    for number in range(3):
        part = {"kernel": kernel[:, number * classes : (number + 1) * classes]}
        alone = model.heads(config.override(**{"model.answers": 1}), params | {"readout": part}, y).logits
        np.testing.assert_allclose(found[:, number], alone, atol=1e-6)


def test_bfloat16_computes_in_bfloat16_and_keeps_weights_and_logits_in_float32():
    config = SMALL.override(**{"model.dtype": "bfloat16"})
    params = model.initialise(config.model, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert model.embed(config, params, INPUTS).dtype == jnp.bfloat16
    wide, narrow = (jax.jit(partial(model.forward, c))(params, INPUTS).logits for c in (SMALL, config))
    assert narrow.dtype == jnp.float32
    assert 1e-4 < float(jnp.abs(wide - narrow)[0].max()) < 0.2
