"""From a finished arm of a study to a checkpoint that ships: the best seed on validation, with a model card."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import Task, task_from_options
from trm_jax.export.samples import TOKEN_TASKS
from trm_jax.reporting.interval import Interval, wilson
from trm_jax.reporting.page import template
from trm_jax.support.files import check_folder, replacing_directory, require_own, write_text
from trm_jax.support.provenance import provenance
from trm_jax.support.schema import require
from trm_jax.training.checkpoint import load_weights, save_weights
from trm_jax.training.predict import scores
from trm_jax.training.run_directory import read_config
from trm_jax.training.samples import samples_of

CARD, WEIGHTS = "model_card.md", "weights"
PACKAGE = "onnx"
"""The package of older weights, which goes with them."""


@dataclass(frozen=True)
class Chosen:
    """The seed that ships, and how good it is."""

    config: Config
    params: Any
    task: Task
    seed: int
    validation: list[float]
    """Score of every seed of the arm on validation, which chose this one."""
    test: list[Interval]
    """Share of the test examples that are exactly right after each step, to twice the trained depth; 95 % (Wilson)."""
    tested: int
    trained: dict[str, str]
    """What made the weights."""


def choose(arm: Path) -> Chosen:
    """The best seed, by its score on validation, among those of a finished arm (``runs/NAME/arms/ARM``).

    Raises ValueError for another folder or a task that has no samples of its own.
    """
    results = arm.parent.parent / "results.json"
    finished = results.is_file() and (arm / "config.json").is_file()
    require(finished, f"{arm} is not an arm of a finished study; give runs/NAME/arms/ARM")
    config, options = read_config(arm)
    name = str(options.get("name"))
    require(name in TOKEN_TASKS, f"{arm} is of the task {name!r}; known here are {', '.join(TOKEN_TASKS)}")
    task = task_from_options(TOKEN_TASKS[name], options)
    seeds = [load_weights(arm / f"weights-{seed}").params for seed in config.run.seeds]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *seeds)
    validation = scores(task, config, stacked, samples_of(task, config, "validation"))[task.metric][:, -1]
    best = int(validation.argmax())
    task = task.for_seed(config.run.seeds[best])
    # The config of one seed, so that its program does not expect the others.
    alone = config.override(**{"run.seeds": (config.run.seeds[best],)})
    deeper = alone.override(**{"recursion.N_sup": 2 * config.recursion.N_sup})
    test = task.examples("test")
    tested = len(test.arrays["labels"])
    exact = scores(task, deeper, jax.tree.map(lambda leaf: leaf[best : best + 1], stacked), test)["exact"][0]
    return Chosen(
        config=alone,
        params=seeds[best],
        task=task,
        seed=config.run.seeds[best],
        validation=[float(value) for value in validation],
        test=[wilson(round(float(share) * tested), tested) for share in exact],
        tested=tested,
        trained=json.loads(results.read_text(encoding="utf-8"))["made by"],
    )


def model_card(name: str, chosen: Chosen) -> str:
    """What the weights are, how they were made and how good they are, in Markdown."""
    parameters = model.count_parameters(chosen.config.model, chosen.params)
    return template("trm_jax.export", "ship_card.md").render(
        name=name, **vars(chosen), parameters=parameters, protocol=chosen.task.protocol(), made=provenance()
    )


def ship(arm: Path, output: Path, replace: bool = False) -> Chosen:
    """Write the checkpoint, complete or not at all.

    Raises FileExistsError for one that may not be replaced, ValueError for a directory that has anything else.
    """
    if output.exists() and not replace:
        raise FileExistsError(f"{output} exists; choose another directory or give --replace")
    check_folder(output)
    require_own(output, [CARD, WEIGHTS, PACKAGE])
    chosen = choose(arm)
    with replacing_directory(output, [PACKAGE]) as temporary:
        save_weights(temporary / WEIGHTS, chosen.params, chosen.config, chosen.task)
        write_text(temporary / CARD, model_card(output.name, chosen))
    return chosen
