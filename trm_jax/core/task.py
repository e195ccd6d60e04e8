"""The seam: what the engine must know about a task, and the task of token sequences that others build on.

A new task is a frozen dataclass of its own options. It is hashable and static under jit, and it is the section ``task``
of config.json and of the option names. Fields that hold arrays are declared with ``compare=False``: they reach the
compiled program as arguments, so two tasks that differ in them alone share it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from trm_jax.core.config import Config
from trm_jax.core.model_config import ModelConfig
from trm_jax.support.schema import from_dict, replace_nested, require

Batch = dict[str, Any]
"""Arrays by name: "inputs" (tokens or images), "labels" (B, L) or (B,), "puzzle" identifiers (B,) and "soft_targets"
(B, ..., classes) of teachers where there are any, and what an augmentation needs. The leading axis is N samples or B
of a batch."""


IGNORE = -100
"""Label of a cell that does not count in losses and scores."""


class Examples(NamedTuple):
    """The samples of one part of a task, in numpy arrays."""

    arrays: Batch
    weights: np.ndarray | None = None
    """(P, N) weights by which samples are drawn in each of P phases of the training; None draws all alike."""
    phases: tuple[float, ...] = (0.0,)
    """Share of the training after which each of the P phases begins; the first begins at 0."""
    shared: Mapping[str, Any] = {}
    """Arrays that the augmentation needs and that belong to no sample."""
    levels: np.ndarray | None = None
    """(N,) difficulty of each sample in words, by which a study reports scores apart."""

    def take(self, index: np.ndarray) -> "Examples":
        """The samples with these indices or this mask, without sampling weights."""
        levels = None if self.levels is None else self.levels[index]
        return Examples(
            {name: values[index] for name, values in self.arrays.items()}, None, (0.0,), self.shared, levels
        )


def check_tokens(model: ModelConfig, arrays: Batch, what: str) -> None:
    """Raise ValueError for tokens, puzzle identifiers or labels that the model does not have; jax would clamp them."""
    limits = {"labels": ("classes", model.classes)}
    if model.encoder:
        shape, side = np.shape(arrays["inputs"]), model.encoder.image
        fits = shape[1:] == (side, side, model.encoder.channels)
        require(fits, f"{what}: inputs {shape} are not images of {side} cells a side (model.encoder.image)")
    else:
        limits["inputs"] = ("vocabulary", model.vocabulary)
        shape = np.shape(arrays["inputs"])
        fits = len(shape) >= 2 and shape[-1] == model.cells
        require(fits, f"{what}: inputs {shape} are not (N, {model.cells}), the model's cells")
    if model.prefix_width:
        limits["puzzle"] = ("puzzles", model.puzzles)
        require(
            model.puzzles == 1 or arrays.get("puzzle") is not None,
            f"{what}: no puzzle identifiers, and the model has {model.puzzles} puzzle vectors",
        )
    for name, (option, limit) in limits.items():
        values = np.asarray(arrays[name]) if arrays.get(name) is not None else np.zeros(0, np.int32)
        values = values[values != IGNORE] if name == "labels" else values
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        require(
            low >= 0 and high < limit,
            f"{what}: {name} has values from {low} to {high}, the model takes 0 to {limit - 1} (model.{option})",
        )


def repeated_inputs(known: Batch, part: Batch) -> int:
    """How many inputs (with their puzzle identifiers) of one part are also among the known ones."""

    def rows(arrays: Batch) -> list[bytes]:
        inputs = np.asarray(arrays["inputs"]).reshape(len(arrays["inputs"]), -1)
        puzzle = arrays.get("puzzle")
        return [row.tobytes() for row in (inputs if puzzle is None else np.column_stack([inputs, puzzle]))]

    seen = set(rows(known))
    return sum(row in seen for row in rows(part))


class Prediction(NamedTuple):
    """What S models answer to N inputs after each supervision step."""

    classes: Any
    """(S, N_sup, N, L) per cell or (S, N_sup, N): the most probable class."""
    halt: Any
    """(S, N_sup, N) probability that the whole answer is right."""


class Task:
    """What a task says of itself. Subclasses are frozen dataclasses."""

    name: ClassVar[str] = "task"
    """Short name, for files and messages."""
    metric: ClassVar[str] = "exact"
    """The score that chooses the best weights; higher is better."""
    example_name: ClassVar[tuple[str, str]] = ("example", "examples")
    """What reports call one sample, and several."""
    right: ClassVar[str] = ""
    """When an answer counts as right in the score ``exact``, if not when all of it is, as a sentence."""
    level_name: ClassVar[str] = "level"
    """What reports call the difficulty of a sample."""
    report_options: ClassVar[tuple[str, ...]] = ()
    """Options that change how scores are reported and nothing that is trained, e.g. ("task.level_by",)."""

    def examples(self, part: str) -> Examples:
        """The samples of "train", "validation" or "test"; the same at every call."""
        raise NotImplementedError

    def for_seed(self, seed: int) -> "Task":
        """The task with the samples of one training seed; itself where all seeds share them.

        Seeds may differ in their samples alone: their parts are equally large, and `Examples.shared` arrays of
        different lengths are filled up with their last entry.
        """
        return self

    def shape(self) -> dict[str, Any]:
        """Options of the model that the data dictate, e.g. ``{"model.vocabulary": 6}``."""
        return {}

    def augment(self, key: Any, batch: Batch, shared: Mapping[str, Any]) -> Batch:
        """Change a batch inside the compiled training step; pure, shapes stay."""
        return batch

    def score(self, prediction: Prediction, examples: Examples) -> dict[str, np.ndarray]:
        """Scores of every seed after every supervision step, each (S, N_sup)."""
        raise NotImplementedError

    def class_names(self) -> list[str]:
        """Names of the classes in their order; empty where numbers name them."""
        return []

    def protocol(self) -> list[str]:
        """Sentences about the data for the report of a study."""
        return []

    def remark(self) -> str:
        """What is special about the data of one arm of a study, as the end of a sentence; empty if nothing is."""
        return ""


class TokenTask(Task):
    """Tokens in, a class for every token or for the whole sequence out; shape and scores follow from the samples."""

    def shape(self) -> dict[str, Any]:
        """Vocabulary, classes and a grid of one row, as the training samples have them."""
        arrays = self.examples("train").arrays
        inputs, labels = arrays["inputs"], arrays["labels"]
        return {
            "model.vocabulary": int(inputs.max()) + 1,
            "model.classes": int(labels.max()) + 1,
            "model.grid": (1, inputs.shape[1]),
            "model.readout": "cell" if labels.ndim == 2 else "pooled",
        }

    def score(self, prediction: Prediction, examples: Examples) -> dict[str, np.ndarray]:
        """``exact``: share of samples with every counted cell right; ``cells``: share of the counted cells."""
        labels = examples.arrays["labels"]
        counted = labels != IGNORE
        correct = (prediction.classes == labels) & counted
        if labels.ndim == 1:
            return {"exact": correct.mean(axis=-1), "cells": correct.mean(axis=-1)}
        exact = (correct | ~counted).all(axis=-1).mean(axis=-1)
        return {"exact": exact, "cells": correct.sum(axis=(-2, -1)) / max(int(counted.sum()), 1)}


AnyTask = TypeVar("AnyTask", bound=Task)


def task_options(task: Task) -> dict[str, Any]:
    """The options of a task by name, without its arrays: the section ``task`` of config.json."""
    named = {f.name: getattr(task, f.name) for f in dataclasses.fields(task) if f.compare}  # type: ignore[arg-type]
    return {"name": task.name, **named}


def task_from_options(kind: type[AnyTask], options: Mapping[str, Any]) -> AnyTask:
    """Inverse of task_options. Raises ValueError for the options of another kind of task, or unknown ones."""
    if options.get("name") != kind.name:
        raise ValueError(f"expected options of the task {kind.name!r}, got those of {options.get('name')!r}")
    return from_dict({name: value for name, value in options.items() if name != "name"}, kind)


def run_options(task: Task, config: Config) -> dict[str, Any]:
    """All options of a run, as plain values by section."""
    return {"task": task_options(task), **dataclasses.asdict(config)}


def default_options(task: Task) -> dict[str, Any]:
    """The defaults of all options of a run on such a task, by section; options of the task without one are left out."""
    fields = {f.name: f.default for f in dataclasses.fields(task) if f.compare}  # type: ignore[arg-type]
    named = {name: value for name, value in fields.items() if value is not dataclasses.MISSING}
    return {"task": named, **dataclasses.asdict(Config())}


def override(task: AnyTask, config: Config, options: Mapping[str, Any]) -> tuple[AnyTask, Config]:
    """Task and config with dotted options changed; those of the task begin with ``task.``.

    The model gets the shape that the changed task asks for, unless an option says otherwise.
    Raises ValueError for an unknown option, a value of the wrong type, or what no run can train.
    """
    task_changes = {name.removeprefix("task."): value for name, value in options.items() if name.startswith("task.")}
    others = {name: value for name, value in options.items() if not name.startswith("task.")}
    task = replace_nested(task, task_changes, "task.")
    config = config.override(**(task.shape() | others))
    require_one_net(config)
    return task, config


def require_one_net(config: Config) -> None:
    """Raise ValueError for a model of several members, which is only put together from nets that were trained."""
    members = config.model.members
    require(members == 1, f"model.members={members}: nets are trained one by one, as run.seeds")
