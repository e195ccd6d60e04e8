"""What an exported file answers, beside what the model answers in JAX."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from scipy.special import expit, softmax

from trm_jax.core import predict
from trm_jax.core.config import Config
from trm_jax.wafer.evaluation import metrics

BATCH = 32
"""Inputs at a time where a file takes any number."""


class Answers(NamedTuple):
    """Answers to N inputs after each of K supervision steps."""

    logits: np.ndarray
    """(N, K, classes), or (N, K, cells, classes)."""
    probabilities: np.ndarray
    halt: np.ndarray
    """(N, K), probability that the answer is right."""


class Agreement(NamedTuple):
    """A file's answers beside those of JAX, on the same inputs."""

    largest: float
    """Largest difference of a logit, in units of the largest logit where that is above 1."""
    rms: float
    """Root mean square difference of the logits."""
    other_outputs: float
    """Largest difference of a probability or halting probability."""
    same: float
    """Share of answers after the last step that name the same class."""
    lead: float
    """Largest lead, in probability, that the expected class had over the next where another is named; 0 if none is."""
    macro_f1: float
    ece: float
    """Expected calibration error, of the last step as macro_f1."""


def of_jax(config: Config, params: Any, inputs: np.ndarray, temperature: float) -> Answers:
    """Answers of the model as it was trained: scanned, not written out, in float32."""
    readings = predict.readings(config.override(**{"model.dtype": "float32"}), params, inputs, batch=64)
    logits, halt = (np.moveaxis(np.asarray(leaf), 0, 1) for leaf in (readings.logits, readings.halt))
    return Answers(logits, softmax(logits / temperature, axis=-1), expit(halt))


def session(path: Path, optimised: bool = True) -> onnxruntime.InferenceSession:
    """A file in onnxruntime on one thread, as its graph stands if not ``optimised``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def of_file(path: Path, inputs: np.ndarray, optimised: bool = True) -> Answers:
    """Answers of a file with all supervision steps, one by one or in batches as it takes them."""
    opened = session(path, optimised)
    size = 1 if isinstance(opened.get_inputs()[0].shape[0], int) else BATCH
    parts = [opened.run(None, {"inputs": inputs[begin : begin + size]}) for begin in range(0, len(inputs), size)]
    return Answers(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def of_question(path: Path, inputs: np.ndarray) -> np.ndarray:
    """What the file for the question x makes of each input."""
    opened = session(path)
    return np.concatenate([opened.run(None, {"inputs": one[None]})[0] for one in inputs])


def of_steps(question: Path, path: Path, initial: dict[str, np.ndarray], inputs: np.ndarray, count: int) -> Answers:
    """Answers of a file with a single step, applied ``count`` times to the question of each input."""
    opened, answers = session(path), []
    for x in of_question(question, inputs):
        states, steps = initial, []
        for _ in range(count):
            *following, logits, probabilities, halt = opened.run(None, {"x": x[None], **states})
            states = dict(zip(initial, following, strict=True))
            steps.append((logits[0], probabilities[0], halt[0]))
        answers.append([np.stack(values) for values in zip(*steps, strict=True)])
    return Answers(*(np.stack(values) for values in zip(*answers, strict=True)))


def of_adaptive(path: Path, inputs: np.ndarray, threshold: float) -> tuple[Answers, np.ndarray]:
    """Answers (K = 1) of the file that stops by itself, and the steps (N,) that it took."""
    opened, limit = session(path), np.array(threshold, np.float32)
    parts = [opened.run(None, {"inputs": one[None], "threshold": limit}) for one in inputs]
    logits, probabilities, halt, steps = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Answers(logits[:, None], probabilities[:, None], halt[:, None]), steps


def at_steps(answers: Answers, steps: np.ndarray) -> Answers:
    """The answer (K = 1) of each input after so many steps (N,)."""
    rows = np.arange(len(steps))
    return Answers(*(values[rows, steps - 1][:, None] for values in answers))


def agreement(found: Answers, expected: Answers, truth: np.ndarray) -> Agreement:
    """Compare answers with those expected, and with true classes (N,) or (N, cells); negative ones do not count.

    Raises ValueError if an answer is no number.
    """
    if not all(np.isfinite(values).all() for values in found):
        raise ValueError("the file answers with values that are no numbers")
    difference = found.logits.astype(np.float64) - expected.logits
    scale = max(1.0, float(np.abs(expected.logits).max()))
    others = zip(found[1:], expected[1:], strict=True)
    last, classes = found.probabilities[:, -1], found.probabilities.shape[-1]
    known = truth.reshape(-1) >= 0
    before = expected.probabilities[:, -1]
    differs = last.argmax(axis=-1) != before.argmax(axis=-1)
    second, first = np.moveaxis(np.partition(before, -2, axis=-1)[..., -2:], -1, 0)
    counts = metrics.count(truth.reshape(-1)[known], last.reshape(-1, classes)[known], np.zeros(known.sum(), np.int64))
    return Agreement(
        largest=float(np.abs(difference).max()) / scale,
        rms=float(np.sqrt((difference**2).mean())),
        other_outputs=max(float(np.abs(one - other).max()) for one, other in others),
        same=float(1 - differs.mean()),
        lead=float((first - second)[differs].max(initial=0.0)),
        macro_f1=float(metrics.scores(counts.confusion.sum(axis=0)).macro_f1),
        ece=float(metrics.calibration_error(counts.calibration.sum(axis=0), known.sum())),
    )
