"""TRM: embedding, net, read-out and halting head. It holds weights; the loops are in `recursion.py` beside it."""

from functools import cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from trm_jax.core.accelerator import matmul_precision
from trm_jax.core.config import Config
from trm_jax.core.model_config import ModelConfig
from trm_jax.core.network import members, recursion
from trm_jax.core.network.encoders import Stem, dihedral_views
from trm_jax.core.network.layers import Linear, Stack
from trm_jax.core.network.recursion import recompute
from trm_jax.support.flops import matmul_flops
from trm_jax.support.schema import require

INITIAL_STATES = ("initial_y", "initial_z")


class StepOutput(NamedTuple):
    """What the heads say of an answer y."""

    logits: Any  # (B, L, V) per cell, (B, classes) pooled, or (B, answers, classes)
    q_halt: Any  # (B,) logit of "the whole sequence is right"
    q_continue: Any  # (B,) logit of the value of another step; trained with loss.continue_loss only


class TRM(nn.Module):
    """Weights of a Tiny Recursive Model (Jolicoeur-Martineau 2025, "Less is More", section 4)."""

    config: ModelConfig
    inference: bool = False

    def setup(self):
        config = self.config
        embedding_init = nn.initializers.truncated_normal(_truncated(config.width**-0.5))
        if config.encoder:
            self.stem = Stem(config.encoder, config.width, self.inference)
        else:
            self.tokens = self.param("tokens", embedding_init, (config.vocabulary, config.width))
        if config.prefix_width:
            self.puzzles = self.param("puzzles", nn.initializers.zeros, (config.puzzles, config.prefix_width))
        if config.positions == "learned":
            self.positions = self.param("positions", embedding_init, (config.tokens, config.width))
        if config.initial_state != "zero":
            state_init = nn.initializers.truncated_normal(_truncated(1.0))
            self.initial_y = self.param("initial_y", state_init, (config.width,))
            if config.use_z:
                self.initial_z = self.param("initial_z", state_init, (config.width,))
        linear, head = partial(Linear, inference=self.inference), partial(Linear, inference=self.inference, wide=True)
        self.net = Stack(config, self.inference)
        if config.separate_nets:
            self.net_y = Stack(config, self.inference)
        if config.form == "joint" or config.combine == "concat":
            self.to_y = linear(config.width)
            if config.use_z:
                self.to_z = linear(config.width)
        self.readout = head(config.classes * config.answers, use_bias=config.readout_bias)
        self.halting = head(
            2, use_bias=True, kernel_init=nn.initializers.zeros, bias_init=nn.initializers.constant(-5.0)
        )

    def embed(self, inputs, puzzle=None):
        """Embed inputs and puzzle identifiers (B,) as the question x, (B, L, D).

        Identifiers may be left out where there is one puzzle vector only; else ValueError.
        Inputs are tokens (B, cells), or with an encoder images (B, image, image, channels) of values in 0..255.
        """
        config = self.config
        # The stem gives unit variance, the embedding 1 / D.
        if config.encoder:
            views = dihedral_views(inputs.astype(jnp.float32) / 255, config.views)
            x = self.stem(views) * config.width**-0.5
        else:
            x = jnp.asarray(self.tokens)[inputs]  # weights may be numpy arrays, which no tracer can index
        if config.prefix_width:
            if puzzle is None:
                require(config.puzzles == 1, f"the model has {config.puzzles} puzzle vectors: give puzzle identifiers")
                puzzle = jnp.zeros(inputs.shape[0], jnp.int32)
            padding = config.prefix_tokens * config.width - config.prefix_width
            prefix = jnp.pad(jnp.asarray(self.puzzles)[puzzle], ((0, 0), (0, padding)))
            x = jnp.concatenate([prefix.reshape(-1, config.prefix_tokens, config.width), x], axis=1)
        if config.positions == "learned":
            x = (x + self.positions) * 2**-0.5
        x = (x * config.width**0.5).astype(config.dtype)
        return x.reshape(-1, config.state_tokens, config.width) if config.views > 1 else x

    def initial(self, batch: int):
        """Initial states y and z, (B, L, D); z is None in a model without it."""
        config = self.config
        shape = (batch, config.state_tokens, config.width)

        def state(name):
            if config.initial_state == "zero":
                return jnp.zeros(shape, config.dtype)
            vector = jax.lax.stop_gradient(getattr(self, name))
            return jnp.broadcast_to(vector, shape).astype(config.dtype)

        return state("initial_y"), state("initial_z") if config.use_z else None

    def update_z(self, x, y, z):
        """New latent state ``net(x + y + z)``."""
        h = self._each_view(self.net, self._combine(x, y, z))
        return self.to_z(h) if self.config.combine == "concat" else h

    def update_y(self, y, z):
        """New answer ``net(y + z)``: the question is left out, so the net can tell the two updates apart."""
        h = self._combine(jnp.zeros_like(y), y, z) if self.config.combine == "concat" else y + z
        h = self._each_view(self.net_y if self.config.separate_nets else self.net, h)
        return self.to_y(h) if self.config.combine == "concat" else h

    def update(self, x, y, z):
        """New answer and new latent state from one pass; z stays None in a model without it."""
        h = self._each_view(self.net, self._combine(x, y, z))
        projected = self.config.form == "joint" or self.config.combine == "concat"
        y = self.to_y(h) if projected else h
        return y, self.to_z(h) if self.config.use_z else None

    def update_single(self, x, y):
        """New only state from the question and the one before."""
        return self.update(x, y, None)[0]

    def finish_single(self, y):
        """New only state without the question: the last evaluation of a cycle in the official trm_singlez."""
        return self.update_single(jnp.zeros_like(y), y)

    def _combine(self, x, y, z):
        parts = [x, y] if z is None else [x, y, z]
        return jnp.concatenate(parts, axis=-1) if self.config.combine == "concat" else sum(parts[1:], parts[0])

    def _each_view(self, net, h):
        """Apply a net to the tokens of every view apart; in the states they stand one after another."""
        if self.config.views == 1:
            return net(h)
        return net(h.reshape(-1, self.config.tokens, h.shape[-1])).reshape(-1, *h.shape[1:])

    def heads(self, y) -> StepOutput:
        """Class logits and halting logits of an answer, in float32: the mean of those of its views."""
        config = self.config
        if config.views > 1:
            y = y.reshape(-1, config.tokens, config.width)
        cells = y[:, config.prefix_tokens :]
        if config.readout != "cell":
            cells = cells.astype(jnp.float32)
        pooled = cells if config.readout == "cell" else cells.mean(axis=1)
        if config.readout == "mean_max":
            pooled = jnp.concatenate([pooled, cells.max(axis=1)], axis=-1)
        logits = self.readout(pooled)
        halting = self.halting(y[:, 0] if config.halt_token == "first" else y.astype(jnp.float32).mean(axis=1))
        if config.views > 1:
            logits, halting = (
                head.reshape(-1, config.views, head.shape[-1]).mean(axis=1) for head in (logits, halting)
            )
        if config.answers > 1:
            logits = logits.reshape(-1, config.answers, config.classes)
        return StepOutput(logits, halting[:, 0], halting[:, 1])

    def __call__(self, inputs):
        """Touch every weight once; used to initialise them."""
        x = self.embed(inputs, jnp.zeros(inputs.shape[0], jnp.int32))
        y, z = self.initial(inputs.shape[0])
        if self.config.form == "joint" or not self.config.use_z:
            y, z = self.update(x, y, z)
        else:
            z = self.update_z(x, y, z)
            y = self.update_y(y, z)
        return self.heads(y)


