"""The few layers a TRM needs, as thin Linen modules.

x is (B, L, D) everywhere; weights are (inputs, outputs) in float32, computation in ``dtype``. ``inference`` computes
the same in forms whose forward pass is fast and whose gradient is slow on CPU: for prediction and export, and for
everything on other devices.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from trm_jax.core.accelerator import fused_attention, matmul_float32, on_cpu
from trm_jax.core.model_config import ModelConfig
from trm_jax.core.network.convolution import TokenConvolution

truncated_lecun = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


class Linear(nn.Module):
    """Affine map of the last axis."""

    features: int
    use_bias: bool = False
    kernel_init: nn.initializers.Initializer = truncated_lecun
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    inference: bool = False
    wide: bool = False
    """Give the sums in float32, not rounded to the precision of x."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        # One 2-D product: on CPU the backward pass of a batched one is up to 1.4 times slower (width 144).
        flat = x if self.inference else x.reshape(-1, x.shape[-1])
        y = (matmul_float32 if self.wide else jnp.matmul)(flat, kernel.astype(x.dtype))
        if self.use_bias:
            y = y + self.param("bias", self.bias_init, (self.features,)).astype(y.dtype)
        return y.reshape(*x.shape[:-1], self.features)


class RMSNorm(nn.Module):
    """Divide by the root mean square of the last axis (Zhang & Sennrich 2019), in float32; scale learned or absent."""

    epsilon: float
    use_scale: bool

    @nn.compact
    def __call__(self, x):
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + self.epsilon)
        if self.use_scale:
            wide = wide * self.param("scale", nn.initializers.ones, (x.shape[-1],))
        return wide.astype(x.dtype)


class SwiGLU(nn.Module):
    """Gated feed-forward ``down(silu(gate) * up)`` (Shazeer 2020); gate and up are one product."""

    hidden: int
    last_init: nn.initializers.Initializer = truncated_lecun
    inference: bool = False

    @nn.compact
    def __call__(self, x):
        linear = partial(Linear, inference=self.inference)
        gate, up = jnp.split(linear(2 * self.hidden, name="gate_up")(x), 2, axis=-1)
        return linear(x.shape[-1], kernel_init=self.last_init, name="down")(nn.silu(gate) * up)


class TokenLinear(nn.Module):
    """Mix tokens with one (L, L) matrix, the same for every channel."""

    last_init: nn.initializers.Initializer = truncated_lecun
    inference: bool = False

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", self.last_init, (x.shape[-2], x.shape[-2]))
        if self.inference or not on_cpu():
            return jnp.matmul(kernel.T.astype(x.dtype), x)
        # Tokens first, so that it is one 2-D product: on CPU its gradient takes half the time of the batched form.
        batch, tokens, width = x.shape
        mixed = jnp.matmul(kernel.T.astype(x.dtype), x.swapaxes(0, 1).reshape(tokens, batch * width))
        return mixed.reshape(tokens, batch, width).swapaxes(0, 1)


