"""Weights of the official PyTorch TRM (SamsungSAILMontreal/TinyRecursiveModels), in and out.

A state dict here is a flat dict of numpy arrays under the official names; linear weights are (out, in) there and
(in, out) here. The official config is the flat dict of the official field names (H_cycles = T, L_cycles = n,
mlp_t = token mixing, halt_max_steps = N_sup).
"""

import math
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from trm_jax.core.config import Config, LossConfig, ModelConfig, OptimConfig, RecursionConfig
from trm_jax.support.schema import require

POSITIONS = {"none": "none", "learned": "learned", "rope": "rotary_1d"}
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
REQUIRED = [
    "seq_len", "vocab_size", "num_puzzle_identifiers", "H_cycles", "L_cycles", "L_layers", "hidden_size", "expansion",
    "num_heads", "pos_encodings", "halt_max_steps", "halt_exploration_prob",
]  # fmt: skip


def import_config(official: dict[str, Any]) -> Config:
    """Our config for an official one, with the official training recipe where this project has it.

    Raises ValueError for a missing field or a value that the official code does not know.
    """
    missing = [name for name in REQUIRED if name not in official]
    if missing:
        raise ValueError(f"the official config lacks {', '.join(missing)}")
    _check_types(official)
    positions = official["pos_encodings"]
    dtype = official.get("forward_dtype", "bfloat16")
    mixing = bool(official.get("mlp_t", False))
    width, puzzle_width = official["hidden_size"], official.get("puzzle_emb_ndim", 0)
    prefix = official.get("puzzle_emb_len", 16) or math.ceil(puzzle_width / width)
    model = ModelConfig(
        vocabulary=official["vocab_size"],
        classes=official["vocab_size"],
        grid=(1, official["seq_len"]),
        width=width,
        layers=official["L_layers"],
        heads=official["num_heads"],
        mixer="swiglu" if mixing else "attention",
        # With token mixing the official code builds rotary positions and never applies them.
        positions="none" if mixing and positions == "rope" else POSITIONS[positions],  # type: ignore[arg-type]
        rotary_base=float(official.get("rope_theta", 10000.0)),
        norm_epsilon=float(official.get("rms_norm_eps", 1e-5)),
        expansion=float(official["expansion"]),
        hidden_multiple=256,
        prefix_tokens=prefix,
        prefix_width=puzzle_width,
        puzzles=official["num_puzzle_identifiers"],
        dtype=dtype,
    )
    return Config(
        model=model,
        recursion=RecursionConfig(
            N_sup=official["halt_max_steps"], T=official["H_cycles"], n=official["L_cycles"], gradient="last_cycle"
        ),
        loss=LossConfig(
            supervision="carried",
            cross_entropy="stablemax",
            continue_loss=not official.get("no_ACT_continue", True),
            exploration=float(official["halt_exploration_prob"]),
        ),
        optim=OptimConfig(learning_rate=1e-4, schedule="constant", warmup=2000, weight_decay=1.0, ema=0.999),
    )


def _check_types(official: dict[str, Any]) -> None:
    """Refuse values that Python would take for something else, such as the text "false" for true."""
    numbers = ("expansion", "rope_theta", "rms_norm_eps", "halt_exploration_prob")
    for name, value in official.items():
        if name in numbers:
            require(type(value) in (int, float), f"{name} must be a number, got {value!r}")
        elif name in ("mlp_t", "no_ACT_continue"):
            require(type(value) is bool, f"{name} must be true or false, got {value!r}")
        elif name == "pos_encodings":
            require(value in tuple(POSITIONS), f"{name} must be one of {', '.join(POSITIONS)}, got {value!r}")
        elif name in ("hidden_size", "puzzle_emb_ndim", "puzzle_emb_len"):
            least = 0 if name.startswith("puzzle_emb") else 1
            require(type(value) is int and value >= least, f"{name} must be a whole number, got {value!r}")


