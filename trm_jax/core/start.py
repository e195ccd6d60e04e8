"""Weights that a training starts from: what fits is taken, the puzzle table may have another size."""

from typing import Any, Literal

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from trm_jax.core.model_config import ModelConfig
from trm_jax.core.network.model import abstract_weights
from trm_jax.support.schema import require

Puzzles = Literal["keep", "enlarge", "reset"]
"""Puzzle vectors of other weights: keep them all; keep them and begin new ones at their mean; begin all at their mean
(as the official code does where the number differs)."""


def weight_shapes(model: ModelConfig) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Shape of every weight by its path."""
    return {path: value.shape for path, value in flatten_dict(abstract_weights(model)).items()}


def resized(table: np.ndarray, rows: int, puzzles: Puzzles) -> np.ndarray:
    """A puzzle table (P, width) with so many rows. Raises ValueError where the way does not allow their number."""
    mean = table.mean(axis=0, keepdims=True)
    if puzzles == "reset":
        return np.repeat(mean, rows, axis=0)
    if puzzles == "enlarge" and rows > len(table):
        return np.concatenate([table, np.repeat(mean, rows - len(table), axis=0)])
    require(
        rows == len(table),
        f"the weights have {len(table)} puzzle vectors, the model {rows}: choose puzzles=reset (all begin at the mean)"
        + (" or puzzles=enlarge (the new ones do)" if rows > len(table) else ""),
    )
    return table


def fitted(model: ModelConfig, params: Any, puzzles: Puzzles = "keep") -> Any:
    """Weights (numpy) for a model. Raises ValueError that names every weight that is missing, left over or of another
    shape."""
    shapes, given = weight_shapes(model), {path: np.asarray(leaf) for path, leaf in flatten_dict(params).items()}
    if ("puzzles",) in given and ("puzzles",) in shapes:
        given["puzzles",] = resized(given["puzzles",], shapes["puzzles",][0], puzzles)
    named: dict[str, tuple[Any, Any]] = {
        ".".join(path): (value.shape, shapes.get(path)) for path, value in given.items()
    }
    named |= {".".join(path): (None, shape) for path, shape in shapes.items() if path not in given}
    wrong = [
        f"{name} {have or 'is missing'} for {want or 'nothing'}" for name, (have, want) in named.items() if have != want
    ]
    require(not wrong, f"the weights do not fit the model: {', '.join(wrong[:4])}{', ...' if len(wrong) > 4 else ''}")
    return unflatten_dict(given)
