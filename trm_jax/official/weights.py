"""Weights and checkpoints of the official PyTorch TRM (SamsungSAILMontreal/TinyRecursiveModels), in and out.

A state dict here is a flat dict of numpy arrays under the official names; linear weights are (out, in) there and
(in, out) here.
"""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from trm_jax.core.config import Config
from trm_jax.core.model_config import ModelConfig
from trm_jax.core.start import Puzzles, resized, weight_shapes
from trm_jax.official.config import REQUIRED as REQUIRED
from trm_jax.official.config import export_config, from_weights, import_config, read_config
from trm_jax.official.tensor_files import read_state_dict, write_state_dict
from trm_jax.support.files import write_text
from trm_jax.support.schema import require

NAMES = {
    "initial_y": "inner.H_init",
    "initial_z": "inner.L_init",
    "tokens": "inner.embed_tokens.embedding_weight",
    "positions": "inner.embed_pos.embedding_weight",
    "puzzles": "inner.puzzle_emb.weights",
    "readout.kernel": "inner.lm_head.weight",
    "halting.kernel": "inner.q_head.weight",
    "halting.bias": "inner.q_head.bias",
}
LAYER_NAMES = {
    "mlp.gate_up.kernel": "mlp.gate_up_proj.weight",
    "mlp.down.kernel": "mlp.down_proj.weight",
    "mix.gate_up.kernel": "mlp_t.gate_up_proj.weight",
    "mix.down.kernel": "mlp_t.down_proj.weight",
    "mix.qkv.kernel": "self_attn.qkv_proj.weight",
    "mix.out.kernel": "self_attn.o_proj.weight",
}
CONFIG = "all_config.yaml"
PREFIX = "_orig_mod.model."
"""What stands before every name in a checkpoint of pretrain.py: the compiled model inside its loss."""
_BUFFERS = ("initial_y", "initial_z")


def import_weights(config: Config, state: dict[str, np.ndarray], puzzles: Puzzles = "keep") -> dict[str, Any]:
    """Our nested float32 weights, as jax arrays, from an official state dict.

    Prefixes that training wrappers put before ``inner.`` are cut off; ``puzzles`` says what becomes of a puzzle table
    of another size. Raises ValueError that names every weight that is missing, left over, of another shape than the
    config says, no floating-point number, or NaN.
    """
    state = _unwrapped(state)
    shapes = weight_shapes(config.model)
    names = {path: _official_name(path, config.model) for path in shapes}
    _check_names(config, state, names)
    params = {}
    for path, name in names.items():
        given = np.asarray(state[name])
        require(given.dtype.kind in "fV", f"{name} is {given.dtype}, not floating-point numbers")
        value = given.astype(np.float32)
        broken = int((~np.isfinite(value)).sum())
        require(not broken, f"{name} has {broken} values of {value.size} that are NaN or infinite")
        value = value.T if path[-1] == "kernel" else value
        if path == ("puzzles",) and value.shape[1:] == shapes[path][1:]:
            value = resized(value, shapes[path][0], puzzles)
        if value.shape != shapes[path]:
            raise ValueError(f"{name} has shape {given.shape}; the config asks for {shapes[path]} (in, out)")
        params[path] = jnp.asarray(np.ascontiguousarray(value))
    return unflatten_dict(params)


def _check_names(config: Config, state: dict[str, np.ndarray], names: dict[tuple[str, ...], str]) -> None:
    """Raise ValueError, as short as the cause allows, for names that do not fit the config."""
    missing = [name for name in names.values() if name not in state]
    unknown = sorted(set(state) - set(names.values()))
    if not missing and not unknown:
        return
    if not any(name.startswith("inner.") for name in state):
        raise ValueError(
            "the names are not those of the official code (inner.embed_tokens, inner.L_level.layers.0, ...): "
            f"{len(state)} weights such as {', '.join(list(state)[:3])}"
        )
    if config.model.use_z and "inner.H_init" not in state and "inner.L_init" in state:
        raise ValueError("the weights are of the architecture trm_singlez (no inner.H_init), the config is not")
    fixed = [name for name in missing if name in ("inner.H_init", "inner.L_init")]
    hint = (
        f"; {' and '.join(fixed)} are fixed initial states, buffers that moving averages of the parameters leave out: "
        "take them from a whole checkpoint of the same run"
        if fixed
        else ""
    )
    raise ValueError(
        f"the state dict does not fit the config: missing {', '.join(missing) or 'nothing'}; "
        f"left over {', '.join(unknown) or 'nothing'}{hint}"
    )


def export_weights(config: Config, params) -> dict[str, np.ndarray]:
    """Official state dict of our weights: float32, the fixed initial states in the dtype of the model.

    The official code takes their dtype for that of its states. Raises ValueError for a model that it cannot express.
    """
    export_config(config)
    exported = {}
    for path, leaf in flatten_dict(params).items():
        value = np.asarray(leaf).T if path[-1] == "kernel" else np.asarray(leaf)
        if path[-1] in _BUFFERS and config.model.dtype == "bfloat16":
            value = value.astype(ml_dtypes.bfloat16)
        exported[_official_name(path, config.model)] = np.ascontiguousarray(value)
    return exported


def read_checkpoint(
    path: Path,
    config: Path | None = None,
    dataset: dict[str, Any] | None = None,
    key: str = "",
    puzzles: Puzzles = "keep",
) -> tuple[Config, dict[str, Any]]:
    """Our config and weights of a checkpoint; its own config is ``config``, or all_config.yaml beside it.

    ``dataset`` is the dataset.json of its data, which says what neither config nor weights do; ``key`` names the
    weights in a larger dict. Raises FileNotFoundError, or ValueError that names the file.
    """
    state = read_state_dict(path, key)
    options = from_weights(read_config(config or path.parent / CONFIG), state)
    if puzzles != "keep":
        options |= {name: dataset[name] for name in ("num_puzzle_identifiers",) if dataset and name in dataset}
    ours = import_config((dataset or {}) | options)
    try:
        return ours, import_weights(ours, state, puzzles)
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


def _official_name(path: tuple[str, ...], model: ModelConfig) -> str:
    if path[0] == "net":
        index = path[1].removeprefix("block_")
        return f"inner.L_level.layers.{index}.{LAYER_NAMES['.'.join(path[2:])]}"
    # The only state of trm_singlez has the name of the latent one.
    return NAMES["initial_z" if path[0] == "initial_y" and not model.use_z else ".".join(path)]


def _unwrapped(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names from ``inner.`` on. Raises ValueError where two of them would become one."""
    found: dict[str, str] = {}
    for name in state:
        short = name[max(name.find("inner."), 0) :]
        require(short not in found, f"{found.get(short)} and {name} are both {short}: two sets of weights in one file")
        found[short] = name
    return {short: state[name] for short, name in found.items()}
