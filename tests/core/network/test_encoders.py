"""The stem of wafer models: convolution against XLA's, patches against a written-out cut."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trm_jax.core.config import Config
from trm_jax.core.model_config import ImageEncoder
from trm_jax.core.network import model
from trm_jax.core.network.encoders import Convolution, ConvolutionBlock, Stem, patches, question_features, with_radius


@pytest.mark.parametrize("size", [5, 6])
def test_convolution_is_the_convolution_of_xla(size):
    x = jax.random.normal(jax.random.key(0), (2, size, size, 3))
    layer = Convolution(4)
    params = layer.init(jax.random.key(1), x)["params"]
    expected = jax.lax.conv_general_dilated(
        x,
        params["kernel"].reshape(3, 3, 3, 4),
        (1, 1),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, atol=1e-5)
    native = Convolution(4, inference=True).apply({"params": params}, x)
    np.testing.assert_allclose(native, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (4, 10)])
def test_outputs_by_squares_are_those_of_the_convolution(shape):
    x = jax.random.normal(jax.random.key(0), (2, *shape, 3))
    layer = Convolution(5, squares=True)
    params = layer.init(jax.random.key(1), x)
    whole = np.asarray(Convolution(5).apply(params, x))
    found = np.asarray(layer.apply(params, x))
    for place, (i, j) in enumerate(np.ndindex(2, 2)):
        np.testing.assert_allclose(found[..., place, :], whole[:, i::2, j::2], atol=1e-5)


# Few channels on even sides are computed by squares.
@pytest.mark.parametrize(("side", "channels", "count"), [(6, 3, 1), (6, 3, 2), (6, 17, 1), (7, 3, 2)])
def test_a_block_halves_the_sides_rounded_up_and_takes_the_largest(side, channels, count):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, side, side, channels)), jnp.float32)
    block = ConvolutionBlock(4, count)
    params = jax.jit(block.init)(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)

    def written_out(params):
        y = x
        for index in range(count):
            y = Convolution(4).apply({"params": params[f"Convolution_{index}"]}, y)
            y = y / jnp.sqrt(jnp.mean(y**2, axis=-1, keepdims=True) + 1e-5) * params[f"RMSNorm_{index}"]["scale"]
            y = jnp.maximum(y + params[f"bias_{index}"], 0)
        squares = [[y[:, i : i + 2, j : j + 2].max((1, 2)) for j in range(0, side, 2)] for i in range(0, side, 2)]
        return jnp.stack([jnp.stack(row, axis=1) for row in squares], axis=1)

    def with_gradient(run):
        def squared(params):
            return ((found := run(params)) ** 2).sum(), found

        gradient, found = jax.grad(squared, has_aux=True)(params)
        return found, jax.tree.leaves(gradient)

    (expected, other), (found, ours) = map(
        with_gradient, (written_out, jax.jit(lambda params: block.apply({"params": params}, x)))
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    native = jax.jit(ConvolutionBlock(4, count, inference=True).apply)
    np.testing.assert_allclose(native({"params": params}, x), expected, atol=1e-5)
    for gradient, written in zip(ours, other, strict=True):
        np.testing.assert_allclose(gradient, written, rtol=1e-3, atol=1e-3)


def test_patches_are_squares_in_reading_order_padded_at_the_end():
    x = np.arange(2 * 5 * 5 * 3).reshape(2, 5, 5, 3)
    found = patches(x, 2)
    assert found.shape == (2, 9, 12)
    np.testing.assert_array_equal(found[1, 1], x[1, 0:2, 2:4].ravel())
    last = np.zeros((2, 2, 3), int)
    last[0, 0] = x[0, 4, 4]
    np.testing.assert_array_equal(found[0, 8], last.ravel())


@pytest.mark.parametrize("widths", [(), (4,), (4, 6)])
def test_tokens_see_their_own_neighbourhood_only(widths):
    stem = Stem(ImageEncoder(image=16, patch=4, widths=widths), 5)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, 16, 2)), jnp.float32)
    params, apply = jax.jit(stem.init)(jax.random.key(0), x), jax.jit(stem.apply)
    tokens = apply(params, x)
    assert tokens.shape == (1, 16, 5)
    changed = apply(params, x.at[0, 0, 0].add(1.0))
    moved = np.abs(np.asarray(changed - tokens)).max(axis=(0, 2)) > 0
    assert moved[0] and not moved[[3, 7, 10, 11, 12, 13, 14, 15]].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_takes_images_with_any_number_of_channels(channels):
    options = {"image": 8, "patch": 4, "channels": channels, "widths": (4,)}
    config = Config().override(**{"model.encoder": options, "model.grid": (2, 2), "model.readout": "mean_max"})
    params = model.initialise(config.model, jax.random.key(0))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, channels), np.uint8)
    logits = jax.jit(partial(model.forward, config))(params, images).logits
    assert logits.shape == (3, 3, 6) and np.ptp(logits, axis=1).min() > 0


def test_the_radius_is_one_at_the_middle_of_a_side():
    radius = np.asarray(with_radius(jnp.zeros((1, 5, 5, 1))))[0, ..., 1]
    assert radius[2, 2] == 0
    np.testing.assert_allclose(radius[2, 4], 0.8, rtol=1e-6)
    np.testing.assert_allclose(radius, radius.T)


def test_features_of_a_question_are_mean_and_maximum_over_tokens_averaged_over_views():
    options = {"image": 8, "patch": 4, "views": 2, "widths": (4,)}
    config = Config().override(
        **{"model.encoder": options, "model.grid": (2, 2), "model.width": 2, "model.readout": "mean_max"}
    )
    x = np.arange(32, dtype=np.float32).reshape(2, 8, 2) ** 2  # two inputs, two views of four tokens
    x[1, 3] = 500
    found = np.asarray(question_features(config.model, jnp.asarray(x)))
    expected = [[*np.mean([v.mean(0) for v in views], 0), *np.mean([v.max(0) for v in views], 0)]
                for views in ([one[:4], one[4:]] for one in x)]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-6)
