"""What trained arms answer when they think longer than in training, more than once, or with a search.

Reads the weights that a study kept (``arms/NAME/weights-SEED``, the best on validation) and answers test samples anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from trm_jax.core.config import Config
from trm_jax.core.rollouts import CHOICES, right_by_count, rollouts
from trm_jax.core.task import Examples, Task, override, run_options, task_from_options
from trm_jax.maze.task import Maze
from trm_jax.sudoku import think
from trm_jax.sudoku.answers import beliefs
from trm_jax.sudoku.puzzles import to_digits
from trm_jax.sudoku.solver import Box
from trm_jax.sudoku.task import Sudoku
from trm_jax.training.checkpoint import Checkpoints, load_weights
from trm_jax.training.devices import run_mesh, to_host
from trm_jax.training.loop import begin
from trm_jax.training.predict import scores
from trm_jax.training.run_directory import RunDirectory, read_config

TASKS: dict[str, type[Task]] = {kind.name: kind for kind in (Sudoku, Maze)}
NOISES = (0.1, 0.3, 1.0)
"""Sizes of the noise of rollouts; validation chooses."""


@dataclass(frozen=True)
class TrainedArm:
    """The weights of an arm, and what its seeds are tested on."""

    name: str
    config: Config
    tasks: list[Task]
    """One for each seed."""
    params: Any
    """Leading axis S."""

    def samples(self, part: str, count: int) -> list[Examples]:
        """The first samples of the hardest level of a part, for each seed."""
        chosen = []
        for task in self.tasks:
            examples = task.examples(part)
            if examples.levels is not None:
                hardest = max(set(examples.levels.tolist()), key=lambda text: (len(text), text))
                examples = examples.take(examples.levels == hardest)
            chosen.append(examples.take(np.arange(len(examples.arrays["inputs"])) < count))
        return chosen


def load_arm(directory: Path, options: Mapping[str, Any]) -> TrainedArm:
    """The arm in a directory, with other options of task or recursion where given; one whose training was stopped with
    the best weights of its newest checkpoint.

    Raises FileNotFoundError where nothing was kept, ValueError for a task that is not known here, or while it trains.
    """
    files = sorted(directory.glob("weights-*"), key=lambda path: int(path.name.removeprefix("weights-")))
    if not files:
        return _load_stopped(directory, options)
    stored = [load_weights(file) for file in files]
    seeds = tuple(int(file.name.removeprefix("weights-")) for file in files)
    changed = [override(_task(directory, one.task), one.config, options) for one in stored]
    config = changed[0][1].override(**{"run.seeds": seeds})
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *(one.params for one in stored))
    return TrainedArm(directory.name, config, [task for task, _ in changed], params)


def _load_stopped(directory: Path, options: Mapping[str, Any]) -> TrainedArm:
    if not (directory / "checkpoints").is_dir():
        raise FileNotFoundError(f"no weights-SEED and no checkpoints in {directory}; an arm writes them as it trains")
    config, task_options = read_config(directory)
    task = _task(directory, task_options)
    with RunDirectory(directory, run_options(task, config)), Checkpoints(directory / "checkpoints") as checkpoints:
        best = checkpoints.restore(begin(task, config, run_mesh(config))[0]).best
        step, steps = checkpoints.latest(), config.run.steps
    print(f"{directory.name} was stopped after {step:,} of {steps:,} updates; its best weights until then are tested")
    task, config = override(task, config, options)
    return TrainedArm(directory.name, config, [task.for_seed(seed) for seed in config.run.seeds], to_host(best.params))


def _task(directory: Path, options: Mapping[str, Any]) -> Task:
    kind = TASKS.get(options["name"])
    if kind is None:
        raise ValueError(f"{directory} was trained on {options['name']}; known here are {', '.join(TASKS)}")
    return task_from_options(kind, dict(options))


def by_steps(arm: TrainedArm, steps: int, count: int) -> pd.DataFrame:
    """Exact accuracy on the first test samples of the hardest level after 1, 2, 4, ... supervision steps."""
    exact = scores(arm.tasks[0], arm.config, arm.params, arm.samples("test", count), steps)["exact"]
    shown = [2**power for power in range(steps.bit_length()) if 2**power <= steps]
    return pd.DataFrame(
        [
            {"arm": arm.name, "seed": seed, "steps": step, "exact": float(exact[index, step - 1])}
            for index, seed in enumerate(arm.config.run.seeds)
            for step in shown
        ]
    )


def by_rollouts(arm: TrainedArm, K: int, steps: int, count: int) -> tuple[pd.DataFrame, float]:
    """Exact accuracy of the choice among 1, 2, 4, ... K rollouts, and the noise that was best on validation."""
    config = arm.config.override(**{"recursion.N_sup": steps})
    validation = arm.samples("validation", min(count, 64))
    quick = [
        np.mean([row["exact"] for row in _rollout_rows(arm, config, validation, min(K, 8), noise) if row["K"] > 1])
        for noise in NOISES
    ]
    noise = NOISES[int(np.argmax(quick))]
    return pd.DataFrame(_rollout_rows(arm, config, arm.samples("test", count), K, noise)), noise


def _rollout_rows(arm: TrainedArm, config: Config, samples: list[Examples], K: int, noise: float) -> list[dict]:
    rows = []
    for index, (seed, examples) in enumerate(zip(config.run.seeds, samples, strict=True)):
        params = jax.tree.map(lambda leaf, index=index: jnp.asarray(leaf[index]), arm.params)
        key = jax.random.key(seed)
        found = rollouts(config, params, examples.arrays["inputs"], key, K, noise)
        task, choices = arm.tasks[index], CHOICES
        if isinstance(task, Sudoku):
            choices = choices | {"rules": think.chooser(examples.arrays["inputs"], Box(*task.box))}
        for (count, choice), right in right_by_count(found, examples.arrays["labels"], choices).items():
            rows.append({"arm": arm.name, "seed": seed, "K": count, "choice": choice, "exact": float(right.mean())})
    return rows


def by_search(arm: TrainedArm, rounds: int, steps: int, count: int) -> pd.DataFrame:
    """What the search solves of the first test puzzles, with the model and, as a control, with a blind guess.

    A row for each seed and guide: the share solved, the share on which it abstained, and the mean rounds.
    """
    rows = []
    config = arm.config.override(**{"recursion.N_sup": steps})
    for index, (seed, examples) in enumerate(zip(config.run.seeds, arm.samples("test", count), strict=True)):
        task = arm.tasks[index]
        if not isinstance(task, Sudoku):
            raise ValueError(f"the search knows the rules of Sudoku alone, {arm.name} was trained on {task.name}")
        box, puzzles = Box(*task.box), to_digits(examples.arrays["inputs"])
        params = jax.tree.map(lambda leaf, index=index: jnp.asarray(leaf[index]), arm.params)
        guides = {"model": beliefs(config, params, box), "blind guess": _blind(box, seed)}
        for guide, believed in guides.items():
            answers, used = think.search(believed, puzzles, box, rounds)
            abstained = (answers == 0).any(axis=-1)
            right = (answers == to_digits(examples.arrays["labels"])).all(axis=-1)
            rows.append(
                {"arm": arm.name, "seed": seed, "guide": guide, "solved": right.mean(), "abstained": abstained.mean()}
                | {"wrong": (~right & ~abstained).mean(), "rounds": used.mean()}
            )
    return pd.DataFrame(rows)


def _blind(box: Box, seed: int) -> think.Beliefs:
    random = np.random.default_rng(seed)
    return lambda boards: random.random((*boards.shape, box.side))