def _truncated(std: float) -> float:
    """Scale of a normal that has this standard deviation after truncation at two."""
    return std / 0.87962566103423978


def blank_inputs(config: ModelConfig, batch: int):
    """Inputs of zeros in the shape and dtype that the model takes: tokens, or images."""
    if config.encoder:
        size, channels = config.encoder.image, config.encoder.channels
        return jnp.zeros((batch, size, size, channels), jnp.uint8)
    return jnp.zeros((batch, config.cells), jnp.int32)


def initialise(config: ModelConfig, key):
    """Random weights as a nested dict of float32 arrays; of several members by their names."""
    if config.members > 1:
        return members.initialise(initialise, config, key)
    return _initialiser(config)(key, blank_inputs(config, 1))["params"]


@cache
def _initialiser(config: ModelConfig) -> Any:
    """Compiled once: tracing takes longer than drawing the weights of a small model."""
    return jax.jit(TRM(config).init)


def _apply(config: Config, params, method: str, *arguments, inference: bool = False) -> Any:
    """A method of the model, its products in the precision of the config."""
    if config.model.members > 1:
        return members.apply(partial(_apply, inference=inference), config, params, method, *arguments)
    with matmul_precision(config.model):
        return TRM(config.model, inference).apply({"params": params}, *arguments, method=method)


