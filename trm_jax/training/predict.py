"""What trained models answer: the one way from weights with a leading axis S and host arrays to host arrays."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import numpy as np

from trm_jax.core import predict as core
from trm_jax.core.config import Config
from trm_jax.core.task import Examples, Prediction, Task, check_tokens
from trm_jax.training.devices import over_seeds, placed, run_mesh, seeds_at_once, to_host

CHUNK = 512
"""Inputs answered in one call, in whole batches; the last call is padded, so one program serves any number."""


def predict(
    config: Config,
    params: Any,
    inputs: np.ndarray,
    puzzle: np.ndarray | None = None,
    *,
    steps: int = 0,
    batch: int = 0,
    reduce: core.Reduce = core.most_probable,
    inference: bool = False,
    by_seed: bool = False,
) -> Any:
    """``reduce`` of the answers of S models to N inputs after each of ``steps`` supervision steps (0: N_sup).

    Computed in batches of at most so many (0: ``run.eval_batch``); fewer inputs than that in a batch of the next power
    of two, so that padding at most doubles the work and few programs serve all numbers. ``by_seed``: inputs and puzzle
    have a leading axis S, each model answers its own. Each leaf is a numpy array (S, N_sup, N, ...).
    """
    axis = 1 if by_seed else 0
    size = inputs.shape[axis]
    batch = min(batch or config.run.eval_batch, 1 << max(size - 1, 0).bit_length())
    check_tokens(config.model, {"inputs": inputs, "puzzle": puzzle}, "inputs to predict")
    recursion = replace(config.recursion, N_sup=steps or config.recursion.N_sup)
    config = Config(config.model, recursion, run=placed(config.run))
    compiled = _compiled(config, batch, reduce, inference, by_seed)
    chunk = min(max(CHUNK // batch, 1), -(-size // batch)) * batch

    def part_of(values: np.ndarray, begin: int) -> np.ndarray:
        part = values[:, begin : begin + chunk] if by_seed else values[begin : begin + chunk]
        missing = [(0, chunk - part.shape[axis] if index == axis else 0) for index in range(part.ndim)]
        return np.pad(part, missing)

    parts = []
    for begin in range(0, size, chunk):
        part = jax.tree.map(lambda values, begin=begin: part_of(values, begin), (inputs, puzzle))
        parts.append(to_host(compiled(params, *part)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=2)[:, :, :size], *parts)


@cache
def _compiled(config: Config, batch: int, reduce: core.Reduce, inference: bool, by_seed: bool) -> Any:
    def function(params, inputs, puzzle):
        return core.predict(config, params, inputs, puzzle, batch, reduce, inference)

    return over_seeds(function, run_mesh(config), at_once=seeds_at_once(config), mapped=3 if by_seed else 1)


Samples = Examples | Sequence[Examples]
"""Samples that all seeds answer, or those of each seed in the order of ``run.seeds``."""


def predict_samples(config: Config, params: Any, samples: Samples, steps: int = 0) -> Prediction:
    """What S models answer to samples, or each to its own."""
    if isinstance(samples, Examples):
        return predict(config, params, samples.arrays["inputs"], samples.arrays.get("puzzle"), steps=steps)
    arrays = {name: np.stack([examples.arrays[name] for examples in samples]) for name in samples[0].arrays}
    return predict(config, params, arrays["inputs"], arrays.get("puzzle"), steps=steps, by_seed=True)


def scores(task: Task, config: Config, params: Any, samples: Samples, steps: int = 0) -> dict[str, np.ndarray]:
    """Scores of S models on samples after every supervision step, each (S, N_sup)."""
    shares = _shares(predict_samples(config, params, samples, steps), samples)
    return _joined([task.score(part, examples) for part, examples in shares])


def scores_by_level(task: Task, config: Config, params: Any, samples: Samples) -> dict[str, dict[str, np.ndarray]]:
    """The same for the samples of every level of difficulty that all seeds have; predicted once."""
    shares = [
        {
            level: task.score(jax.tree.map(lambda leaf, index=index: leaf[:, :, index], part), chosen)
            for level, index, chosen in _by_level(examples)
        }
        for part, examples in _shares(predict_samples(config, params, samples), samples)
    ]
    shared = [level for level in shares[0] if all(level in share for share in shares)]
    return {level: _joined([share[level] for share in shares]) for level in shared}


def _shares(prediction: Prediction, samples: Samples) -> list[tuple[Prediction, Examples]]:
    """Predictions beside the samples they answer: all of them, or seed by seed."""
    if isinstance(samples, Examples):
        return [(prediction, samples)]
    seeds = range(len(samples))
    return [(jax.tree.map(lambda leaf, seed=seed: leaf[[seed]], prediction), samples[seed]) for seed in seeds]


def _joined(scores: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([share[name] for share in scores]) for name in scores[0]}


def _by_level(examples: Examples) -> list[tuple[str, np.ndarray, Examples]]:
    """The samples of every level with their indices: 8 blanks before 10."""
    levels = np.full(len(examples.arrays["labels"]), "") if examples.levels is None else examples.levels
    ordered = sorted(set(levels.tolist()), key=lambda text: (len(text), text))
    indices = [np.flatnonzero(levels == level) for level in ordered]
    return [(level, index, examples.take(index)) for level, index in zip(ordered, indices, strict=True)]
