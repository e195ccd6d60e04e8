"""The same model and training step in PyTorch, as its good user writes them: the other side of the benchmark.

Weights come from the JAX model by name, so both sides compute the same. Only what the benchmark compares is written;
`refuse_unknown` names the rest.
"""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm_jax.core.config import Config, ModelConfig
from trm_jax.support.schema import require

Path = tuple[str, ...]


def refuse_unknown(config: Config) -> None:
    """Raise ValueError for an option that the peer does not have."""
    model, loss = config.model, config.loss
    supported = {
        "model.separate_nets": not model.separate_nets,
        "model.prefix_tokens": model.prefix_tokens == 0,
        "model.relations": model.relations == "none",
        "model.mixer": model.mixer != "convolution",
        "model.answers": model.answers == 1,
        "loss.supervision": loss.supervision == "sum",
        "loss.cross_entropy": loss.cross_entropy == "softmax",
        "loss.class_weights": not loss.class_weights,
        "loss.label_smoothing": loss.label_smoothing == 0,
        "loss.distillation": loss.distillation == 0,
        "loss.continue_loss": not loss.continue_loss,
        "recursion.detach_between_steps": config.recursion.detach_between_steps,
    }
    unsupported = [name for name, equal in supported.items() if not equal]
    require(not unsupported, f"the PyTorch peer does not have this {', '.join(unsupported)}; leave it at its default")


class RMSNorm(nn.Module):
    """Root mean square norm with a learned scale or none."""

    def __init__(self, config: ModelConfig, width: int):
        super().__init__()
        self.epsilon = config.norm_epsilon
        self.scale = nn.Parameter(torch.ones(width)) if config.norm_scale else None

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.scale, self.epsilon)


