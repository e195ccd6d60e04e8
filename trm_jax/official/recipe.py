"""The official training commands as our options: README.md and config/ of SamsungSAILMontreal/TinyRecursiveModels."""

import dataclasses
from typing import Any

from trm_jax.official.config import import_config

_ARCH: dict[str, Any] = {
    "H_cycles": 3, "L_layers": 2, "hidden_size": 512, "num_heads": 8, "expansion": 4, "puzzle_emb_ndim": 512,
    "puzzle_emb_len": 16, "halt_max_steps": 16, "halt_exploration_prob": 0.1, "num_puzzle_identifiers": 1,
}  # fmt: skip
OFFICIAL: dict[str, dict[str, Any]] = {
    "official-sudoku": _ARCH | {"seq_len": 81, "vocab_size": 11, "L_cycles": 6, "mlp_t": True, "pos_encodings": "none"},
    "official-maze": _ARCH | {"seq_len": 900, "vocab_size": 6, "L_cycles": 4, "pos_encodings": "rope"},
}
"""Official configs of the two; the trainer's part is `trm_jax.official.config.RECIPE`."""
STEPS = 65104
"""50,000 epochs of 1,000 groups in batches of 768."""


def _options(official: dict[str, Any]) -> dict[str, Any]:
    config = dataclasses.asdict(import_config(official))
    changed = {f"{section}.{name}": value for section, part in config.items() for name, value in part.items()}
    return changed | {
        "run.steps": STEPS, "run.seeds": (0, 1, 2), "run.chunk": 100, "run.evaluate_every": 5000,
        "run.checkpoint_every": 1000,
    }  # fmt: skip


PRESETS = {name: _options(official) for name, official in OFFICIAL.items()}
"""Every option of model and training; the data are the task's."""


def without_shape(name: str) -> dict[str, Any]:
    """A preset without the shape of its data, which a task gives."""
    shape = {f"model.{option}" for option in ("grid", "vocabulary", "classes", "box")}
    return {option: value for option, value in PRESETS[name].items() if option not in shape}
