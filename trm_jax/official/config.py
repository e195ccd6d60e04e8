"""Configs of the official PyTorch TRM (SamsungSAILMontreal/TinyRecursiveModels): all_config.yaml, in and out.

The official config is a dict of the official field names (H_cycles = T, L_cycles = n, mlp_t = token mixing,
halt_max_steps = N_sup): flat, or with the section ``arch`` as pretrain.py writes it.
"""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from trm_jax.core.config import Config
from trm_jax.support.files import one_line
from trm_jax.support.schema import option_at, require

POSITIONS = {"none": "none", "learned": "learned", "rope": "rotary_1d"}
REQUIRED = [
    "seq_len", "vocab_size", "num_puzzle_identifiers", "H_cycles", "L_cycles", "L_layers", "hidden_size", "expansion",
    "num_heads", "pos_encodings", "halt_max_steps", "halt_exploration_prob",
]  # fmt: skip
RECIPE: dict[str, Any] = {
    "global_batch_size": 768, "lr": 1e-4, "lr_min_ratio": 1.0, "lr_warmup_steps": 2000, "beta1": 0.9, "beta2": 0.95,
    "weight_decay": 1.0, "puzzle_emb_lr": 1e-4, "puzzle_emb_weight_decay": 1.0, "ema": True, "ema_rate": 0.999,
}  # fmt: skip
"""Fields of the training of pretrain.py, as the official README gives them for Sudoku and mazes."""
NAMES = {
    "vocab_size": "model.vocabulary", "num_puzzle_identifiers": "model.puzzles",
    "puzzle_emb_ndim": "model.prefix_width", "H_cycles": "recursion.T", "L_cycles": "recursion.n",
    "L_layers": "model.layers", "hidden_size": "model.width", "expansion": "model.expansion",
    "num_heads": "model.heads", "rms_norm_eps": "model.norm_epsilon", "rope_theta": "model.rotary_base",
    "halt_max_steps": "recursion.N_sup", "halt_exploration_prob": "loss.exploration",
}  # fmt: skip
"""Official fields that mean the same as an option of ours."""
TRAINING = {
    "global_batch_size": "run.batch", "lr": "optim.learning_rate", "lr_warmup_steps": "optim.warmup",
    "beta1": "optim.beta1", "beta2": "optim.beta2", "weight_decay": "optim.weight_decay",
    "puzzle_emb_lr": "optim.puzzle_learning_rate", "puzzle_emb_weight_decay": "optim.puzzle_weight_decay",
}  # fmt: skip
"""The same of the training."""
ARCHITECTURES = ("trm", "trm_singlez")
"""Official architectures that this project has."""
SINGLE_Z = "trm_singlez"
_FROM_DATA = ("seq_len", "vocab_size", "num_puzzle_identifiers")


def read_config(path: Path, dataset: dict[str, Any] | None = None) -> dict[str, Any]:
    """The flat official config of a file: all_config.yaml, or JSON.

    What pretrain.py takes from the data (length, vocabulary, number of puzzles) comes from ``dataset``, the content of
    its dataset.json, where the file does not say it. Raises FileNotFoundError, or ValueError that names the file.
    """
    import yaml  # flax needs it too

    require(path.is_file(), f"no official config at {path}; give --config all_config.yaml (or a JSON of its fields)")
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is neither YAML nor JSON: {one_line(error)}") from None
    require(isinstance(options, dict), f"{path} is no official config: it holds {type(options).__name__}")
    known = {name: dataset[name] for name in _FROM_DATA if dataset and name in dataset}
    return known | flat(options)


def flat(official: dict[str, Any]) -> dict[str, Any]:
    """An official config with the fields of its sections on one level; a reference to the width resolved."""
    arch = official.get("arch") or {}
    options = {name: value for name, value in official.items() if name != "arch"}
    options |= arch if isinstance(arch, dict) else {"name": arch}
    # YAML 1.1 takes 1e-4, without a dot, for a word; OmegaConf and JSON take it for a number.
    numbers = {n: float(v) for n, v in options.items() if isinstance(v, str) and re.fullmatch(r"[\d.]+[eE][-+]?\d+", v)}
    options |= numbers
    if options.get("puzzle_emb_ndim") == "${.hidden_size}":
        options["puzzle_emb_ndim"] = options.get("hidden_size")
    return options


def architecture(official: dict[str, Any]) -> str:
    """One of ARCHITECTURES; trm where the config does not say. Raises ValueError, in its name, for another."""
    name = str(official.get("name") or "trm")
    short = name.split("@")[0].rsplit(".", 1)[-1]
    require(short in ARCHITECTURES, f"arch.name={name} is another architecture; read are {' and '.join(ARCHITECTURES)}")
    return short


def from_weights(official: dict[str, Any], state: dict[str, np.ndarray]) -> dict[str, Any]:
    """A flat official config with what the shapes of its weights say of the data, where nothing else does."""
    shapes = {name[name.find("inner.") :]: value.shape for name, value in state.items() if "inner." in name}
    found = {}
    if "inner.embed_tokens.embedding_weight" in shapes:
        found["vocab_size"] = shapes["inner.embed_tokens.embedding_weight"][0]
    found["num_puzzle_identifiers"] = shapes.get("inner.puzzle_emb.weights", (1,))[0]
    tokens = shapes.get("inner.embed_pos.embedding_weight") or shapes.get(
        "inner.L_level.layers.0.mlp_t.down_proj.weight"
    )
    if tokens and "hidden_size" in official:
        found["seq_len"] = tokens[0] - prefix_of(official)
    return found | official


