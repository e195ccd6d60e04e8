"""Tasks small enough for tests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from trm_jax.core.task import Examples, TokenTask
from trm_jax.core.train_step import TrainingData, training_data


@dataclass(frozen=True)
class Toy(TokenTask):
    """The same arrays for every part, with the augmentation and the scores that a test gives."""

    arrays: Any = field(compare=False, repr=False)
    changed: Callable | None = None
    """Augmentation of a key and a batch."""
    scored: Callable | None = field(default=None, compare=False)
    """Scores of a prediction."""
    weights: Any = field(default=None, compare=False)
    phases: tuple[float, ...] = (0.0,)

    name: ClassVar[str] = "toy"

    def examples(self, part: str) -> Examples:
        return Examples(self.arrays, self.weights, self.phases)

    def augment(self, key, batch, shared):
        return self.changed(key, batch) if self.changed else batch

    def score(self, prediction, examples):
        return self.scored(prediction) if self.scored else super().score(prediction, examples)


@dataclass(frozen=True)
class Sized(Toy):
    """Scored by the mean halting probability, which depends on every weight."""

    metric: ClassVar[str] = "size"

    def score(self, prediction, examples):
        if self.scored:
            return {"size": self.scored(prediction)}
        return {"size": np.asarray(prediction.halt, np.float64).mean(axis=-1)}


def on_device(arrays, steps: int = 100, **options) -> TrainingData:
    """Training data of a toy task."""
    return training_data(Toy(arrays, **options).examples("train"), steps)
