"""Weights that never saw a pattern, trained for a few minutes: enough to ask whether it is noticed as unknown."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from trm_jax.core.config import Config
from trm_jax.core.task import override
from trm_jax.training.checkpoint import save_weights
from trm_jax.training.devices import to_host
from trm_jax.training.loop import fit
from trm_jax.wafer.maps.wafers import Wafers
from trm_jax.wafer.presets import EDGE
from trm_jax.wafer.splits import Split
from trm_jax.wafer.task import WaferTask, take_seed, with_prior
from trm_jax.wafer.unknown.fit import Sizes

UPDATES, HELD_OUT = 400, 2_000
"""Updates of the weights, a fifteenth of the recipe's, and validation wafers that are asked."""
SIZES = Sizes(train=3_000, mixes=1_500, drawings=40, hidden=32)
VIEWS, PRIOR = 2, 0.25
"""As the weights that ship answer."""


def thinned(split: Split, seed: int = 0) -> Split:
    """The split with no more than HELD_OUT validation wafers."""
    kept = np.random.default_rng(seed).permutation(split.validation)[:HELD_OUT]
    return split._replace(validation=np.sort(kept))


def lean_weights(wafers: Wafers, split: Split, directory: Path, updates: int = UPDATES) -> Path:
    """Folder of the weights, trained on the split's training part; goes on where it was, and returns what is done."""
    target = directory / "weights"
    if target.exists():
        return target
    chunk = min(100, updates)
    options = EDGE | {
        "run.seeds": (0,), "run.steps": updates, "run.chunk": chunk, "run.evaluate_every": chunk,
        "run.checkpoint_every": chunk, "run.patience": 100, "optim.warmup": updates // 10, "optim.ema": 0.98,
    }  # fmt: skip
    task, config = override(WaferTask(), Config(), options)
    grids = task.grids_of(config, wafers, np.concatenate([split.train, split.validation]))
    task = replace(task, grids=grids, labels=wafers.label, split=split)
    trained = fit(task, config, directory, directory.name)
    config, best = with_prior(config, to_host(trained.best.params), wafers.label[split.train], PRIOR)
    save_weights(target, take_seed(best), config.override(**{"model.encoder.views": VIEWS}), task)
    return target
