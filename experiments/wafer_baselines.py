"""How well do simple methods classify wafer maps? The bars that a recursive model must beat, under one protocol.

    python experiments/wafer_baselines.py                       # WM-811K where it is found, else synthetic wafers
    python experiments/wafer_baselines.py --preset smoke        # synthetic wafers, under a minute: proves that it runs
    python experiments/wafer_baselines.py --split random --name random   # how much the naive split flatters
    python experiments/wafer_baselines.py --models cnn_nearest cnn_area cnn_max --name representation

Every wafer with a label is tested once, by a model that saw no wafer of its lot; validation, whole lots too, chooses
the weights of the CNN and ends boosting; test is looked at once. Predictions are kept in runs/NAME, and the CNN after
each evaluation, so a repeated command goes on where it was interrupted.
"""

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trm_jax.support.cli import main
from trm_jax.support.files import replacing, write_text
from trm_jax.support.provenance import environment
from trm_jax.training.processes import configure
from trm_jax.wafer.baselines import cnn_training, rules
from trm_jax.wafer.baselines.cnn import CNNConfig
from trm_jax.wafer.baselines.cnn_training import CNNTraining
from trm_jax.wafer.baselines.report import BaselineResult, write_report
from trm_jax.wafer.data import load
from trm_jax.wafer.maps.grid import Representation, to_grid
from trm_jax.wafer.maps.maps import CLASSES, Wafers
from trm_jax.wafer.presets import SMOKE_WAFERS
from trm_jax.wafer.splits import Kind, Split, folds
from trm_jax.wafer.synthetic import synthetic_wafers

ROOT = Path(__file__).resolve().parent.parent
Model = Literal[
    "constant", "grid_size", "decision_tree", "boosting", "cnn", "cnn_nearest", "cnn_area", "cnn_max"
]  # fmt: skip
TIMED = 30
"""Repetitions behind the latency of one map."""


