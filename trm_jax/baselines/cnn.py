"""A small convolutional net for wafer grids: the bar that a recursive model must clear."""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp

from trm_jax.layers import RMSNorm


@dataclass(frozen=True)
class CNNConfig:
    """Shape of the net."""

    widths: tuple[int, ...] = (32, 64, 96)
    """Channels of each block."""
    convolutions: tuple[int, ...] = (1, 1, 2)
    """3x3 convolutions in each block, before its pooling."""
    stride: int = 1
    """Stride of the first convolution: 2 lets a grid of 52 cost what one of 26 does."""
    classes: int = 9
    """Classes told apart."""


class Convolution(nn.Module):
    """3x3 convolution as one matrix product over the nine shifted images.

    On CPU the product and its gradient are faster than XLA's convolution for few channels or small
    images: 4.7 against 14.8 ms for 2 to 32 channels on 26x26 (table in docs/log.md).
    """

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        inputs, s = x.shape[-1], self.stride
        kernel = self.param("kernel", nn.initializers.he_normal(), (9 * inputs, self.features))
        batch, height, width = x.shape[0], -(-x.shape[1] // s), -(-x.shape[2] // s)
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = [padded[:, i : i + s * height : s, j : j + s * width : s] for i in range(3) for j in range(3)]
        # Odd sides with a stride read one row past the padding.
        columns = jnp.concatenate([image[:, :height, :width] for image in shifted], axis=-1)
        return jnp.matmul(columns.reshape(-1, 9 * inputs), kernel).reshape(batch, height, width, self.features)


class CNN(nn.Module):
    """Blocks of convolution, norm, ReLU and 2x2 max pooling; mean and maximum over the grid; a linear read-out."""

    config: CNNConfig

    @nn.compact
    def __call__(self, grids):
        """Class logits (B, classes) of grids (B, size, size, 2) uint8."""
        x = with_radius(grids.astype(jnp.float32) / 255)
        for block, (width, count) in enumerate(zip(self.config.widths, self.config.convolutions, strict=True)):
            for index in range(count):
                x = Convolution(width, self.config.stride if block == index == 0 else 1)(x)
                x = nn.relu(
                    RMSNorm(1e-5, True)(x) + self.param(f"bias_{block}_{index}", nn.initializers.zeros, (width,))
                )
            x = nn.max_pool(x, (2, 2), (2, 2), "SAME")
        pooled = jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], axis=-1)
        return nn.Dense(self.config.classes)(pooled)


def with_radius(x):
    """Append the distance of each cell from the centre, 1 at the middle of the sides: where is the diagnosis."""
    place = (jnp.arange(x.shape[1]) + 0.5) / x.shape[1] * 2 - 1
    radius = jnp.sqrt(place[:, None] ** 2 + place[None, :] ** 2)
    return jnp.concatenate([x, jnp.broadcast_to(radius[None, ..., None], (*x.shape[:3], 1))], axis=-1)
