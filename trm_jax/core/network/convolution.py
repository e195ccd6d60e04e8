"""A 3x3 convolution in the form that is fastest on each device, for images and for the tokens of a grid.

Channels are the last axis everywhere.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from trm_jax.core.accelerator import on_cpu


class Convolution(nn.Module):
    """3x3 convolution as one matrix product over the nine shifted images.

    On CPU the product and its gradient are faster than XLA's convolution for few channels or small
    images (table in docs/log.md).
    """

    features: int
    inference: bool = False
    """Use XLA's convolution: its forward pass alone is the faster one, and all of it on other devices than CPU."""
    squares: bool = False
    """Give the four outputs of every 2x2 square side by side, (B, H / 2, W / 2, 4, features); sides must be even."""
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x):
        batch, height, width, inputs = x.shape
        kernel = self.param("kernel", self.kernel_init, (9 * inputs, self.features))
        if self.squares:
            return _fused_pool_conv(x, kernel.astype(x.dtype))
        if self.inference or not on_cpu():
            window = kernel.astype(x.dtype).reshape(3, 3, inputs, self.features)
            order = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(x, window, (1, 1), [(1, 1), (1, 1)], dimension_numbers=order)
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = [_cut(_cut(padded, 1, i, height), 2, j, width) for i in range(3) for j in range(3)]
        columns = jnp.concatenate(shifted, axis=-1)
        product = jnp.matmul(columns.reshape(-1, 9 * inputs), kernel.astype(x.dtype))
        return product.reshape(batch, height, width, self.features)


def _fused_pool_conv(x, kernel):
    """3x3 convolution as a product of 4x4 windows, two cells apart, with the kernel at its four places in a window."""
    batch, height, width, inputs = x.shape
    rows, columns, features = height // 2, width // 2, kernel.shape[-1]
    window = kernel.reshape(3, 3, inputs, features)
    places = [jnp.pad(window, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in (0, 1) for j in (0, 1)]
    # Cells of a window in the order of the columns below: square, cell of the square, channel.
    wide = jnp.stack(places, axis=3).reshape(2, 2, 2, 2, inputs, 4 * features).swapaxes(1, 2)
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(batch, rows + 1, 2, columns + 1, 2, inputs)
    squares = padded.swapaxes(2, 3).reshape(batch, rows + 1, columns + 1, 4 * inputs)
    windows = [squares[:, i : i + rows, j : j + columns] for i in (0, 1) for j in (0, 1)]
    product = jnp.matmul(
        jnp.concatenate(windows, axis=-1).reshape(-1, 16 * inputs), wide.reshape(16 * inputs, 4 * features)
    )
    return product.reshape(batch, rows, columns, 4, features)


def _cut(x, axis: int, start: int, count: int):
    # Not by brackets: with a batch of any size they become a gather in an exported graph.
    return lax.slice_in_dim(x, start, start + count, axis=axis)


class TokenConvolution(nn.Module):
    """Mix every token of a grid with its eight neighbours: one 3x3 convolution of all channels, zeros outside.

    A block that is applied again and again sees one cell further each time.
    """

    grid: tuple[int, int]
    last_init: nn.initializers.Initializer
    inference: bool = False

    @nn.compact
    def __call__(self, x):
        batch, _, width = x.shape
        cells = x.reshape(batch, *self.grid, width)
        return Convolution(width, self.inference, kernel_init=self.last_init, name="window")(cells).reshape(x.shape)
