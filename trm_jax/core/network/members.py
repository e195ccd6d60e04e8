"""Several nets as one model: states stand side by side, answers are averaged (Lakshminarayanan et al. 2017, sec. 2.4).

Each member has weights of its own and the config of the model with one member. In x, y and z the tokens of one member
follow those of another along the axis of tokens, as those of views do, so that whoever carries states need not know
of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from trm_jax.core.config import Config
from trm_jax.core.model_config import ModelConfig

SHARED = ("embed", "initial")
"""Methods whose arguments are the same for all members; those of the others are states."""


def names(config: ModelConfig) -> list[str]:
    """Under which names the weights of the members stand."""
    return [f"member_{number}" for number in range(config.members)]


def initialise(draw: Callable[[ModelConfig, Any], Any], config: ModelConfig, key: Any) -> Any:
    """Random weights of every member, each as ``draw`` makes them."""
    single, keys = replace(config, members=1), jax.random.split(key, config.members)
    return {name: draw(single, own) for name, own in zip(names(config), keys, strict=True)}


def apply(evaluate: Callable[..., Any], config: Config, params: Any, method: str, *arguments: Any) -> Any:
    """A method of the model, evaluated for every member as ``evaluate(config, params, method, *arguments)``."""
    single, count = replace(config, model=replace(config.model, members=1)), config.model.members
    found = []
    for number, name in enumerate(names(config.model)):
        own = arguments if method in SHARED else [_part(state, number, count) for state in arguments]
        found.append(evaluate(single, params[name], method, *own))
    if method == "heads":
        return average(found)
    return jax.tree.map(lambda *states: jnp.concatenate(states, axis=1), *found)


def _part(state: Any, number: int, count: int) -> Any:
    """The state (B, L, D) of one of so many members; None in a model that has none."""
    return None if state is None else jnp.split(state, count, axis=1)[number]


def average(outputs: Sequence[Any]) -> Any:
    """What the members say together: logits are the logarithms of their mean probabilities, the others are means.

    ``outputs`` are what `trm_jax.core.network.model.heads` gives of each.
    """
    scores = [jax.nn.log_softmax(output.logits) for output in outputs]
    highest = scores[0]  # written out: jax's logsumexp has operators that TensorRT lacks
    for score in scores[1:]:
        highest = jnp.maximum(highest, score)
    total = sum(jnp.exp(score - highest) for score in scores)
    logits = highest + jnp.log(total / len(outputs))
    q_halt, q_continue = (
        sum(getattr(output, name) for output in outputs) / len(outputs) for name in ("q_halt", "q_continue")
    )
    return outputs[0]._replace(logits=logits, q_halt=q_halt, q_continue=q_continue)
