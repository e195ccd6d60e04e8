"""Answers of a trained classifier to wafer maps, many at a time."""

import time
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import jax
import numpy as np

from trm_jax.core import predict
from trm_jax.core.adaptive import halted
from trm_jax.core.config import Config
from trm_jax.support.schema import require
from trm_jax.training.devices import over_seeds, run_mesh, to_host
from trm_jax.wafer.checkpoint import Shipped
from trm_jax.wafer.maps.maps import Wafers
from trm_jax.wafer.task import grids_of

CHUNK = 4096
"""Maps that are resized and answered at a time."""


class Classified(NamedTuple):
    """Answers to N wafers."""

    probabilities: np.ndarray  # (N, classes) float32, calibrated
    steps: np.ndarray  # (N,) int32, supervision steps used
    halt: np.ndarray  # (N, N_sup) after each step used, probability that the answer is right; NaN where it is not asked


class Halting(NamedTuple):
    """Answers to N wafers, each after as many supervision steps as it needed."""

    prediction: np.ndarray  # (N,) index into CLASSES
    confidence: np.ndarray  # (N,) calibrated probability of it
    steps: np.ndarray  # (N,) int32, supervision steps used
    halt: np.ndarray  # (N, N_sup) after each step used, probability that the answer is right; NaN after the others
    seconds: float  # for all of it, resizing included; the first call with a model and a batch compiles, too


def inference_with_halting(shipped: Shipped, wafers: Wafers, threshold: float, batch: int = 64) -> Halting:
    """Classify wafers in a compiled loop that a wafer leaves once its halting probability is above ``threshold``.

    The next wafer takes its slot, so time follows the steps used. Errors as of ``classify``.
    """
    begun = time.perf_counter()
    found = classify(shipped, wafers, threshold, batch)
    confidence = found.probabilities.max(axis=1)
    return Halting(found.probabilities.argmax(axis=1), confidence, found.steps, found.halt, time.perf_counter() - begun)


def classify(shipped: Shipped, wafers: Wafers, threshold: float | None = None, batch: int = 64) -> Classified:
    """Classify every wafer with all N_sup steps, or with as many as it needs to be sure.

    With ``threshold`` a wafer stops after the first step whose halting probability is above it. Raises ValueError for a
    model that takes no wafers.
    """
    config = shipped.config
    require(config.model.patch > 0, "the checkpoint is of a model that takes tokens, not wafer maps")
    one = jax.tree.map(lambda leaf: np.asarray(leaf)[None], shipped.params)  # a leading axis S of one seed
    logits, steps, halt = [], [], []
    for begin in range(0, len(wafers), CHUNK):
        part = wafers.take(np.arange(begin, min(begin + CHUNK, len(wafers))))
        grids = grids_of(config, part)
        # The last chunk is filled up to whole batches, so that few sizes are compiled.
        grids = np.pad(grids, ((0, -len(part) % batch), *((0, 0),) * 3))
        if threshold is None:
            found = to_host(_answers(config, batch)(one, grids))[0]
            used = np.full(len(grids), config.recursion.N_sup, np.int32)
            every_halt = np.full((len(grids), config.recursion.N_sup), np.nan, np.float32)
        else:
            stopped = to_host(halted(config, shipped.params, grids, threshold, batch=batch))
            found, used, every_halt = stopped.logits, stopped.steps, stopped.halt
        logits.append(found[: len(part)])
        steps.append(used[: len(part)])
        halt.append(every_halt[: len(part)])
    every = np.concatenate([np.zeros((0, config.model.classes), np.float32), *logits])
    probabilities = np.asarray(jax.nn.softmax(every / shipped.calibration.temperature, axis=-1))
    none = np.zeros((0, config.recursion.N_sup), np.float32)
    return Classified(probabilities, np.concatenate([np.zeros(0, np.int32), *steps]), np.concatenate([none, *halt]))


def halting_times(
    shipped: Shipped, wafers: Wafers, thresholds: Sequence[float], batch: int = 64, rounds: int = 7
) -> list[float]:
    """Milliseconds a wafer at each halting threshold, compiled before the clock starts: medians of rounds in turns."""
    grids = grids_of(shipped.config, wafers)
    seconds: list[list[float]] = [[] for _ in thresholds]
    for _ in range(1 + rounds):
        for own, threshold in zip(seconds, thresholds, strict=True):
            begun = time.perf_counter()
            jax.block_until_ready(halted(shipped.config, shipped.params, grids, threshold, batch=batch))
            own.append(time.perf_counter() - begun)
    return [1e3 * float(np.median(own[1:])) / len(wafers) for own in seconds]


@cache
def _answers(config: Config, batch: int):
    """Compiled logits after the last step; the devices divide the work as `run_mesh` says."""
    alone = config.override(**{"run.seeds": (0,), "run.batch": batch})

    def last(params, grids):
        return predict.in_batches(config, params, grids, None, batch, lambda reading: reading.logits)[-1]

    return over_seeds(last, run_mesh(alone))
