"""Answers of a trained classifier to wafer maps, many at a time."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from trm_jax.core.config import Config, ModelConfig
from trm_jax.core.network import model
from trm_jax.core.network.encoders import question_features
from trm_jax.core.predict import adaptive_forward, last_step
from trm_jax.support.terminal.progress import each
from trm_jax.support.timing import time_interleaved
from trm_jax.training.devices import to_host
from trm_jax.training.predict import predict
from trm_jax.wafer.checkpoint import Classifier, load_checkpoint
from trm_jax.wafer.maps.wafers import Wafers

CHUNK = 4096
"""Maps that are resized and answered at a time."""
NOTHING = np.zeros((0, 0), np.float32)


class Classified(NamedTuple):
    """Answers to N wafers."""

    probabilities: np.ndarray
    """(N, classes) float32, calibrated."""
    steps: np.ndarray
    """(N,) int32, supervision steps used."""
    halt: np.ndarray
    """(N, N_sup) probability that the answer is right after each step used; NaN after the others, and everywhere where
    no threshold was given."""
    unlike: np.ndarray | None
    """(N,) float32, above 0 for maps unlike those trained on; None for a classifier that does not know."""
    seconds: float
    """For all of it, resizing included; the first call with a model and a batch size compiles, too."""
    strange: np.ndarray = NOTHING
    """(M, F) features of the maps that are unlike, in their order."""

    @property
    def prediction(self) -> np.ndarray:
        """(N,) index into CLASSES."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """(N,) calibrated probability of the prediction."""
        return self.probabilities.max(axis=1)


def inference_with_halting(classifier: Classifier, wafers: Wafers, threshold: float, batch: int = 64) -> Classified:
    """Classify wafers in a compiled loop that a wafer leaves once its halting probability is above ``threshold``.

    The next wafer takes its slot, so time follows the steps used. Errors as of `classify`.
    """
    return classify(classifier, wafers, threshold, batch)


def classify(
    classifier: Classifier, wafers: Wafers, threshold: float | None = None, batch: int = 64, shown: bool = False
) -> Classified:
    """Classify every wafer with all N_sup steps or, given a ``threshold``, as `inference_with_halting` does.

    ``shown`` says whether a bar counts them. Raises ValueError for a model that does not take wafer maps.
    """
    config = classifier.config.override(**{"run.seeds": (0,), "run.batch": batch})
    start, depth = time.perf_counter(), config.recursion.N_sup
    logits = np.zeros((len(wafers), config.model.classes), np.float32)
    steps = np.full(len(wafers), depth, np.int32)
    halt = np.full((len(wafers), depth), np.nan, np.float32)
    unlike = None if classifier.unlike is None else np.zeros(len(wafers), np.float32)
    strange: list[np.ndarray] = []
    weights = jax.tree.map(lambda leaf: np.asarray(leaf)[None], classifier.params)  # a leading axis S of one seed
    begins = range(0, len(wafers), CHUNK)
    for begin in each(begins, shown, desc="classifying", total=len(begins), unit=f" x {CHUNK:,} maps"):
        rows = slice(begin, min(begin + CHUNK, len(wafers)))
        count = rows.stop - begin
        grids = classifier.task.grids_of(config, wafers.take(np.arange(begin, rows.stop)))
        if unlike is not None and classifier.unlike is not None:
            seen = features(classifier, grids, batch)
            unlike[rows] = classifier.unlike.score(seen)
            strange.append(seen[unlike[rows] > 0])
        if threshold is None:
            output = predict(config, weights, grids, batch=batch, reduce=last_step, inference=True)
            logits[rows] = output.logits[0, 0]
        else:
            # Filled up to whole batches, so that few sizes are compiled.
            padded = np.pad(grids, ((0, -count % batch), *((0, 0),) * 3))
            stopped = to_host(
                adaptive_forward(config, classifier.params, padded, threshold, batch=batch, inference=True)
            )
            logits[rows], halt[rows], steps[rows] = (values[:count] for values in stopped)
    probabilities = np.asarray(jax.nn.softmax(logits / classifier.calibration.temperature, axis=-1))
    found = np.concatenate(strange) if strange else NOTHING
    return Classified(probabilities, steps, halt, unlike, time.perf_counter() - start, found)


def features(classifier: Classifier, grids: np.ndarray, batch: int = 64) -> np.ndarray:
    """What the net sees of grids (N, image, image, 2) before it begins to reason: (N, F) float32."""
    padded = np.pad(grids, ((0, -len(grids) % batch), *((0, 0),) * 3))
    parts = [
        _features(classifier.config, classifier.params, part) for part in padded.reshape(-1, batch, *grids.shape[1:])
    ]
    return np.concatenate([np.asarray(part) for part in parts] or [np.zeros((0, 0), np.float32)])[: len(grids)]


@partial(jax.jit, static_argnums=0)
def _features(config: Config, params: Any, grids: Any) -> Any:
    return question_features(config.model, model.embed(config, params, grids, inference=True))


def halting_times(classifier: Classifier, wafers: Wafers, thresholds: Sequence[float]) -> list[float]:
    """Milliseconds a wafer at each halting threshold, without compiling and resizing: the median of seven turns."""
    config, params, grids = classifier.config, classifier.params, classifier.task.grids_of(classifier.config, wafers)

    def answer(threshold: float) -> None:
        jax.block_until_ready(adaptive_forward(config, params, grids, threshold, batch=64, inference=True))

    seconds = time_interleaved({limit: partial(answer, limit) for limit in thresholds}, rounds=7, seconds=0)
    return [1e3 * float(np.median(times)) / len(wafers) for times in seconds.values()]


def time_halting(weights: Path, wafers: Wafers, index: np.ndarray, halts: Sequence[float]) -> list[float]:
    """Milliseconds a wafer when it stops above each of ``halts``; empty without wafers or weights."""
    if not len(index):
        return []
    if not weights.is_dir():
        print(f"no weights at {weights}: early stopping is not timed", file=sys.stderr)
        return []
    return halting_times(load_checkpoint(weights), wafers.take(index), halts)


def count_parameters(config: ModelConfig) -> int:
    """Numbers in one net that predicts, without initialising any."""
    config = replace(config, readout_bias=True)  # as `wafer.task.for_prediction` adds it
    return model.count_parameters(config, model.abstract_weights(config))
