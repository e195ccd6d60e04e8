"""From the cells of a wafer grid to tokens: small convolutions, as matrix products.

Grids are (B, size, size, C); the last axis holds channels everywhere.
"""

from dataclasses import replace
from functools import reduce

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from trm_jax.core.accelerator import on_cpu
from trm_jax.core.model_config import ImageEncoder, ModelConfig
from trm_jax.core.network.convolution import Convolution
from trm_jax.core.network.layers import Linear, RMSNorm


def max_pool_2x2(x, inference: bool = False):
    """2x2 max pooling of values that are not negative; an odd side is padded with zeros.

    As a maximum of slices, since the gradient of XLA's own pooling is slow on CPU.
    """
    batch, height, width, channels = x.shape
    if inference or not on_cpu():
        return nn.max_pool(x, window_shape=(2, 2), strides=(2, 2), padding="SAME")
    rows, columns = -(-height // 2), -(-width // 2)
    x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    x = x.reshape(batch, rows, 2, columns, 2, channels)
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])


class ConvolutionBlock(nn.Module):
    """``count`` times convolution, norm, bias and ReLU; then 2x2 max pooling, which halves the sides, rounded up."""

    features: int
    count: int = 1
    inference: bool = False

    @nn.compact
    def __call__(self, x):
        for index in range(self.count):
            squares = index == self.count - 1 and self._use_fused(x)
            x = Convolution(self.features, self.inference, squares)(x)
            bias = self.param(f"bias_{index}", nn.initializers.zeros, (self.features,))
            x = RMSNorm(1e-5, True)(x) + bias.astype(x.dtype)
            if squares:
                return nn.relu(reduce(jnp.maximum, (x[..., place, :] for place in range(4))))
            x = nn.relu(x)
        return max_pool_2x2(x, self.inference)

    def _use_fused(self, x) -> bool:
        """Whether four outputs at once train faster: 1.8 times the operations, under half of the memory traffic."""
        return not self.inference and on_cpu() and x.shape[1] % 2 == x.shape[2] % 2 == 0 and x.shape[3] <= 16


class Stem(nn.Module):
    """Tokens (B, L, D) of images (B, size, size, C): blocks of convolutions that each halve the sides, then patches."""

    encoder: ImageEncoder
    width: int
    inference: bool = False

    @nn.compact
    def __call__(self, grids):
        x = with_radius(grids)
        widths = self.encoder.widths
        for features, count in zip(widths, self.encoder.convolutions or (1,) * len(widths), strict=True):
            x = ConvolutionBlock(features, count, inference=self.inference)(x)
        patch = self.encoder.patch // 2 ** len(widths)
        return Linear(self.width, inference=self.inference, name="patch")(patches(x, patch))


def dihedral_views(grids, views: int):
    """Square grids (B, size, size, C) in 1, 2 or 4 views, (B * views, size, size, C), those of a grid side by side.

    As they are, mirrored on the rising diagonal, turned by a half, mirrored on the falling diagonal. Two and four of
    them are groups, so that the mean answer to them is the same for all images of a grid under the group.
    """
    batch, size, _, channels = grids.shape
    cells = np.arange(size * size).reshape(size, size)
    images = (cells, cells.T[::-1, ::-1], cells[::-1, ::-1], cells.T)[:views]
    # One table of cells: reversals and stacks become many nodes in an exported graph.
    order = np.stack(images).reshape(-1)
    seen = jnp.take(grids.reshape(batch, size * size, channels), order, axis=1)
    return seen.reshape(-1, size, size, channels)


def patches(x, patch: int):
    """Squares of ``patch`` cells a side as tokens (B, L, patch * patch * C), row by row; the last may be padded."""
    batch, height, width, channels = x.shape
    if patch == 1:
        return x.reshape(batch, height * width, channels)
    rows, columns = -(-height // patch), -(-width // patch)
    padded = jnp.pad(x, ((0, 0), (0, rows * patch - height), (0, columns * patch - width), (0, 0)))
    squares = padded.reshape(batch, rows, patch, columns, patch, channels).swapaxes(2, 3)
    return squares.reshape(batch, rows * columns, patch * patch * channels)


def with_radius(x):
    """Append the distance of each cell from the centre, 1 at the middle of the sides: where is the diagnosis."""
    place = (jnp.arange(x.shape[1]) + 0.5) / x.shape[1] * 2 - 1
    radius = jnp.sqrt(place[:, None] ** 2 + place[None, :] ** 2).astype(x.dtype)
    return jnp.concatenate([x, jnp.broadcast_to(radius[None, ..., None], (*x.shape[:3], 1))], axis=-1)


def question_features(config: ModelConfig, x):
    """What a question x (B, L, D) of an image is like as a whole: mean and maximum over its tokens, (B, 2 D).

    Averaged over the views; they are what the net has seen before it begins to reason. Those of several members stand
    side by side, (B, members 2 D).
    """
    if config.members > 1:
        single = replace(config, members=1)
        parts = jnp.split(x, config.members, axis=1)
        return jnp.concatenate([question_features(single, part) for part in parts], axis=-1)
    views = x.reshape(x.shape[0], config.views, config.tokens, x.shape[-1])
    return jnp.concatenate([views.mean(axis=2), views.max(axis=2)], axis=-1).mean(axis=1).astype(jnp.float32)
