"""Results of studies that never ran, for the tests of figures and report."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

SIX_ARMS = {
    "full": 0.92,
    "stop_gradient": 0.90,
    "attention": 0.80,
    "four_layers": 0.915,
    "no_z": 0.70,
    "no_ema": 0.919,
}
COUNTS = {"parameters": 24_100, "layer_applications": 48, "flops": 31_000_000}


def study(
    means: Mapping[str, float] = SIX_ARMS,
    seeds: int = 6,
    difficulty: str = "9 blanks",
    spread: float = 0.012,
    counts: Mapping[str, Mapping[str, int]] | None = None,
) -> pd.DataFrame:
    """Rows of a study whose arms have these mean accuracies and share a part of their noise over seeds."""
    random = np.random.default_rng(1)
    shared = random.normal(size=seeds)
    rows = []
    for arm, mean in means.items():
        for seed in range(seeds):
            noise = spread * (0.7 * shared[seed] + 0.7 * random.normal())
            exact = float(np.clip(round(mean + noise, 3), 0, 1))
            rows.append(
                {
                    "study": "components",
                    "arm": arm,
                    "seed": seed,
                    "difficulty": difficulty,
                    "exact": exact,
                    "valid": exact,
                    "cells": 1 - 0.2 * (1 - exact),
                    "best_exact": min(1.0, exact + 0.003),
                    "train_seconds": 61.0 + seed,
                }
                | COUNTS
                | (counts or {}).get(arm, {})
            )
    return pd.DataFrame(rows)


def learning(means: Mapping[str, float] = SIX_ARMS, seeds: int = 6, steps: int = 600) -> dict[str, pd.DataFrame]:
    """Learning curves that end near these accuracies: the loss every 50 steps, validation every 100."""
    random = np.random.default_rng(2)
    curves = {}
    for arm, mean in means.items():
        rows = []
        for seed in range(seeds):
            pace = 120 * np.exp(0.2 * random.normal())
            for step in range(50, steps + 1, 50):
                exact = mean / (1 + np.exp((250 - step) / (0.5 * pace))) + 0.01 * random.normal()
                rows.append(
                    {
                        "step": step,
                        "seed": seed,
                        "validation_exact": np.clip(exact, 0, 1) if step % 100 == 0 else np.nan,
                        "loss": 3 * np.exp(-step / pace) + 0.05 + 0.2 * (1 - mean) + 0.01 * random.random(),
                    }
                )
        curves[arm] = pd.DataFrame(rows)
    return curves
