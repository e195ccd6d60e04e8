"""Counted operations against products, loops and models whose number of operations can be written down."""

import jax
import jax.numpy as jnp
import pytest

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.support.flops import matmul_flops

A, B = jnp.ones((3, 4)), jnp.ones((4, 5))
PRODUCT = 2 * 3 * 4 * 5


def convolution(groups):
    """A 3x3 convolution that keeps the sides."""

    def convolve(images, kernel):
        order = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=order, feature_group_count=groups
        )

    return convolve


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (jnp.matmul, [(3, 4), (4, 5)], 2 * 3 * 4 * 5),
        (jnp.matmul, [(7, 3, 4), (4, 5)], 2 * 7 * 3 * 4 * 5),
        (jnp.matmul, [(7, 3, 4), (7, 4, 5)], 2 * 7 * 3 * 4 * 5),
        (jnp.dot, [(4,), (4,)], 2 * 4),
        (lambda a, b: jnp.einsum("bhqc,bhkc->bhqk", a, b), [(2, 3, 5, 4), (2, 3, 6, 4)], 2 * 2 * 3 * 5 * 6 * 4),
        (lambda a, b: jnp.einsum("ijk,jkl->il", a, b), [(2, 3, 4), (3, 4, 5)], 2 * 2 * 3 * 4 * 5),
        (convolution(1), [(2, 5, 5, 3), (3, 3, 3, 4)], 2 * (2 * 5 * 5 * 4) * (9 * 3)),
        (convolution(2), [(2, 5, 5, 4), (3, 3, 2, 6)], 2 * (2 * 5 * 5 * 6) * (9 * 2)),
        (lambda a, b: jnp.sin(a) + a * 2 - b.sum(), [(3, 4), (4, 5)], 0),
    ],
)
def test_a_product_takes_two_operations_for_every_multiplication(function, shapes, expected):
    assert matmul_flops(function, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)) == expected


def scanned(length):
    return lambda a, b: jax.lax.scan(lambda carry, _: (carry, a @ b), 0.0, None, length=length)[1]


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (lambda a, b: (a @ b).sum() + (a @ b).max(), 2),
        (scanned(7), 7),
        (lambda a, b: jax.lax.scan(lambda carry, _: (carry, scanned(3)(a, b)), 0.0, None, length=5)[1], 15),
        (lambda a, b: jax.lax.map(lambda _: a @ b, jnp.arange(6)), 6),
        (lambda a, b: jax.lax.fori_loop(0, 4, lambda _, s: s + a @ b, jnp.zeros((3, 5))), 4),
        (lambda a, b: jax.lax.while_loop(lambda s: s.sum() < 9, lambda s: s + a @ b, jnp.zeros((3, 5))), 1),
        (jax.jit(lambda a, b: jax.jit(jnp.matmul)(a, b)), 1),
        (jax.checkpoint(lambda a, b: a @ b), 1),
        (lambda a, b: jax.vmap(lambda row: row @ b)(a), 1),
        (lambda a, b: jax.vmap(lambda _: scanned(2)(a, b))(jnp.arange(3.0)), 2),  # nothing to vectorise in it
        (lambda a, b: jax.vmap(lambda s: scanned(2)(s * a, b))(jnp.arange(3.0)), 6),
        (jax.grad(lambda a, b: (a @ b).sum()), 2),  # forward, and the gradient of a
        (jax.grad(lambda a, b: ((a @ b) ** 2).sum(), argnums=(0, 1)), 3),
        (jax.grad(jax.checkpoint(lambda a, b: jnp.sin(a @ b).sum())), 3),  # forward twice
    ],
)
def test_bodies_of_loops_and_transformed_functions_are_counted(function, products):
    assert matmul_flops(function, A, B) == products * PRODUCT


def test_nothing_is_computed_while_counting():
    huge = jax.ShapeDtypeStruct((10**6, 10**6), jnp.float32)
    assert matmul_flops(jnp.matmul, huge, huge) == 2 * 10**18


@pytest.mark.parametrize("mixer", ["linear", "swiglu", "attention"])
def test_a_forward_pass_equals_its_formula(mixer):
    options = {"model.mixer": mixer, "recursion.N_sup": 2, "recursion.T": 3, "recursion.n": 1, "model.layers": 2}
    prefix = {"model.prefix_tokens": 2, "model.prefix_width": 40}
    config = Config().override(**options, **prefix)
    batch, cells, tokens, width, classes = 5, 16, 18, 32, 6
    hidden, token_hidden = 88, 48  # 4 * 2/3 * 32 and 4 * 2/3 * 18, rounded up to a multiple of 8
    rows = batch * tokens
    mix = {
        "linear": 2 * batch * width * tokens * tokens,
        "swiglu": 2 * batch * width * tokens * (2 * token_hidden) + 2 * batch * width * token_hidden * tokens,
        # qkv, scores and their use over all heads, out
        "attention": 2 * rows * width * 3 * width
        + 2 * (2 * batch * tokens * tokens * width)
        + 2 * rows * width * width,
    }[mixer]
    mlp = 2 * rows * width * (2 * hidden) + 2 * rows * hidden * width
    read = 2 * batch * cells * width * classes + 2 * batch * width * 2
    expected = 2 * (3 * (1 + 1) * 2 * (mix + mlp) + read)

    params = jax.eval_shape(lambda: model.initialise(config.model, jax.random.key(0)))
    inputs = jax.ShapeDtypeStruct((batch, cells), jnp.int32)
    assert matmul_flops(lambda params, inputs: model.forward(config, params, inputs), params, inputs) == expected
    assert expected == config.layer_applications * (mix + mlp) + 2 * read
    unrolled = config.override(**{"recursion.unroll": True, "recursion.remat": False})
    assert matmul_flops(lambda params, inputs: model.forward(unrolled, params, inputs), params, inputs) == expected