@dataclass(frozen=True)
class Arguments:
    """Train baselines on folds of whole lots and write a table with intervals."""

    data: Path | None = None
    """Prepared cache, .npz, .pkl or folder of maps; else $TRM_DATA, ../shared/data, or synthetic wafers."""
    preset: Literal["smoke", "cpu"] = "cpu"
    """Size: smoke (1,200 synthetic wafers, a smaller CNN, 20 steps) or cpu (all data, two cores)."""
    models: tuple[Model, ...] = ("constant", "grid_size", "decision_tree", "boosting", "cnn")
    """What to train; cnn uses --representation, the others name theirs."""
    split: Kind = "lot"
    """Folds of whole lots, the naive random folds, or the Training/Test flag of the file."""
    folds: int = 4
    """Number of folds."""
    grid: int = 26
    """Cells a side of the CNN's input."""
    representation: Representation = "area"
    """How maps are resized for the model cnn."""
    cnn: CNNConfig = field(default_factory=CNNConfig)
    """Shape of the CNN."""
    training: CNNTraining = field(default_factory=CNNTraining)
    """Training of the CNN."""
    name: str = ""
    """Name of the run under --output; baselines-PRESET if empty."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""


SMOKE: dict[str, Any] = {"steps": 20, "batch": 32, "warmup": 5, "evaluate_every": 20}


class Task(NamedTuple):
    """What every model is given."""

    wafers: Wafers
    splits: list[Split]
    inputs: Callable[[Callable[[Wafers], np.ndarray]], np.ndarray]
    """Inputs of all wafers from a function of `rules.INPUTS`, computed once however many rules share it."""


def prepare(arguments: Arguments) -> tuple[Arguments, Task]:
    """Arguments with the preset filled in, and the data."""
    if arguments.preset == "smoke":
        training = dataclasses.replace(arguments.training, **SMOKE)
        small = CNNConfig(widths=(8, 16), convolutions=(1, 1))  # nearly all of the time goes into compiling
        arguments = dataclasses.replace(arguments, training=training, cnn=small)
    generated = arguments.preset == "smoke" and arguments.data is None
    wafers = synthetic_wafers(SMOKE_WAFERS) if generated else load(arguments.data)
    splits = folds(wafers, arguments.folds, arguments.split)
    return arguments, Task(wafers, splits, cache(lambda look: look(wafers)))


def run_rule(rule: rules.Rule, task: Task, seed: int) -> BaselineResult:
    """Train and test a rule on every fold."""
    look, labels = rules.INPUTS[rule], task.wafers.label
    values = task.inputs(look)
    found, nodes, seconds = [], [], []
    for split in task.splits:
        begun = time.perf_counter()
        training, validation = ((values[index], labels[index]) for index in (split.train, split.validation))
        model = rules.train(rule, training, validation, seed)
        seconds.append(time.perf_counter() - begun)
        nodes.append(rules.count_nodes(model))
        found.append(rules.probabilities(model, values[split.test], len(CLASSES)))
    one = task.wafers.take(task.splits[0].test[:1])
    latency = milliseconds(lambda: rules.probabilities(model, look(one), len(CLASSES)))
    return BaselineResult(
        np.concatenate(found).astype(np.float32), int(np.mean(nodes)), float(np.mean(seconds)), latency
    )


def run_cnn(
    representation: Representation, task: Task, arguments: Arguments, directory: Path, progress: Path
) -> BaselineResult:
    """Train the CNN on all folds at once, going on from the file ``progress``, and test each net on its fold."""
    config, grids = arguments.cnn, to_grid(task.wafers, arguments.grid, representation)
    on_device = jnp.asarray(grids)
    fitted = cnn_training.fit(config, arguments.training, on_device, task.wafers.label, task.splits, progress)
    write_text(directory / f"curve-{representation}.json", json.dumps(fitted.curve, indent=1))
    found = cnn_training.predictor(config, [split.test for split in task.splits])(fitted.params, on_device)
    params = jax.tree.map(lambda leaf: leaf[0], fitted.params)
    net = jax.jit(lambda grid: cnn_training.probabilities(config, params, grid))
    one = task.wafers.take(task.splits[0].test[:1])
    latency = milliseconds(lambda: np.asarray(net(to_grid(one, arguments.grid, representation))))
    return BaselineResult(np.concatenate(found), optax.tree.size(params), fitted.seconds / len(task.splits), latency)


def milliseconds(classify: Callable[[], Any]) -> float:
    """Median time of classifying one map, resizing or features included."""
    classify()
    times = []
    for _ in range(TIMED):
        begun = time.perf_counter()
        classify()
        times.append(1e3 * (time.perf_counter() - begun))
    return float(np.median(times))


def run_model(model: Model, task: Task, arguments: Arguments, directory: Path) -> BaselineResult:
    """Train and test a model, or take up what an earlier run has saved."""
    saved = directory / f"{model}.npz"
    if saved.exists():
        with np.load(saved, allow_pickle=False) as arrays:
            return BaselineResult(
                arrays["probabilities"], *(arrays[name].item() for name in BaselineResult._fields[1:])
            )
    progress = directory / f"progress-{model}.msgpack"
    if model.startswith("cnn"):
        representation: Any = model.removeprefix("cnn").strip("_") or arguments.representation
        tested = run_cnn(representation, task, arguments, directory, progress)
    else:
        rule: Any = model
        tested = run_rule(rule, task, arguments.training.seed)
    with replacing(saved) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **tested._asdict())
    progress.unlink(missing_ok=True)
    return tested


def claim(directory: Path, arguments: Arguments, task: Task) -> None:
    """Refuse a directory that holds predictions made with other options. Raises ValueError."""
    options = dataclasses.asdict(arguments)
    kept = {
        name: value for name, value in options.items() if name not in ("models", "output", "name", "preset", "data")
    }
    text = json.dumps({"source": task.wafers.source, "wafers": len(task.wafers), **kept}, indent=1, default=str)
    path = directory / "options.json"
    # A run that failed before it kept anything holds nothing.
    if (any(directory.glob("*.npz")) or any(directory.glob("*.msgpack"))) and path.read_text(encoding="utf-8") != text:
        raise ValueError(f"{directory} holds results of other options; choose another --name or remove it")
    directory.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def run(arguments: Arguments) -> None:
    """Train what is missing, write the report and print its table."""
    arguments, task = prepare(arguments)
    directory = arguments.output / (arguments.name or f"baselines-{arguments.preset}")
    claim(directory, arguments, task)
    print(f"{task.wafers.source}: {sum(len(split.test) for split in task.splits):,} wafers are tested")
    tested: dict[str, BaselineResult] = {}
    for model in arguments.models:
        tested[model] = run_model(model, task, arguments, directory)
    made = environment()
    provenance = {
        "command": shlex.join(["python", *sys.argv]),
        "commit": made["commit"],
        "machine": made["machine"],
        "jax": made["packages"]["jax"],
    }
    print(write_report(directory, tested, task.wafers, task.splits, arguments.split, provenance))
    print(f"\nReport: {directory / 'report.md'}")


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
