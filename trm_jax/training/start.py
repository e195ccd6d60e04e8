"""Weights that a training starts from: a checkpoint of ours, or a file of the official code."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from trm_jax.core.config import Config
from trm_jax.core.start import fitted
from trm_jax.training.checkpoint import load_weights


def starting_weights(config: Config) -> Any:
    """Weights of ``run.init``, in numpy, as the model of the config takes them.

    A directory holds weights of ours, or has them as ``weights``; a file is one of the official code. Raises
    FileNotFoundError, or ValueError for weights that do not fit.
    """
    path = Path(config.run.init)
    try:
        if path.is_dir():
            inside = path / "weights"
            params = load_weights(inside if inside.is_dir() else path).params
            return fitted(config.model, jax.tree.map(np.asarray, params), config.run.init_puzzles)
        from trm_jax.official.tensor_files import read_state_dict  # here, since training alone needs no safetensors
        from trm_jax.official.weights import import_weights

        return jax.tree.map(np.asarray, import_weights(config, read_state_dict(path), config.run.init_puzzles))
    except ValueError as error:
        raise ValueError(f"run.init={path}: {error}") from None