def rotary_angles(config: ModelConfig):
    """Angles (L, head width / 2) of the rotary positions (Su et al. 2021).

    1-D counts tokens from 0, the prefix included (official). 2-D turns the first half of the channels by row and the
    second by column; prefix tokens have no place on the grid and are not turned.
    """
    half = config.net_width // config.heads // 2
    if config.positions == "rotary_1d":
        return jnp.outer(np.arange(config.tokens, dtype=np.float32), _frequencies(half, config.rotary_base))
    # Floating point from the start: exporters do not promote integers as jax does.
    rows, columns = np.divmod(np.arange(config.cells, dtype=np.float32), config.grid[1])
    frequencies = _frequencies(half // 2, config.rotary_base)
    angles = jnp.concatenate([jnp.outer(rows, frequencies), jnp.outer(columns, frequencies)], axis=-1)
    return jnp.concatenate([jnp.zeros((config.prefix_tokens, half)), angles])


def _frequencies(count: int, base: float):
    return base ** (-jnp.arange(count, dtype=jnp.float32) / count)


def rotate(x, angles, scale: float = 1.0):
    """Turn channel pairs (i, i + half) of x, (B, H, L, head width), by ``angles``, (L, head width / 2).

    Computed in float32 and rounded once, after ``scale`` too.
    """
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return (turned if scale == 1 else turned * scale).astype(x.dtype)


def relation_kinds(config: ModelConfig) -> np.ndarray:
    """Number of the relation between every two tokens, (L, L) int32; pairs with a prefix token have the last one.

    Same row counts 1, same column 2, same box 4. Neighbours count 4 to 7: right, left, below, above.
    """
    rows, columns = np.divmod(np.arange(config.cells), config.grid[1])
    down, right = rows - rows[:, None], columns - columns[:, None]
    kinds = (down == 0) + 2 * (right == 0)
    if config.relations == "boxes":
        box = rows // config.box[0] * config.cells + columns // config.box[1]
        kinds = kinds + 4 * (box == box[:, None])
    if config.relations == "neighbours":
        for number, step in enumerate(((0, 1), (0, -1), (1, 0), (-1, 0)), start=4):
            kinds = np.where((down == step[0]) & (right == step[1]), number, kinds)
    prefix = config.prefix_tokens
    return np.pad(kinds, ((prefix, 0), (prefix, 0)), constant_values=RELATIONS).astype(np.int32)


RELATIONS = 8
"""Kinds of relations between two cells, at most; the one after them is that to a prefix token."""


def _relations_init(config: ModelConfig, key, shape):
    """Random numbers; a cell and its neighbours start ahead, or among hundreds of cells nothing is learned of them."""
    ahead = np.where((np.arange(RELATIONS + 1) >= 3) & (np.arange(RELATIONS + 1) < RELATIONS), 4.0, 0.0)
    return nn.initializers.normal(0.5)(key, shape) + (ahead if config.relations == "neighbours" else 0.0)


class SelfAttention(nn.Module):
    """Bidirectional multi-head attention; queries, keys and values are one product without bias.

    With relations, a learned bias for every head and kind of relation of two cells is added to the scores, as for
    relative positions (Shaw et al. 2018; Raffel et al. 2020).
    """

    config: ModelConfig
    last_init: nn.initializers.Initializer = truncated_lecun
    inference: bool = False

    @nn.compact
    def __call__(self, x):
        batch, tokens, width = x.shape
        heads = self.config.heads
        linear = partial(Linear, inference=self.inference)
        qkv = linear(3 * width, name="qkv")(x).reshape(batch, tokens, 3, heads, width // heads)
        angles = rotary_angles(self.config) if self.config.positions.startswith("rotary") else None
        bias = None
        if self.config.relations != "none":
            bias = self.param("relations", partial(_relations_init, self.config), (heads, RELATIONS + 1))
            bias = jnp.take(bias, relation_kinds(self.config), axis=1)
        if on_cpu():
            query, key, value = jnp.moveaxis(qkv, (2, 3), (0, 2))
            mixed = _written_out(query, key, value, angles, bias).swapaxes(1, 2)
        else:
            query, key, value = jnp.moveaxis(qkv, 2, 0)
            if angles is not None:
                query, key = rotate(query, angles[:, None]), rotate(key, angles[:, None])
            mixed = fused_attention(self.config, query, key, value, bias)
        return linear(width, kernel_init=self.last_init, name="out")(mixed.reshape(batch, tokens, width))


def _written_out(query, key, value, angles, bias):
    """Attention on (B, H, L, head width) with its scores in memory: as fast on CPU, and what exporters follow."""
    # The scale stands before the first product: TensorRT fuses attention only then.
    scale = query.shape[-1] ** -0.5
    if angles is None:
        query = query * scale
    else:
        query, key = rotate(query, angles, scale), rotate(key, angles)
    scores = matmul_float32(query, key.swapaxes(-1, -2))
    if bias is not None:
        scores = scores + bias
    return jnp.matmul(nn.softmax(scores, axis=-1).astype(value.dtype), value)


class Block(nn.Module):
    """Mix tokens, then channels, each with a residual connection and a norm before or after it."""

    config: ModelConfig
    inference: bool = False

    @nn.compact
    def __call__(self, x):
        config = self.config
        last: dict[str, Any] = {"last_init": nn.initializers.zeros} if config.identity_start else {}
        swiglu = partial(SwiGLU, **last, inference=self.inference)
        if config.mixer == "swiglu":
            # The official mixer works on the transposed tensor, and its norm runs over tokens too.
            mixer = swiglu(hidden=config.hidden(config.tokens), name="mix")
            x = self._residual(mixer, x.swapaxes(-1, -2), "mix_norm").swapaxes(-1, -2)
        elif config.mixer == "linear":
            x = self._residual(TokenLinear(**last, inference=self.inference, name="mix"), x, "mix_norm")
        elif config.mixer == "convolution":
            init = last.get("last_init", truncated_lecun)
            x = self._residual(TokenConvolution(config.grid, init, self.inference, name="mix"), x, "mix_norm")
        else:
            x = self._residual(SelfAttention(config, **last, inference=self.inference, name="mix"), x, "mix_norm")
        return self._residual(swiglu(hidden=config.hidden(config.net_width), name="mlp"), x, "mlp_norm")

    def _residual(self, layer, x, norm_name):
        norm = RMSNorm(self.config.norm_epsilon, self.config.norm_scale, name=norm_name)
        return norm(x + layer(x)) if self.config.norm == "post" else x + layer(norm(x))


class Stack(nn.Module):
    """The tiny network: ``layers`` blocks, and a last norm in the pre-norm form, whose sum would grow with depth."""

    config: ModelConfig
    inference: bool = False

    @nn.compact
    def __call__(self, x):
        for index in range(self.config.layers):
            x = Block(self.config, self.inference, name=f"block_{index}")(x)
        if self.config.norm == "pre":
            x = RMSNorm(self.config.norm_epsilon, self.config.norm_scale, name="norm")(x)
        return x
