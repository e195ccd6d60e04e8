"""Answers of an exported model for wafer maps: the preprocessing of training, batches, and early stopping."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from trm_jax.edge.package import Model
from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.wafers import CLASSES, FAIL, Wafers

_PREPARED = 256  # maps whose grids are made at once, at least
_MAX_STEPS = 1000


class Classified(NamedTuple):
    """What the model says about N wafers, at the supervision step where each of them stopped."""

    probabilities: np.ndarray
    """(N, classes) float32"""
    halt: np.ndarray
    """(N,) float32, probability that the answer is right."""
    steps: np.ndarray
    """(N,) int32, supervision steps used."""
    unlike: np.ndarray
    """(N,) float32, above 0 for maps unlike those trained on; -inf where the package does not know."""


def inputs(model: Model, wafers: Wafers) -> np.ndarray:
    """What the model takes for these wafers, (N, size, size, 2) float32 with values 0 to 255.

    Raises ValueError for a model that takes no wafers, and for a map with another code than 0, 1 and 2.
    """
    preprocessing = model.metadata.preprocessing
    if preprocessing["kind"] != "wafer":
        raise ValueError(f"{model.path} takes no wafer maps, but {preprocessing['kind']}")
    for index, maps in wafers.iter_same_shape():
        highest = maps.max(axis=(1, 2))
        if (highest > FAIL).any():
            first = int(highest.argmax())
            row = wafers.row[index[first]]
            raise ValueError(f"{wafers.source}, row {row}, has a cell {highest[first]}; cells are 0, 1 or 2")
    return to_grid(wafers, preprocessing["size"], preprocessing["representation"]).astype(np.float32)


def classify(model: Model, wafers: Wafers, batch: int = 1, threshold: float | None = None) -> Classified:
    """Answer for every wafer, ``batch`` at a time.

    With a ``threshold`` a wafer stops after the first supervision step whose halting probability is above it, at most
    N_sup. Raises ValueError for options that the model cannot fulfil, and as ``inputs`` and ``Model.run`` do.
    """
    check(model, batch, threshold)
    parts = [
        Classified(np.zeros((0, len(CLASSES)), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0))
    ]
    prepared = batch * -(-_PREPARED // batch)
    for begin in range(0, len(wafers), prepared):
        grids = inputs(model, wafers.take(np.arange(begin, min(begin + prepared, len(wafers)))))
        for first in range(0, len(grids), batch):
            # The last batch is filled up: another size would make TensorRT build another engine.
            chosen = np.minimum(np.arange(first, first + min(batch, len(wafers))), len(grids) - 1)
            count = min(len(chosen), len(grids) - first)
            parts.append(Classified(*(value[:count] for value in answer(model, grids[chosen], threshold))))
    return Classified(*map(np.concatenate, zip(*parts, strict=True)))


def check(model: Model, batch: int, threshold: float | None) -> None:
    """Raise ValueError if the model cannot take so many wafers at a time, or cannot stop early."""
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    if model.batch not in (None, batch):
        raise ValueError(
            f"{model.path} takes {model.batch} at a time, not {batch}; model_dynamic.onnx takes any number"
        )
    if model.kind == "question":
        raise ValueError(f"{model.path} gives no answers by itself; it belongs to step.onnx")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a probability, got {threshold}")
    if threshold is not None and model.kind == "model":
        raise ValueError(f"{model.path} cannot stop early; give a package, model_adaptive.onnx or step.onnx")


def answer(model: Model, grids: np.ndarray, threshold: float | None = None) -> Classified:
    """Answer one batch of inputs, as ``classify`` does."""
    if model.kind == "model":
        out = model.run(inputs=grids)
        steps = np.full(len(grids), out["probabilities"].shape[1], np.int32)
        return Classified(out["probabilities"][:, -1], out["halt"][:, -1], steps, unlike(model, out, len(grids)))
    never = 1.0  # no probability is above it
    limit = never if threshold is None else threshold
    if model.kind == "adaptive":
        out = model.run(inputs=grids, threshold=np.array(limit, np.float32))
        return Classified(out["probabilities"], out["halt"], out["steps"], unlike(model, out, len(grids)))
    return _by_steps(model, grids, limit)


def unlike(model: Model, outputs: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """How unlike maps are to those trained on, by the features among a model's outputs."""
    if model.unlike is None:
        return np.full(count, -np.inf, np.float32)
    return model.unlike.score(outputs["features"])


def _by_steps(model: Model, grids: np.ndarray, limit: float) -> Classified:
    """Supervision steps one by one, each only for the wafers that have not stopped."""
    recursion = model.metadata.config.get("recursion")
    N_sup = recursion.get("N_sup") if isinstance(recursion, dict) else None
    if type(N_sup) is not int or not 1 <= N_sup <= _MAX_STEPS:
        raise ValueError(f"{model.path}: its metadata config does not say recursion.N_sup, 1 to {_MAX_STEPS}")
    count = len(grids)
    assert model.question is not None
    asked = model.question.run(inputs=grids)
    x, strange = asked["x"], unlike(model, asked, count)
    result = Classified(
        np.zeros((count, len(CLASSES)), np.float32), np.zeros(count, np.float32), np.zeros(count, np.int32), strange
    )
    states = {name: np.repeat(first, count, axis=0) for name, first in model.initial.items()}
    running = np.arange(count)
    for step in range(1, N_sup + 1):
        out = model.run(x=x[running], **states)
        result.probabilities[running], result.halt[running] = out["probabilities"], out["halt"]
        result.steps[running] = step
        going = ~(out["halt"] > limit)
        running, states = running[going], {name: out[f"{name}_next"][going] for name in states}
        if not len(running):
            break
    return result