def embed(config: Config, params, inputs, puzzle=None, inference: bool = False):
    """The question x, (B, L, D)."""
    return _apply(config, params, "embed", inputs, puzzle, inference=inference)


def initial(config: Config, params, batch: int):
    """Initial states (y, z), each (B, L, D)."""
    return _apply(config, params, "initial", batch)


def heads(config: Config, params, y, inference: bool = False) -> StepOutput:
    """What the heads say of the answer y, (B, L, D)."""
    return _apply(config, params, "heads", y, inference=inference)


def supervision_step(config: Config, params, x, y, z, inference: bool = False):
    """One supervision step in the form, depth and gradient mode of the config. Returns the new (y, z)."""
    depth = config.recursion

    def net(method):
        evaluate = partial(_apply, config, params, method, inference=inference)
        return recompute(evaluate, depth.unroll) if depth.remat else evaluate

    options: dict[str, Any] = {
        "T": depth.T,
        "gradient": depth.gradient,
        "unroll": depth.unroll,
        "segment": depth.segment,
    }
    if config.model.form == "alternating" and config.model.use_z:
        return recursion.alternating(net("update_z"), net("update_y"), x, y, z, n=depth.n, **options)
    if not config.model.question_last:
        return recursion.single(net("update_single"), net("finish_single"), x, y, n=depth.n, **options), None
    # Without z the answer takes its place, so that a cycle has as many evaluations as with it.
    passes = depth.n + 1 if config.model.form == "alternating" else depth.n
    return recursion.joint(net("update"), x, y, z, n=passes, **options)


def forward(config: Config, params, inputs, puzzle=None, inference: bool = False) -> StepOutput:
    """Readings after each of the N_sup supervision steps, every leaf with a leading axis N_sup.

    ``inference`` computes the same in forms that are fast without a gradient, for prediction and export.
    """
    return answers_to(config, params, embed(config, params, inputs, puzzle, inference), inference)


def abstract_weights(config: ModelConfig):
    """Shapes and types of the weights in their places, without any numbers."""
    return jax.eval_shape(lambda: initialise(config, jax.random.key(0)))


def forward_flops(config: Config, params, batch: int = 1, inference: bool = False) -> int:
    """Matrix-product operations of a forward pass over all supervision steps; the weights may be abstract."""
    inputs = blank_inputs(config.model, batch)
    return matmul_flops(lambda params, x: forward(config, params, x, inference=inference), params, inputs)


def answers_to(config: Config, params, x, inference: bool = False) -> StepOutput:
    """As `forward`, to questions x (B, L, D) that are embedded already."""
    depth = config.recursion
    _, outputs = recursion.supervise(
        lambda y, z: supervision_step(config, params, x, y, z, inference),
        # One read-out for the answers of all steps: fewer nodes in an exported graph.
        lambda y: y if inference else heads(config, params, y),
        *initial(config, params, x.shape[0]),
        N_sup=depth.N_sup,
        detach=depth.detach_between_steps,
        unroll=depth.unroll,
    )
    if not inference:
        return outputs
    outputs = heads(config, params, outputs.reshape(-1, *outputs.shape[2:]), inference)
    return jax.tree.map(lambda leaf: leaf.reshape(depth.N_sup, -1, *leaf.shape[1:]), outputs)


def trainable(config: ModelConfig, params):
    """Tree of booleans: False for weights that no gradient reaches by design (fixed initial states)."""
    fixed = INITIAL_STATES if config.initial_state == "fixed" else ()
    return unflatten_dict({path: path[-1] not in fixed for path in flatten_dict(params)})


def count_parameters(config: ModelConfig, params) -> int:
    """Number of trained weights of one model (no seed axis)."""
    counted = jax.tree.map(lambda leaf, keep: leaf.size * keep, params, trainable(config, params))
    return sum(jax.tree.leaves(counted))
