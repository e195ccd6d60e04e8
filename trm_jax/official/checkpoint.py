"""A checkpoint of the official code as one thing: weights and the config beside them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from trm_jax.core.config import Config
from trm_jax.core.start import Puzzles
from trm_jax.official.config import export_config, from_weights, import_config, read_config
from trm_jax.official.tensor_files import read_state_dict, write_state_dict
from trm_jax.official.weights import PREFIX, export_weights, import_weights
from trm_jax.support.files import write_text

CONFIG = "all_config.yaml"


class Checkpoint(NamedTuple):
    """A model of the official code in our terms."""

    config: Config
    params: Any


def read_checkpoint(
    path: Path,
    config: Path | None = None,
    dataset: dict[str, Any] | None = None,
    key: str = "",
    puzzles: Puzzles = "keep",
) -> Checkpoint:
    """Read a checkpoint and its config: ``config``, or all_config.yaml beside it.

    ``dataset`` is the dataset.json of its data, which says what neither config nor weights do; ``key`` names the
    weights in a larger dict. Raises FileNotFoundError, or ValueError that names the file.
    """
    state = read_state_dict(path, key)
    options = from_weights(read_config(config or path.parent / CONFIG), state)
    if puzzles != "keep":
        options |= {name: dataset[name] for name in ("num_puzzle_identifiers",) if dataset and name in dataset}
    ours = import_config((dataset or {}) | options)
    try:
        return Checkpoint(ours, import_weights(ours, state, puzzles))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_checkpoint(path: Path, config: Config, params: Any) -> Path:
    """Write weights as pretrain.py saves them, and their official config beside them as PATH.json; returns that path.

    Raises ValueError for a model that the official code cannot express, or another ending than .pt, .safetensors, .npz.
    """
    options = export_config(config)
    state = {PREFIX + name: value for name, value in export_weights(config, params).items()}
    write_state_dict(path, state)
    beside = path.with_name(f"{path.name}.json")
    write_text(beside, json.dumps(options, indent=1) + "\n")
    return beside
