"""All patterns on a wafer as a task for the engine: none, one or two of eight, each a question of its own.

A classifier of nine classes gives a wafer with two patterns one of them. Here every pattern is asked for by itself
(`model.answers`), and an answer is right if the whole set is. Wafers with two patterns are made of two real ones of the
same lots' part and size, since WM-811K labels none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from trm_jax.core.task import Batch, Examples
from trm_jax.support.schema import require
from trm_jax.wafer.augment import Augmentation, augment_wafers
from trm_jax.wafer.generated.mixes import mixed_with_classes
from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.several.mixed import PARTS, PATTERNS, MixedTask
from trm_jax.wafer.splits import folds
from trm_jax.wafer.task import sampling_weights

LEVELS = np.array(["no", "one", "two"])
"""How difficult a wafer is, by the number of its patterns."""


@dataclass(frozen=True)
class WaferPatterns(MixedTask):
    """Which of eight patterns are on a wafer, in maps that are resized to square grids."""

    mixed: float = 0.4
    """Share of the training draws that have two patterns."""
    balance: float = 0.5
    """Classes of the others are drawn in proportion to (their count) ** balance."""

    name: ClassVar[str] = "wafer-patterns"
    level_name: ClassVar[str] = "pattern(s)"

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("mixed", "balance"):
            value = getattr(self, option)
            require(0 <= value <= 1, f"task.{option} must be in 0..1, got {value}")

    def examples(self, part: str) -> Examples:
        """Grids (N, image, image, 2), and for each whether every pattern is on it, (N, 8)."""
        return made(self, part)

    def shape(self) -> dict[str, Any]:
        """Yes or no, for every pattern."""
        return {"model.classes": 2, "model.answers": len(PATTERNS), "model.encoder.image": self.image}

    def augment(self, key: Any, batch: Batch, shared: Mapping[str, Any]) -> Batch:
        """Turn, mirror and add noise, as `WaferTask` does."""
        return {**batch, "inputs": augment_wafers(key, batch["inputs"], Augmentation(compose=True))}

    def class_names(self) -> list[str]:
        """What is said of a pattern."""
        return ["not on it", "on it"]

    def protocol(self) -> list[str]:
        """How many wafers there are, and where they come from."""
        counts = {part: np.bincount(self.examples(part).arrays["labels"].sum(axis=1), minlength=3) for part in PARTS}
        numbers = "; ".join(f"{part}: {', '.join(f'{n:,}' for n in counts[part])}" for part in PARTS)
        return [
            f"{self.source()}. Wafers with no, one and two patterns: {numbers}.",
            "An answer is right if it names all patterns of a wafer and no other. Two patterns are those of two wafers "
            "of the same size laid over each other.",
        ]


@cache
def made(task: WaferPatterns, part: str) -> Examples:
    """The wafers of a part of the fold, and mixes of two of them behind."""
    wafers = task.wafers()
    index = getattr(folds(wafers)[task.fold], part)
    count, label = getattr(task, f"{part}_mixes"), wafers.label[index].astype(np.int64)
    mixes, pairs = mixed_with_classes(wafers, index, count, task.seed_of(part))
    labels = np.zeros((len(index) + count, len(CLASSES)), np.int32)
    labels[np.arange(len(index)), label] = 1
    labels[len(index) + np.arange(count)[:, None], pairs] = 1
    labels = labels[:, [CLASSES.index(name) for name in PATTERNS]]
    grids = [to_grid(some, task.image) for some in (wafers.take(index), mixes)]
    weights = None
    if part == "train":
        alone = sampling_weights(label, task.balance)
        together = np.full(count, task.mixed / count)
        weights = np.concatenate([(1 - task.mixed) * alone / alone.sum(), together])[None]
    arrays = {"inputs": np.concatenate(grids), "labels": labels}
    return Examples(arrays, weights, levels=LEVELS[labels.sum(axis=1)])
