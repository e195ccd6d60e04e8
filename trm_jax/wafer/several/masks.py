"""Which dies make which pattern: for every token of a wafer with two patterns, the one that its failing dies are of.

A mask of each pattern as the answer of a per-token read-out, after every supervision step. WM-811K has no masks, but of
two wafers laid over each other it is known whose die fails where.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from trm_jax.core.task import IGNORE, Batch, Examples, Prediction
from trm_jax.support.schema import require
from trm_jax.wafer.augment import Augmentation, augment_wafers
from trm_jax.wafer.generated.mixes import drawn_pairs, overlaid
from trm_jax.wafer.maps.grid import FULL, to_grid
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.several.mixed import PARTS, MixedTask
from trm_jax.wafer.splits import folds

FAILING = 0.25
"""Share of a token's area that must fail in one of the two wafers, or the token does not count: single failing dies are
in every wafer, and no one can tell whose they are."""
RIGHT = 0.9
"""Share of the tokens that count for which an answer must be right to be called so as a whole."""


@dataclass(frozen=True)
class WaferMasks(MixedTask):
    """Which of two patterns the failing dies are of, everywhere on a wafer."""

    image: int = 36
    """Cells a side of a grid; that of model.encoder.image."""
    patch: int = 4
    """Cells a side of a token; that of model.encoder.patch."""

    name: ClassVar[str] = "wafer-masks"
    right: ClassVar[str] = f"at least {RIGHT:.0%} of the tokens that count are named rightly"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.patch >= 1 and self.image % self.patch == 0,
            f"task.patch={self.patch} must divide task.image={self.image}",
        )

    def examples(self, part: str) -> Examples:
        """Grids (N, image, image, 2), and the class of every token, (N, tokens), IGNORE where it does not count."""
        return made(self, part)

    def shape(self) -> dict[str, Any]:
        """A class for every token."""
        side = self.image // self.patch
        return {
            "model.classes": len(CLASSES),
            "model.grid": (side, side),
            "model.encoder.image": self.image,
            "model.encoder.patch": self.patch,
            "model.readout": "cell",
        }

    def augment(self, key: Any, batch: Batch, shared: Mapping[str, Any]) -> Batch:
        """Turn, mirror and add noise; the labels turn with their dies."""
        side = self.image // self.patch
        marks = jnp.where(batch["labels"] == IGNORE, len(CLASSES), batch["labels"]).astype(jnp.uint8)
        plane = marks.reshape(-1, side, 1, side, 1)
        plane = jnp.broadcast_to(plane, (len(plane), side, self.patch, side, self.patch))
        plane = plane.reshape(-1, self.image, self.image, 1)
        changed = augment_wafers(key, jnp.concatenate([batch["inputs"], plane], axis=-1), Augmentation(compose=True))
        marks = changed[:, :: self.patch, :: self.patch, 2].reshape(batch["labels"].shape).astype(jnp.int32)
        return {**batch, "inputs": changed[..., :2], "labels": jnp.where(marks == len(CLASSES), IGNORE, marks)}

    def score(self, prediction: Prediction, examples: Examples) -> dict[str, np.ndarray]:
        """``exact``: share of wafers with RIGHT of the counted tokens right; ``cells``: share of right tokens."""
        labels = examples.arrays["labels"]
        counted = labels != IGNORE
        right = (prediction.classes == labels) & counted
        shares = right.sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1)
        return {"exact": (shares >= RIGHT).mean(axis=-1), "cells": right.sum(axis=(-2, -1)) / counted.sum()}

    def class_names(self) -> list[str]:
        """The nine classes."""
        return list(CLASSES)

    def protocol(self) -> list[str]:
        """How many wafers there are, what counts, and what is right."""
        counts = ", ".join(f"{len(self.examples(part).arrays['labels']):,} to {verb}" for part, verb in _VERBS.items())
        tokens = (self.examples("test").arrays["labels"] != IGNORE).sum(axis=1).mean()
        return [
            f"{self.source()}. Wafers with two patterns, those of two wafers of the same size laid over each other: "
            f"{counts}.",
            f"A token counts where at least {FAILING:.0%} of its area fails in one of the two, and less in the other: "
            f"{tokens:.0f} of {(self.image // self.patch) ** 2} on average; wafers without any are left out.",
        ]


_VERBS = dict(zip(PARTS, ("train with", "validate", "test"), strict=True))


@cache
def made(task: WaferMasks, part: str) -> Examples:
    """The mixes of a part of the fold."""
    wafers, count, seed = task.wafers(), getattr(task, f"{part}_mixes"), task.seed_of(part)
    index = getattr(folds(wafers)[task.fold], part)
    pairs, side = drawn_pairs(wafers, index, count, seed), task.image // task.patch
    grids = to_grid(overlaid(wafers, pairs, seed), task.image)
    shares = np.stack(
        [
            np.minimum(to_grid(wafers.take(pairs[:, number]), task.image)[..., 0], grids[..., 1])
            .reshape(count, side, task.patch, side, task.patch)
            .mean(axis=(2, 4))
            .reshape(count, -1)
            for number in (0, 1)
        ],
        axis=-1,
    )  # (N, tokens, 2)
    chosen = np.take_along_axis(wafers.label[pairs].astype(np.int32), shares.argmax(axis=-1), axis=1)
    counted = (shares.max(axis=-1) >= FAILING * FULL) & (shares[..., 0] != shares[..., 1])
    some = counted.any(axis=1)
    return Examples({"inputs": grids[some], "labels": np.where(counted, chosen, IGNORE)[some]})
