"""The same model and training step in PyTorch, as its good user writes them: the other side of the benchmark.

Weights come from the JAX model by name, so both sides compute the same. Only what the benchmark compares is written;
`refuse_unknown` names the rest.
"""

import contextlib
import math
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
        "model.mixer": model.mixer != "swiglu",
        "model.positions": model.positions in ("none", "rotary_2d"),
        "model.relations": model.relations == "none",
        "model.norm": model.norm == "post",
        "model.norm_scale": not model.norm_scale,
        "model.use_z": model.use_z,
        "model.initial_state": model.initial_state != "zero",
        "model.separate_nets": not model.separate_nets,
        "model.prefix_tokens": model.prefix_tokens == 0,
        "model.dtype": model.dtype == "float32",
        "loss.supervision": loss.supervision == "sum",
        "loss.cross_entropy": loss.cross_entropy == "softmax",
        "loss.class_weights": not loss.class_weights,
        "loss.continue_loss": not loss.continue_loss,
        "recursion.detach_between_steps": config.recursion.detach_between_steps,
    }
    unsupported = [name for name, equal in supported.items() if not equal]
    require(not unsupported, f"the PyTorch peer does not have this {', '.join(unsupported)}; leave it at its default")


class SwiGLU(nn.Module):
    """Gated feed-forward; gate and up are one product."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class SelfAttention(nn.Module):
    """Bidirectional attention by PyTorch's fused kernel."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads, width = config.heads, config.net_width
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.rotary = config.positions == "rotary_2d"
        angles = rotary_angles(config)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        query, key, value = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.rotary:
            query, key = self._rotate(query), self._rotate(key)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))

    def _rotate(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1)


def rotary_angles(config: ModelConfig) -> Tensor:
    """Angles (L, head width / 2): by row, then by column."""
    quarter = config.net_width // config.heads // 4
    frequencies = config.rotary_base ** (-torch.arange(quarter, dtype=torch.float32) / quarter)
    cells = torch.arange(config.cells)
    places = (cells // config.grid[1], cells % config.grid[1])
    return torch.cat([torch.outer(place.float(), frequencies) for place in places], dim=-1)


class Block(nn.Module):
    """Mix tokens, then channels."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.linear, self.epsilon = config.mixer == "linear", config.norm_epsilon
        tokens, width = config.tokens, config.net_width
        self.mix: nn.Module = nn.Linear(tokens, tokens, bias=False) if self.linear else SelfAttention(config)
        self.mlp = SwiGLU(width, config.hidden(width))

    def forward(self, x: Tensor) -> Tensor:
        x = self._norm(x + (self.mix(x.mT).mT if self.linear else self.mix(x)))
        return self._norm(x + self.mlp(x))

    def _norm(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], None, self.epsilon)


class Stack(nn.Module):
    """The tiny network."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class TRM(nn.Module):
    """Tiny Recursive Model with deep supervision; the loops are Python's."""

    def __init__(self, config: Config):
        super().__init__()
        refuse_unknown(config)
        self.config, model = config, config.model
        self.paths: dict[str, Path] = {}  # of our weights, by name of the peer's; filled by `load`
        self.tokens = nn.Parameter(torch.empty(model.vocabulary, model.width))
        for name in ("initial_y", "initial_z"):
            self.register_buffer(name, torch.zeros(model.width))  # not trained
        self.net = Stack(model)
        self.projected = model.form == "joint" or model.combine == "concat"
        if self.projected:
            self.to_y = nn.Linear(model.net_width, model.width, bias=False)
            self.to_z = nn.Linear(model.net_width, model.width, bias=False)
        self.readout = nn.Linear(model.width, model.classes, bias=False)
        self.halting = nn.Linear(model.width, 2)

    def embed(self, inputs: Tensor) -> Tensor:
        """The question x, (B, L, D)."""
        return F.embedding(inputs, self.tokens) * math.sqrt(self.config.model.width)

    def initial(self, batch: int) -> tuple[Tensor, Tensor]:
        """Initial states y and z."""
        shape = (batch, self.config.model.tokens, self.config.model.width)
        # Contiguous as every later state is, or torch.compile compiles the first step separately.
        return self.initial_y.expand(shape).contiguous(), self.initial_z.expand(shape).contiguous()

    def evaluate(self, states: str, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """One evaluation of the net, for a new "y", a new "z" or both ("yz"); an update of y leaves x out."""
        if self.config.model.combine == "add":
            h = self.net(y + z if states == "y" else x + y + z)
        else:
            h = self.net(torch.cat([torch.zeros_like(y) if states == "y" else x, y, z], dim=-1))
        if "y" in states:
            y = self.to_y(h) if self.projected else h
        if "z" in states:
            z = self.to_z(h) if self.projected else h
        return y, z

    def supervision_step(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """One supervision step; evaluations that the gradient mode leaves out run without gradient."""
        model, depth = self.config.model, self.config.recursion
        cycle = ["z"] * depth.n + ["y"] if model.form == "alternating" else ["yz"] * depth.n
        evaluations = cycle * depth.T
        count = len(evaluations)
        trained = {"full": count, "last_cycle": count // depth.T, "one_step": 2 if evaluations[-1] == "y" else 1}
        for index, states in enumerate(evaluations):
            with contextlib.nullcontext() if index >= count - trained[depth.gradient] else torch.no_grad():
                y, z = self.evaluate(states, x, y, z)
        return y, z

    def read(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and halting logits (B,)."""
        model = self.config.model
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
            y, z = y.detach(), z.detach()
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
    model.load_state_dict(state)
    model.paths = {peer_name(path): path for path in weights}
    return model
