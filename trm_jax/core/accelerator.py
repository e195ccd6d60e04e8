"""What is computed in another form on a GPU or TPU; processors and exported graphs keep the plain forms."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import jax
import jax.numpy as jnp

from trm_jax.core.model_config import ModelConfig


def platform() -> str:
    """Where the program that is traced now will run, "cpu", "gpu" or "tpu": ``jax.default_device`` if it is set."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def on_cpu() -> bool:
    """Whether the program that is traced now will run on a processor."""
    return platform() == "cpu"


def matmul_precision(config: ModelConfig) -> AbstractContextManager:
    """Context in which matrix products are traced as ``model.matmul_precision`` says.

    A processor computes float32 products exactly and bfloat16 ones are exact everywhere, so "auto" changes neither.
    Float32 elsewhere gets "high": TF32 on NVIDIA, three bfloat16 passes on TPU instead of one.
    """
    if config.matmul_precision != "auto":
        return jax.default_matmul_precision(config.matmul_precision)
    if on_cpu() or config.dtype != "float32":
        return nullcontext()
    return jax.default_matmul_precision("high")


def matmul_float32(a, b):
    """Matrix product whose sums are kept in float32, where `jnp.matmul` would round those of bfloat16 to it."""
    # Nothing to say in float32, and exporters do not know the argument.
    return jnp.matmul(a, b) if a.dtype == jnp.float32 else jnp.matmul(a, b, preferred_element_type=jnp.float32)


def cudnn_attention(config: ModelConfig) -> bool:
    """Whether attention runs in cuDNN's fused kernel, which never writes the scores out.

    It takes bfloat16, head widths up to 128 in steps of 8, and with a bias an even number of tokens.
    """
    head_width = config.net_width // config.heads
    odd_bias = config.relations != "none" and config.tokens % 2
    fits = config.dtype == "bfloat16" and head_width % 8 == 0 and head_width <= 128 and not odd_bias
    return platform() == "gpu" and config.mixer == "attention" and bool(fits)


def fused_attention(config: ModelConfig, query, key, value, bias=None):
    """Attention of a GPU or TPU on (B, L, H, head width), with a bias (H, L, L) of the scores."""
    implementation: Literal["cudnn", "xla"] = "cudnn" if cudnn_attention(config) else "xla"
    if bias is not None:
        bias = bias[None].astype(query.dtype if implementation == "cudnn" else jnp.float32)
    return jax.nn.dot_product_attention(query, key, value, bias, implementation=implementation)
