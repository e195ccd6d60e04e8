"""The samples of a run: one set for all seeds, or one of each seed; checked, and put on the devices."""

import sys

import jax
import numpy as np

from trm_jax.core import train_step
from trm_jax.core.config import Config
from trm_jax.core.task import Examples, Task, check_tokens, repeated_inputs
from trm_jax.core.train_step import TrainingData
from trm_jax.training.devices import place_seeds, replicate
from trm_jax.training.predict import Samples
from trm_jax.training.processes import is_first_process


def by_seed(task: Task, config: Config) -> bool:
    """Whether every seed has samples of its own."""
    return task.for_seed(config.run.seeds[0]) != task


def samples_of(task: Task, config: Config, part: str) -> Samples:
    """The samples of a part: one for all seeds, or those of each seed."""
    tasks = [task.for_seed(seed) for seed in config.run.seeds]
    return [of_seed.examples(part) for of_seed in tasks] if by_seed(task, config) else task.examples(part)


def place_samples(task: Task, config: Config, mesh) -> TrainingData:
    """What training draws from, on the devices: for all seeds, or with an axis S where each has its own."""
    samples = samples_of(task, config, "train")
    if isinstance(samples, Examples):
        return replicate(mesh, train_step.training_data(samples, config.run.steps))
    seeds = [train_step.training_data(examples, config.run.steps) for examples in samples]

    def stack(*leaves):
        longest = max(len(leaf) for leaf in leaves)
        filled = [np.concatenate([leaf, leaf[-1:].repeat(longest - len(leaf), 0)]) for leaf in map(np.asarray, leaves)]
        return np.stack(filled)

    return place_seeds(mesh, jax.tree.map(stack, *seeds))


def check_samples(config: Config, train: Samples, validation: Samples) -> None:
    """Raise ValueError for samples that the model cannot take; one line where inputs are in both parts.

    The best weights would then be chosen by what was learnt by heart.
    """
    parts = [[part] if isinstance(part, Examples) else part for part in (train, validation)]
    for fitted, chosen in zip(*parts, strict=True):
        check_tokens(config.model, fitted.arrays, "training data")
        check_tokens(config.model, chosen.arrays, "validation data")
        repeated = repeated_inputs(fitted.arrays, chosen.arrays)
        if repeated and is_first_process():
            total = len(chosen.arrays["inputs"])
            print(f"{repeated} of {total} validation inputs are training inputs too", file=sys.stderr)
