"""A small convolutional net for wafer grids: the bar that a recursive model must clear."""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp

from trm_jax.core.encoders import ConvolutionBlock, with_radius


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


class CNN(nn.Module):
    """Blocks of convolution, norm, ReLU and 2x2 max pooling; mean and maximum over the grid; a linear read-out."""

    config: CNNConfig

    @nn.compact
    def __call__(self, grids):
        """Class logits (B, classes) of grids (B, size, size, 2) uint8."""
        x = with_radius(grids.astype(jnp.float32) / 255)
        for block, (width, count) in enumerate(zip(self.config.widths, self.config.convolutions, strict=True)):
            x = ConvolutionBlock(width, count, self.config.stride if block == 0 else 1)(x)
        pooled = jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], axis=-1)
        return nn.Dense(self.config.classes)(pooled)
