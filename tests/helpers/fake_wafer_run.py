"""A run of the wafer classifier that never was: predictions with the confusions of real ones."""

import json
from pathlib import Path

import numpy as np

from trm_jax.core.config import Config
from trm_jax.core.task import run_options
from trm_jax.wafer.evaluation.stored import Predicted, save_predicted
from trm_jax.wafer.generated.mixes import mixed_wafers
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.splits import Split, folds
from trm_jax.wafer.task import WaferTask

NEIGHBOURS = {"Center": "Donut", "Donut": "Center", "Edge-Loc": "Edge-Ring", "Edge-Ring": "Edge-Loc", "Loc": "none",
              "Near-full": "Random", "Random": "Near-full", "Scratch": "Loc", "none": "Loc"}  # fmt: skip
WAFERS = synthetic_wafers(1500)
SPLITS = folds(WAFERS)
HARD = {"Scratch": 1.2, "Loc": 1.7, "Donut": 1.7, "Edge-Loc": 2.0}
"""Mean lead of the true class before its neighbour; 3.5 for the others."""


def answers(wafers: Wafers, index: np.ndarray, seeds: int, steps: int, seed: int) -> Predicted:
    """Logits that grow surer with every step, are too sure of themselves, and stumble lot by lot."""
    rng = np.random.default_rng(seed)
    label = np.maximum(wafers.label[index].astype(int), 0)
    lead = np.array([HARD.get(name, 3.5) for name in CLASSES])[label]
    near = np.array([CLASSES.index(NEIGHBOURS[name]) for name in CLASSES])[label]
    lots, lot = np.unique(wafers.group[index], return_inverse=True)
    ease = lead + rng.normal(0, 0.5, len(lots))[lot] + rng.normal(0, 0.9, len(index))
    rows = np.arange(len(index))
    logits = rng.normal(0, 0.7, (seeds, steps, len(index), len(CLASSES)))
    known = wafers.label[index] >= 0  # of what is unknown nothing is favoured much
    for step in range(steps):
        gain = min(1.0, 0.5 + 0.25 * step)
        logits[:, step, rows, label] += np.where(known, gain * ease + 1.2, 2.2)
        logits[:, step, rows, near] += np.where(known, 1.5, 2.0)
    right = logits.argmax(axis=-1) == label
    halt = np.where(right, 2.0, -1.0) + rng.normal(0, 1, right.shape)
    return Predicted(index, (1.8 * logits).astype(np.float32), halt.astype(np.float32))


def write_run(
    directory: Path, wafers: Wafers, splits: list[Split], seeds: int = 2, steps: int = 5, left_out: str = ""
) -> None:
    """All that wafer_train leaves behind and evaluation reads; trained with 3 steps."""
    directory.mkdir(parents=True)
    options = {"source": wafers.source, "wafers": len(wafers), "left out": left_out, "views": 1, "prior": 0.0}
    (directory / "wafers.json").write_text(json.dumps(options))
    options = {"model.classes": len(CLASSES), "model.readout": "pooled", "run.seeds": tuple(range(seeds))}
    config = Config().override(**options)
    for number, split in enumerate(splits):
        place = directory / split.name
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps(run_options(WaferTask(), config)))
        for part in ("validation", "test"):
            predicted = answers(wafers, getattr(split, part), seeds, steps, 10 * number + (part == "test"))
            save_predicted(place / f"{part}.npz", predicted)
        mixes = mixed_wafers(wafers, split.test, 60, number)
        save_predicted(place / "unknown-mixes.npz", answers(mixes, np.arange(60), seeds, steps, 99 + number))
        rng = np.random.default_rng(number)
        rows, best, best_step = [], np.zeros(seeds), np.zeros(seeds, int)
        for step in range(20, 401, 20):
            row = {"step": step, "loss": (2.2 * np.exp(-step / 120) + 0.1 * rng.random(seeds)).tolist()}
            if step % 100 == 0:
                scores = 0.9 - 0.6 * np.exp(-step / 100) + 0.02 * rng.random(seeds)
                best, best_step = np.maximum(best, scores), np.where(scores > best, step, best_step)
                row |= {"validation_macro_f1": scores.tolist(), "best_step": best_step.tolist()}
                row["validation_accuracy"] = [0.9] * seeds
            rows.append(json.dumps(row))
        (place / "metrics.jsonl").write_text("\n".join(rows) + '\n{"step": 4')  # a kill cut the last line short


def write_baselines(directory: Path, wafers: Wafers, splits: list[Split]) -> None:
    """A constant and a perfect baseline, as wafer_baselines leaves them."""
    directory.mkdir(parents=True)
    truth = np.concatenate([wafers.label[split.test] for split in splits])
    options = {"source": wafers.source, "wafers": len(wafers), "split": "lot", "folds": len(splits)}
    (directory / "options.json").write_text(json.dumps(options))
    for name, shown in (("constant", np.full(len(truth), CLASSES.index("none"))), ("perfect", truth)):
        np.savez(directory / f"{name}.npz", probabilities=np.eye(len(CLASSES), dtype=np.float32)[shown])
