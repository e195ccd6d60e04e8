"""The peer's training step and inference: loss of deep supervision, backward, clipping, AdamW and moving average."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trm_jax.benchmark.torch_model import TRM, load
from trm_jax.core.config import Config, OptimConfig
from trm_jax.core.task import IGNORE
from trm_jax.support.machine import cores

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def use_all_cores() -> None:
    """Let PyTorch compute with every core this process may use, as jax does."""
    torch.set_num_threads(cores())


def build(config: Config, params: Any, compiled: bool) -> TRM:
    """The peer with our weights; ``compiled`` gives its supervision step to torch.compile, as the official code does.

    All N_sup steps in one graph would take PyTorch minutes to compile.
    """
    model = load(config, params).to(DEVICE)
    if compiled:
        torch._dynamo.reset()
        model.supervision_step = torch.compile(model.supervision_step, dynamic=False)
    return model


def with_any_weights(config: Config) -> TRM:
    """The peer with random weights of its own."""
    model = TRM(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.1)
    return model.to(DEVICE)


def deep_supervision(config: Config, logits: Tensor, halt: Tensor, labels: Tensor) -> Tensor:
    """Sum over supervision steps of the mean cross-entropy and the weighted halting loss."""
    repeated = labels.expand(len(logits), *labels.shape)  # (N_sup, B, L) or (N_sup, B)
    values = F.cross_entropy(logits.flatten(0, -2), repeated.flatten(), ignore_index=IGNORE, reduction="none")
    values = values.view_as(repeated)
    counted = repeated != IGNORE
    correct = (logits.argmax(dim=-1) == repeated) | ~counted
    if labels.ndim == 2:
        values = values.sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)
        correct, counted = correct.all(dim=-1), counted.any(dim=-1)
    halting = F.binary_cross_entropy_with_logits(halt, (correct & counted).float(), reduction="none")
    return (values + config.loss.halt_weight * halting).mean(dim=1).sum()


def learning_rate_factor(config: OptimConfig, steps: int) -> Callable[[int], float]:
    """Share of the peak learning rate in optimizer step 0, 1, ...: linear warm-up, then cosine or constant."""

    def factor(step: int) -> float:
        if step < config.warmup:
            return step / config.warmup
        if config.schedule == "constant":
            return 1.0
        progress = min((step - config.warmup) / (steps - config.warmup), 1.0)
        return config.final_fraction + (1 - config.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


class Trainer:
    """A training run of the peer on data (N, cells) and (N, L) or (N,)."""

    def __init__(self, model: TRM, data: dict[str, np.ndarray]):
        self.config, self.model = model.config, model
        self.inputs, self.labels = (_tokens(data[name]) for name in ("inputs", "labels"))
        self.weights = list(model.parameters())
        # Biases, norm scales and initial states, which are vectors, do not decay.
        decayed = [weight for weight in self.weights if weight.ndim > 1]
        others = [weight for weight in self.weights if weight.ndim == 1]
        options = self.config.optim
        groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=options.learning_rate, betas=(options.beta1, options.beta2), fused=True
        )
        factor = learning_rate_factor(options, self.config.run.steps)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        self.ema = [torch.zeros_like(value) for value in self.weights]

    def step(self) -> float:
        """One optimizer update on a batch drawn with replacement; returns the loss."""
        index = torch.randint(len(self.inputs), (self.config.run.batch,), device=DEVICE)
        logits, halt = self.model(self.inputs[index])
        loss = deep_supervision(self.config, logits, halt, self.labels[index])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, self.config.optim.clip)
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.weights, 1 - self.config.optim.ema)
        return loss.item()


def predictor(model: TRM, inputs: np.ndarray) -> Callable[[], tuple[Tensor, Tensor]]:
    """A call that gives classes and halting probabilities after every supervision step."""
    tokens = _tokens(inputs)

    def predict() -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            logits, halt = model(tokens)
            return logits.argmax(dim=-1).cpu(), halt.sigmoid().cpu()

    return predict


def logits(model: TRM, inputs: np.ndarray) -> np.ndarray:
    """Logits of every supervision step, computed as in inference."""
    with torch.inference_mode():
        return model(_tokens(inputs))[0].cpu().numpy()


def logits_and_gradients(model: TRM, data: dict[str, np.ndarray]):
    """Logits, and the gradient of the loss for every trained weight under our path, as numpy arrays."""
    inputs, labels = (_tokens(data[name]) for name in ("inputs", "labels"))
    logits, halt = model(inputs)
    model.zero_grad(set_to_none=True)
    deep_supervision(model.config, logits, halt, labels).backward()
    gradients = {}
    for name, weight in model.named_parameters():
        # A gradient mode may leave out a weight altogether.
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        path = model.paths[name]
        gradients[path] = (gradient.T if path[-1] == "kernel" else gradient).cpu().numpy().copy()
    return logits.detach().cpu().numpy(), gradients


def _tokens(values: np.ndarray) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=DEVICE)
