"""A run of the wafer classifier as it lies on disk: for every split its config, curve and stored predictions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from trm_jax.config import Config
from trm_jax.data.wafer_maps import CLASSES, Wafers
from trm_jax.data.wafer_splits import Split
from trm_jax.wafer_predictions import Predicted, load_predicted


class Fold(NamedTuple):
    """One split of a run: S seeds that were trained on it."""

    split: Split
    config: Config
    validation: Predicted
    test: Predicted
    curve: pd.DataFrame
    """Columns step, seed, loss, validation_macro_f1 (NaN where it was not evaluated)."""
    unknown: dict[str, Predicted]
    """Answers to patterns that were not trained on, by name: from files ``unknown-NAME.npz``, if there are any."""


def read_run(directory: Path, wafers: Wafers, splits: Sequence[Split]) -> list[Fold]:
    """The splits of a run that are done, in the order of ``splits``.

    Raises ValueError if none is, if predictions are of other wafers than those of the split, or if the splits differ in
    seeds, steps or trained depth.
    """
    if not directory.is_dir():
        raise ValueError(f"no run at {directory}")
    there = [split for split in splits if (directory / split.name / "test.npz").is_file()]
    if not there:
        names = ", ".join(split.name for split in splits)
        raise ValueError(f"{directory} has predictions of none of the splits {names}")
    folds = [_read_fold(directory / split.name, split, wafers) for split in there]
    kinds = {(fold.test.logits.shape[:2], fold.config.recursion.N_sup) for fold in folds}
    kinds |= {(fold.validation.logits.shape[:2], fold.config.recursion.N_sup) for fold in folds}
    if len(kinds) > 1:
        raise ValueError(f"{directory}: the splits differ in seeds, steps or trained depth: {sorted(kinds)}")
    return folds


def _read_fold(directory: Path, split: Split, wafers: Wafers) -> Fold:
    try:
        config = Config.from_json((directory / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise ValueError(f"{directory}/config.json: {' '.join(str(error).split())}") from None
    parts = {name: load_predicted(directory / f"{name}.npz") for name in ("validation", "test")}
    for name, found in parts.items():
        # A run that leaves a class out of training leaves it out of validation too.
        same = np.array_equal if name == "test" else lambda one, part: np.isin(one, part).all()
        if not same(found.index, getattr(split, name)):
            raise ValueError(
                f"{directory}/{name}.npz is of other wafers than the {name} part of {split.name} of {wafers.source}; "
                "name the data that the run was trained on"
            )
        if found.logits.shape[3] != len(CLASSES) or found.logits.shape[1] < config.recursion.N_sup:
            raise ValueError(
                f"{directory}/{name}.npz has logits {found.logits.shape}: expected {len(CLASSES)} classes and "
                f"{config.recursion.N_sup} steps or more"
            )
    unknown = {path.stem.removeprefix("unknown-"): load_predicted(path) for path in directory.glob("unknown-*.npz")}
    return Fold(split, config, **parts, curve=_read_curve(directory / "metrics.jsonl"), unknown=unknown)


def _read_curve(path: Path) -> pd.DataFrame:
    """A row per logged step and seed; empty where nothing was logged. A last line that a kill cut short is left out."""
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        scores = row.get("validation_macro_f1") or [np.nan] * len(row["loss"])
        for seed, (loss, score) in enumerate(zip(row["loss"], scores, strict=True)):
            rows.append({"step": row["step"], "seed": seed, "loss": loss, "validation_macro_f1": score})
    return pd.DataFrame(rows, columns=["step", "seed", "loss", "validation_macro_f1"])