def export_config(config: Config) -> dict[str, Any]:
    """The official config of a model that the official code can express. Raises ValueError for any other."""
    model, depth = config.model, config.recursion
    fixed = {
        "form": "alternating", "combine": "add", "use_z": True, "separate_nets": False, "norm": "post",
        "norm_scale": False, "readout": "cell", "halt_token": "first", "hidden_multiple": 256,
    }  # fmt: skip
    wrong = [f"model.{name}={getattr(model, name)}" for name, value in fixed.items() if getattr(model, name) != value]
    wrong += [f"model.mixer={model.mixer}"] * (model.mixer == "linear")
    wrong += [f"model.positions={model.positions}"] * (model.positions == "rotary_2d")
    wrong += [f"model.initial_state={model.initial_state}"] * (model.initial_state == "zero")
    wrong += [f"model.classes={model.classes}"] * (model.classes != model.vocabulary)
    if wrong:
        raise ValueError(f"the official code has no {', '.join(wrong)}")
    return {
        "batch_size": config.run.batch,
        "seq_len": model.cells,
        "vocab_size": model.vocabulary,
        "num_puzzle_identifiers": model.puzzles,
        "puzzle_emb_ndim": model.prefix_width,
        "puzzle_emb_len": model.prefix_tokens,
        "H_cycles": depth.T,
        "L_cycles": depth.n,
        "H_layers": 0,
        "L_layers": model.layers,
        "hidden_size": model.width,
        "expansion": model.expansion,
        "num_heads": model.heads,
        "pos_encodings": {ours: theirs for theirs, ours in POSITIONS.items()}[model.positions],
        "rms_norm_eps": model.norm_epsilon,
        "rope_theta": model.rotary_base,
        "halt_max_steps": depth.N_sup,
        "halt_exploration_prob": config.loss.exploration,
        "forward_dtype": model.dtype,
        "mlp_t": model.mixer == "swiglu",
        "no_ACT_continue": not config.loss.continue_loss,
    }


def import_weights(config: Config, state: dict[str, np.ndarray]) -> dict[str, Any]:
    """Our nested float32 weights from an official state dict.

    Prefixes that training wrappers put before ``inner.`` are cut off. Raises ValueError that names every weight that
    is missing, left over or of another shape than the config says.
    """
    state = {_unwrapped(name): value for name, value in state.items()}
    shapes = _shapes(config.model)
    names = {path: _official_name(path) for path in shapes}
    missing = [name for name in names.values() if name not in state]
    unknown = sorted(set(state) - set(names.values()))
    if missing or unknown:
        raise ValueError(
            f"the state dict does not fit the config: missing {', '.join(missing) or 'nothing'}; "
            f"left over {', '.join(unknown) or 'nothing'}"
        )
    params = {}
    for path, name in names.items():
        value = np.asarray(state[name], np.float32)
        value = value.T if path[-1] == "kernel" else value
        if value.shape != shapes[path]:
            raise ValueError(f"{name} has shape {state[name].shape}; the config asks for {shapes[path]} (in, out)")
        params[path] = np.ascontiguousarray(value)
    return unflatten_dict(params)


def export_weights(config: Config, params) -> dict[str, np.ndarray]:
    """Official state dict of our weights, float32. Raises ValueError for a model the official code cannot express."""
    export_config(config)
    return {
        _official_name(path): np.ascontiguousarray(np.asarray(value).T if path[-1] == "kernel" else value)
        for path, value in flatten_dict(params).items()
    }


def _official_name(path: tuple[str, ...]) -> str:
    if path[0] == "net":
        index = path[1].removeprefix("block_")
        return f"inner.L_level.layers.{index}.{LAYER_NAMES['.'.join(path[2:])]}"
    return NAMES[".".join(path)]


def _unwrapped(name: str) -> str:
    start = name.find("inner.")
    return name[start:] if start >= 0 else name


def _shapes(model: ModelConfig) -> dict[tuple[str, ...], tuple[int, ...]]:
    import jax

    from trm_jax.core.model import initialise

    abstract = jax.eval_shape(lambda: initialise(model, jax.random.key(0)))
    return {path: value.shape for path, value in flatten_dict(abstract).items()}