class Linear(nn.Linear):
    """Product in the precision of x; weights stay in float32."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class SwiGLU(nn.Module):
    """Gated feed-forward; gate and up are one product."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate_up = Linear(width, 2 * hidden, bias=False)
        self.down = Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class SelfAttention(nn.Module):
    """Bidirectional attention by PyTorch's fused kernel."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads, width = config.heads, config.net_width
        self.qkv = Linear(width, 3 * width, bias=False)
        self.out = Linear(width, width, bias=False)
        angles = rotary_angles(config)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.rotary = config.positions.startswith("rotary")

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        query, key, value = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.rotary:
            query, key = self._rotate(query), self._rotate(key)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))

    def _rotate(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        turned = torch.cat([first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1)
        return turned.to(x.dtype)


def rotary_angles(config: ModelConfig) -> Tensor:
    """Angles (L, head width / 2): by token in 1-D; by row, then by column in 2-D."""
    half = config.net_width // config.heads // 2

    def frequencies(count: int) -> Tensor:
        return config.rotary_base ** (-torch.arange(count, dtype=torch.float32) / count)

    cells = torch.arange(config.cells, dtype=torch.float32)
    if config.positions != "rotary_2d":
        return torch.outer(cells, frequencies(half))
    rows, columns = torch.arange(config.cells) // config.grid[1], torch.arange(config.cells) % config.grid[1]
    by_half = frequencies(half // 2)
    return torch.cat([torch.outer(rows.float(), by_half), torch.outer(columns.float(), by_half)], dim=-1)


class Block(nn.Module):
    """Mix tokens, then channels."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.mixer, self.pre = config.mixer, config.norm == "pre"
        tokens, width = config.tokens, config.net_width
        self.mix: nn.Module
        if config.mixer == "linear":
            self.mix = Linear(tokens, tokens, bias=False)
        elif config.mixer == "swiglu":
            self.mix = SwiGLU(tokens, config.hidden(tokens))
        else:
            self.mix = SelfAttention(config)
        self.mix_norm = RMSNorm(config, tokens if config.mixer == "swiglu" else width)
        self.mlp = SwiGLU(width, config.hidden(width))
        self.mlp_norm = RMSNorm(config, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.mixer == "swiglu":
            x = self._residual(self.mix, self.mix_norm, x.mT).mT
        elif self.mixer == "linear":
            x = self._residual(lambda h: self.mix(h.mT).mT, self.mix_norm, x)
        else:
            x = self._residual(self.mix, self.mix_norm, x)
        return self._residual(self.mlp, self.mlp_norm, x)

    def _residual(self, layer: Callable, norm: nn.Module, x: Tensor) -> Tensor:
        return x + layer(norm(x)) if self.pre else norm(x + layer(x))


class Stack(nn.Module):
    """The tiny network."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config, config.net_width) if config.norm == "pre" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class TRM(nn.Module):
    """Tiny Recursive Model with deep supervision; the loops are Python's."""

    def __init__(self, config: Config):
        super().__init__()
        refuse_unknown(config)
        self.config, model = config, config.model
        self.dtype = getattr(torch, model.dtype)
        self.paths: dict[str, Path] = {}  # of our weights, by name of the peer's; filled by `load`
        self.tokens = nn.Parameter(torch.empty(model.vocabulary, model.width))
        if model.positions == "learned":
            self.positions = nn.Parameter(torch.empty(model.tokens, model.width))
        for name in ("initial_y", "initial_z") if model.use_z else ("initial_y",):
            self.register_buffer(name, torch.zeros(model.width))  # not trained
        self.net = Stack(model)
        self.projected = model.form == "joint" or model.combine == "concat"
        if self.projected:
            self.to_y = Linear(model.net_width, model.width, bias=False)
            if model.use_z:
                self.to_z = Linear(model.net_width, model.width, bias=False)
        self.readout = nn.Linear(model.width, model.classes, bias=False)
        self.halting = nn.Linear(model.width, 2)

    def embed(self, inputs: Tensor) -> Tensor:
        """The question x, (B, L, D)."""
        x = F.embedding(inputs, self.tokens)
        if self.config.model.positions == "learned":
            x = (x + self.positions) * 2**-0.5
        return (x * math.sqrt(self.config.model.width)).to(self.dtype)

    def initial(self, batch: int) -> tuple[Tensor, Tensor | None]:
        """Initial states y and z."""
        shape = (batch, self.config.model.tokens, self.config.model.width)
        # Contiguous as every later state is, or torch.compile compiles the first step separately.
        y = self.initial_y.to(self.dtype).expand(shape).contiguous()
        return y, self.initial_z.to(self.dtype).expand(shape).contiguous() if self.config.model.use_z else None

    def evaluate(self, states: str, x: Tensor, y: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One evaluation of the net, for a new "y", a new "z" or both ("yz"); an update of y leaves x out."""
        if self.config.model.combine == "add":
            parts = [part for part in (None if states == "y" else x, y, z) if part is not None]
            h = self.net(sum(parts[1:], parts[0]))
        else:
            question = torch.zeros_like(y) if states == "y" else x
            h = self.net(torch.cat([question, y] if z is None else [question, y, z], dim=-1))
        if "y" in states:
            y = self.to_y(h) if self.projected else h
        if "z" in states and z is not None:
            z = self.to_z(h) if self.projected else h
        return y, z

    def supervision_step(self, x: Tensor, y: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One supervision step; evaluations that the gradient mode leaves out run without gradient."""
        model, depth = self.config.model, self.config.recursion
        if model.form == "alternating" and model.use_z:
            evaluations = (["z"] * depth.n + ["y"]) * depth.T
        else:
            evaluations = ["yz"] * depth.T * (depth.n + (model.form == "alternating"))
        count = len(evaluations)
        trained = {"full": count, "last_cycle": count // depth.T, "one_step": 2 if evaluations[-1] == "y" else 1}
        for index, states in enumerate(evaluations):
            with contextlib.nullcontext() if index >= count - trained[depth.gradient] else torch.no_grad():
                y, z = self.evaluate(states, x, y, z)
        return y, z

    def read(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and halting logits (B,), in float32."""
        model, y = self.config.model, y.float()
        logits = self.readout(y if model.readout == "cell" else y.mean(dim=1))
        return logits, self.halting(y[:, 0] if model.halt_token == "first" else y.mean(dim=1))[:, 0]

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and halting logits after each supervision step, with a leading axis N_sup."""
        x = self.embed(inputs)
        y, z = self.initial(len(inputs))
        readings = []
        for _ in range(self.config.recursion.N_sup):
            y, z = self.supervision_step(x, y, z)
            readings.append(self.read(y))
            y, z = y.detach(), None if z is None else z.detach()
        logits, halt = zip(*readings, strict=True)
        return torch.stack(logits), torch.stack(halt)


def peer_name(path: Path) -> str:
    """Name of the peer's tensor for the path of one of our weights."""
    parts = [part.replace("block_", "blocks.") for part in path]
    return ".".join([*parts[:-1], "weight" if parts[-1] == "kernel" else parts[-1]])


def load(config: Config, params: Any) -> TRM:
    """The peer with the weights of a JAX model, nested dicts of arrays. Raises ValueError for an unknown option."""
    from flax.traverse_util import flatten_dict  # imports jax, which a process that measures PyTorch does without

    model, state, weights = TRM(config), {}, flatten_dict(params)
    for path, value in weights.items():
        tensor = torch.tensor(np.asarray(value))
        state[peer_name(path)] = tensor.T if path[-1] == "kernel" else tensor
    if config.model.initial_state == "zero":
        state |= {name: buffer for name, buffer in model.named_buffers() if name.startswith("initial")}
    model.load_state_dict(state)
    model.paths = {peer_name(path): path for path in weights}
    return model
