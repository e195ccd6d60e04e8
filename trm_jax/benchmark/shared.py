"""What both sides of the benchmark need, without jax and without PyTorch: a process measures one of them alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from trm_jax.core.config import Config

Path = tuple[str, ...]


def flatten(tree: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Path and value of every leaf of nested dicts."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, (*path, name))
        else:
            yield (*path, name), value


def random_data(config: Config, size: int) -> dict[str, np.ndarray]:
    """Tokens (size, cells) and labels without meaning: the time of a step does not depend on them."""
    generator = np.random.default_rng(0)
    shape = (size, config.model.cells)
    labels = shape if config.model.readout == "cell" else shape[:1]
    return {
        "inputs": generator.integers(0, config.model.vocabulary, shape, dtype=np.int32),
        "labels": generator.integers(0, config.model.classes, labels, dtype=np.int32),
    }