def prefix_of(official: dict[str, Any]) -> int:
    """Prefix tokens of a flat official config; without a puzzle vector there are none."""
    return official.get("puzzle_emb_len", 16) or math.ceil(official.get("puzzle_emb_ndim", 0) / official["hidden_size"])


def import_config(official: dict[str, Any]) -> Config:
    """Our config for an official one, with the training recipe that it carries, else that of the official Sudoku runs.

    Raises ValueError for a missing field, another architecture or a value that the official code does not know.
    """
    official = flat(official)
    single = architecture(official) == SINGLE_Z
    missing = [name for name in REQUIRED if name not in official]
    if missing:
        raise ValueError(f"the official config lacks {', '.join(missing)}")
    _check_types(official)
    positions, mixing = official["pos_encodings"], bool(official.get("mlp_t", False))
    ours = {NAMES[name]: value for name, value in official.items() if name in NAMES}
    ours |= {
        "model.classes": official["vocab_size"],
        "model.grid": (1, official["seq_len"]),
        "model.mixer": "swiglu" if mixing else "attention",
        # With token mixing the official code builds rotary positions and never applies them.
        "model.positions": "none" if mixing and positions == "rope" else POSITIONS[positions],
        "model.hidden_multiple": 256,
        "model.prefix_tokens": prefix_of(official),
        "model.dtype": official.get("forward_dtype", "bfloat16"),
        "model.use_z": not single,
        "model.question_last": not single,
        "recursion.gradient": "last_cycle",
        "loss.supervision": "carried",
        "loss.cross_entropy": _cross_entropy(official),
        "loss.continue_loss": not official.get("no_ACT_continue", True),
    }
    return Config().override(**ours, **_recipe(official))


def _cross_entropy(official: dict[str, Any]) -> Any:
    loss = official.get("loss")
    name = loss.get("loss_type", "") if isinstance(loss, dict) else ""
    kind = str(name or "stablemax").removesuffix("_cross_entropy")
    require(kind in ("stablemax", "softmax"), f"arch.loss.loss_type={name} is not stablemax or softmax cross-entropy")
    return kind


def _recipe(official: dict[str, Any]) -> dict[str, Any]:
    """Options of optimizer and run as the config says them in the words of pretrain.py."""
    for name in RECIPE:
        value = official.get(name, RECIPE[name])
        require(type(value) in (int, float, bool), f"{name} must be a number, got {value!r}")
    given = RECIPE | {name: value for name, value in official.items() if name in RECIPE}
    constant = given["lr_min_ratio"] == 1
    return {ours: given[name] for name, ours in TRAINING.items()} | {
        "optim.algorithm": "adam_atan2",
        "optim.schedule": "constant" if constant else "cosine",
        "optim.final_fraction": 0.0 if constant else given["lr_min_ratio"],
        "optim.first_update": 1,
        "optim.decay": "all",
        "optim.clip": 0.0,
        "optim.ema": given["ema_rate"] if given["ema"] else 0.0,
        "optim.ema_start": "weights",
        "run.steps": max(400, given["lr_warmup_steps"] + 1),
    }


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
    model = config.model
    fixed = {
        "form": "alternating", "combine": "add", "use_z": True, "separate_nets": False, "norm": "post",
        "norm_scale": False, "readout": "cell", "halt_token": "first", "hidden_multiple": 256,
        "members": 1,
    }  # fmt: skip
    wrong = [f"model.{name}={getattr(model, name)}" for name, value in fixed.items() if getattr(model, name) != value]
    if not model.use_z and not model.question_last:
        wrong.remove("model.use_z=False")
    wrong += [f"model.mixer={model.mixer}"] * (model.mixer not in ("swiglu", "attention"))
    wrong += [f"model.positions={model.positions}"] * (model.positions == "rotary_2d")
    wrong += [f"model.initial_state={model.initial_state}"] * (model.initial_state == "zero")
    wrong += [f"model.classes={model.classes}"] * (model.classes != model.vocabulary)
    if wrong:
        raise ValueError(f"the official code has no {', '.join(wrong)}")
    single = {} if model.use_z else {"name": f"recursive_reasoning.{SINGLE_Z}@TinyRecursiveReasoningModel_ACTV1"}
    return {
        **single,
        "batch_size": config.run.batch,
        "seq_len": model.cells,
        **{name: option_at(dataclasses.asdict(config), option) for name, option in NAMES.items()},
        "puzzle_emb_len": model.prefix_tokens,
        "H_layers": 0,
        "pos_encodings": {ours: theirs for theirs, ours in POSITIONS.items()}[model.positions],
        "forward_dtype": model.dtype,
        "mlp_t": model.mixer == "swiglu",
        "no_ACT_continue": not config.loss.continue_loss,
    }
