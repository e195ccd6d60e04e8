"""Sizes of the recursive wafer classifier: what `wafer_train.py` can train, by name."""

from typing import Any

EDGE: dict[str, Any] = {
    "model.classes": 9,
    "model.patch": 4,
    "model.image": 26,
    "model.grid": (7, 7),
    "model.stem_widths": (32, 64),
    "model.width": 64,
    "model.norm": "pre",
    "model.norm_scale": True,
    "model.expansion": 2.0,
    "model.readout": "mean_max",
    "model.halt_token": "mean",
    "recursion.N_sup": 3,
    "recursion.T": 1,
    "recursion.n": 2,
    "optim.learning_rate": 3e-3,
    "optim.weight_decay": 0.01,
    "optim.warmup": 100,
    "optim.ema": 0.99,
    "run.steps": 1500,
    "run.batch": 128,
    "run.seeds": (0, 1),
    "run.chunk": 50,
    "run.evaluate_every": 150,
    "run.checkpoint_every": 150,
    "run.patience": 5,
}
"""Ships: patches of 4x4 cells behind two small convolutions, 0.05 GFLOP a map."""

PRESETS: dict[str, dict[str, Any]] = {
    "edge": EDGE,
    "smoke": EDGE
    | {
        "model.stem_widths": (8, 16),
        "model.width": 16,
        "recursion.N_sup": 2,
        "recursion.n": 1,
        "optim.warmup": 5,
        "optim.ema": 0.9,
        "run.steps": 40,
        "run.batch": 32,
        "run.chunk": 20,
        "run.evaluate_every": 20,
        "run.checkpoint_every": 20,
    },
    # A token for every cell: about 25 GFLOP a map, for a GPU.
    "paper": EDGE
    | {
        "model.patch": 1,
        "model.grid": (26, 26),
        "model.stem_widths": (),
        "model.width": 128,
        "model.heads": 8,
        "model.mixer": "attention",
        "model.positions": "rotary_2d",
        "model.expansion": 4.0,
        "model.form": "joint",
        "model.combine": "concat",
        "recursion.n": 6,
        "optim.learning_rate": 1e-3,
        "optim.ema": 0.999,
        "run.steps": 20000,
        "run.evaluate_every": 1000,
        "run.checkpoint_every": 1000,
    },
}
