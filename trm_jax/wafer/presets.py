"""Sizes of the recursive wafer classifier: what `wafer_train.py` can train, by name."""

from typing import Any

PRIOR = 0.25
"""How much of the logarithm of a class's share is added to its logit: rare classes are drawn more often."""

EDGE: dict[str, Any] = {
    "model.classes": 9,
    "model.encoder.patch": 16,
    "model.encoder.image": 52,
    "model.grid": (4, 4),
    "model.encoder.widths": (16, 32, 64, 96),
    "model.encoder.convolutions": (1, 1, 1, 2),
    "model.width": 96,
    "model.norm": "pre",
    "model.norm_scale": True,
    "model.identity_start": True,
    "model.initial_state": "zero",
    "model.expansion": 2.0,
    "model.readout": "mean_max",
    "model.halt_token": "mean",
    "recursion.N_sup": 3,
    "recursion.curriculum_N_sup": 1,
    "recursion.curriculum_fraction": 0.7,
    "recursion.T": 1,
    "recursion.n": 1,
    "loss.halt_weight": 0.1,
    "optim.learning_rate": 2e-3,
    "optim.beta2": 0.999,
    "optim.weight_decay": 0.01,
    "optim.warmup": 200,
    "optim.ema": 0.995,
    "run.steps": 6000,
    "run.batch": 64,
    "run.seeds": (0, 1),
    "run.chunk": 100,
    "run.evaluate_every": 300,
    "run.checkpoint_every": 300,
    "run.patience": 5,
}
"""Ships: five convolutions as stem, then 4x4 tokens; 0.04 GFLOP a view."""

PRESETS: dict[str, dict[str, Any]] = {
    "edge": EDGE,
    "smoke": EDGE
    | {
        "model.encoder.patch": 8,
        "model.encoder.image": 26,
        "model.encoder.widths": (8, 16, 16),
        "model.encoder.convolutions": (),
        "model.width": 16,
        "recursion.N_sup": 2,
        "recursion.curriculum_fraction": 0.0,
        "optim.warmup": 5,
        "optim.ema": 0.9,
        "run.steps": 40,
        "run.batch": 32,
        "run.chunk": 20,
        "run.evaluate_every": 20,
        "run.checkpoint_every": 20,
    },
    # The control of what ships: its convolutions, read-out, grid, views and training, but no layers and one step.
    "plain": EDGE
    | {
        "model.layers": 0,
        "recursion.N_sup": 1,
        "recursion.curriculum_fraction": 0.0,
        "run.seeds": (0,),
    },
    # A plain convolutional net in the same engine: no layers, one step, 26 cells. Train it with --views 1 --prior 0.
    "cnn": EDGE
    | {
        "model.encoder.patch": 8,
        "model.encoder.image": 26,
        "model.encoder.widths": (32, 64, 96),
        "model.encoder.convolutions": (1, 1, 2),
        "model.layers": 0,
        "recursion.N_sup": 1,
        "recursion.curriculum_fraction": 0.0,
        "loss.halt_weight": 0.0,
        "optim.learning_rate": 3e-3,
        "optim.warmup": 100,
        "optim.ema": 0.99,
        "run.steps": 3000,
        "run.batch": 128,
        "run.seeds": (0,),
        "run.chunk": 50,
        "run.evaluate_every": 150,
        "run.checkpoint_every": 150,
        "run.patience": 10,
    },
    # A token for every cell: 22 GFLOP a view and 561 thousand weights, for a GPU. (States side by side in the net
    # instead of added, model.combine=concat, would be 114 GFLOP.)
    "paper": EDGE
    | {
        "model.encoder.patch": 1,
        "model.encoder.image": 26,
        "model.grid": (26, 26),
        "model.encoder.widths": (),
        "model.encoder.convolutions": (),
        "model.width": 128,
        "model.heads": 8,
        "model.mixer": "attention",
        "model.positions": "rotary_2d",
        "model.expansion": 4.0,
        "model.form": "joint",
        "model.hidden_multiple": 256,
        "recursion.curriculum_fraction": 0.0,
        "recursion.n": 6,
        "optim.learning_rate": 1e-3,
        "optim.ema": 0.999,
        "run.steps": 20000,
        "run.batch": 128,
        "run.evaluate_every": 1000,
        "run.checkpoint_every": 1000,
    },
}
