"""What trained models answer: the one way from weights with a leading axis S and host arrays to host arrays."""

from functools import cache, partial
from typing import Any

import jax
import numpy as np

from trm_jax.core import predict as core
from trm_jax.core.config import Config
from trm_jax.core.task import Examples, Task, check_tokens
from trm_jax.training.devices import over_seeds, run_mesh, to_host

CHUNK = 512
"""Inputs answered in one call, in whole batches; the last call is padded, so one program serves any number."""


def predict(
    config: Config,
    params: Any,
    inputs: np.ndarray,
    puzzle: np.ndarray | None = None,
    *,
    steps: int = 0,
    batch: int = core.BATCH,
    reduce: core.Reduce = core.most_probable,
    inference: bool = False,
) -> Any:
    """``reduce`` of the answers of S models to N inputs after each of ``steps`` supervision steps (0: N_sup).

    Each leaf is a numpy array (S, N_sup, N, ...).
    """
    check_tokens(config.model, {"inputs": inputs, "puzzle": puzzle}, "inputs to predict")
    config = config.override(**{"recursion.N_sup": steps or config.recursion.N_sup})
    compiled = _compiled(config, batch, reduce, inference)
    chunk = min(max(CHUNK // batch, 1), -(-len(inputs) // batch)) * batch
    parts = []
    for begin in range(0, len(inputs), chunk):
        part = jax.tree.map(lambda values, begin=begin: _padded(values[begin : begin + chunk], chunk), (inputs, puzzle))
        parts.append(to_host(compiled(params, *part)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=2)[:, :, : len(inputs)], *parts)


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    return np.pad(values, ((0, size - len(values)), *((0, 0),) * (values.ndim - 1)))


@cache
def _compiled(config: Config, batch: int, reduce: core.Reduce, inference: bool) -> Any:
    function = partial(core.predict, config, batch=batch, reduce=reduce, inference=inference)
    return over_seeds(function, run_mesh(config))


def scores(task: Task, config: Config, params: Any, examples: Examples) -> dict[str, np.ndarray]:
    """Scores of S models on samples after every supervision step, each (S, N_sup)."""
    return task.score(predict(config, params, examples.arrays["inputs"], examples.arrays.get("puzzle")), examples)


def scores_by_level(task: Task, config: Config, params: Any, examples: Examples) -> dict[str, dict[str, np.ndarray]]:
    """The same for the samples of every level of difficulty; predicted once."""
    prediction = predict(config, params, examples.arrays["inputs"], examples.arrays.get("puzzle"))
    levels = np.full(len(examples.arrays["labels"]), "") if examples.levels is None else examples.levels
    by_level = {}
    for level in sorted(set(levels.tolist()), key=lambda text: (len(text), text)):  # 8 before 10
        index = np.flatnonzero(levels == level)
        part = jax.tree.map(lambda leaf, index=index: leaf[:, :, index], prediction)
        by_level[level] = task.score(part, examples.take(index))
    return by_level
