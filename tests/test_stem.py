"""The stem of wafer models: convolution against XLA's, patches against a written-out cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trm_jax.stem import Convolution, ConvolutionBlock, Stem, patches, with_radius


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [5, 6])
def test_convolution_is_the_convolution_of_xla(size, stride):
    x = jax.random.normal(jax.random.key(0), (2, size, size, 3))
    layer = Convolution(4, stride)
    params = layer.init(jax.random.key(1), x)["params"]
    expected = jax.lax.conv_general_dilated(
        x,
        params["kernel"].reshape(3, 3, 3, 4),
        (stride, stride),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, atol=1e-5)
    native = Convolution(4, stride, forward_only=True).apply({"params": params}, x)
    np.testing.assert_allclose(native, expected, atol=1e-6)


def test_a_block_halves_the_sides_rounded_up_and_takes_the_largest():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 7, 3)), jnp.float32)
    block = ConvolutionBlock(4)
    params = block.init(jax.random.key(0), x)["params"]
    whole = Convolution(4).apply({"params": params["Convolution_0"]}, x)
    normed = jnp.maximum(whole / jnp.sqrt(jnp.mean(whole**2, axis=-1, keepdims=True) + 1e-5), 0)
    expected = np.stack(
        [[normed[:, i : i + 2, j : j + 2].max((1, 2)) for j in range(0, 7, 2)] for i in range(0, 7, 2)], axis=0
    ).transpose(2, 0, 1, 3)
    np.testing.assert_allclose(block.apply({"params": params}, x), expected, atol=1e-5)


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
    stem = Stem(widths, (), 4, 5)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, 16, 2)), jnp.float32)
    params = stem.init(jax.random.key(0), x)["params"]
    tokens = stem.apply({"params": params}, x)
    assert tokens.shape == (1, 16, 5)
    changed = stem.apply({"params": params}, x.at[0, 0, 0].add(1.0))
    moved = np.abs(np.asarray(changed - tokens)).max(axis=(0, 2)) > 0
    assert moved[0] and not moved[[3, 7, 10, 11, 12, 13, 14, 15]].any()


def test_the_radius_is_one_at_the_middle_of_a_side():
    radius = np.asarray(with_radius(jnp.zeros((1, 5, 5, 1))))[0, ..., 1]
    assert radius[2, 2] == 0
    np.testing.assert_allclose(radius[2, 4], 0.8, rtol=1e-6)
    np.testing.assert_allclose(radius, radius.T)
