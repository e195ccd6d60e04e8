"""What an exported file answers, beside what the model answers in JAX."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, softmax

from trm_jax.core import predict
from trm_jax.core.config import Config
from trm_jax.export.measures.latency import open_session
from trm_jax.support.schema import require

BATCH = 32
"""Inputs at a time where a file takes any number."""


class Answers(NamedTuple):
    """Answers to N inputs after each of K supervision steps."""

    logits: np.ndarray
    """(N, K, classes), or (N, K, cells, classes)."""
    probabilities: np.ndarray
    halt: np.ndarray
    """(N, K), probability that the answer is right."""


@dataclass(frozen=True)
class Agreement:
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
    """Largest lead, in probability, that JAX's class had over its next where the file names another; 0 if none is."""
    scores: dict[str, float]
    """Scores of the last step by name."""


def jax_answers(config: Config, params: Any, inputs: np.ndarray, temperature: float) -> Answers:
    """Answers of the model as it was trained: scanned, not written out, in float32."""
    config = config.override(**{"model.dtype": "float32"})
    outputs = predict.predict(config, params, inputs, batch=64, reduce=predict.everything, inference=True)
    logits, halt = (np.moveaxis(np.asarray(leaf), 0, 1) for leaf in (outputs.logits, outputs.q_halt))
    return Answers(logits, softmax(logits / temperature, axis=-1), expit(halt))


def file_answers(path: Path, inputs: np.ndarray, optimized: bool = True) -> Answers:
    """Answers of a file with all supervision steps, one by one or in batches as it takes them."""
    session = open_session(path, optimized=optimized)
    size = 1 if isinstance(session.get_inputs()[0].shape[0], int) else BATCH
    names = list(Answers._fields)
    parts = [session.run(names, {"inputs": inputs[start : start + size]}) for start in range(0, len(inputs), size)]
    return Answers(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def questions(path: Path, inputs: np.ndarray) -> np.ndarray:
    """The question x that the file for it makes of each input."""
    session = open_session(path)
    return np.concatenate([session.run(["x"], {"inputs": inputs[i : i + 1]})[0] for i in range(len(inputs))])


def step_answers(path: Path, initial: dict[str, np.ndarray], x: np.ndarray, N_sup: int) -> Answers:
    """Answers of a file with a single step, applied N_sup times to each question x (N, ...)."""
    session, answers = open_session(path), []
    for question in x:
        states, steps = initial, []
        for _ in range(N_sup):
            *following, logits, probabilities, halt = session.run(None, {"x": question[None], **states})
            states = dict(zip(initial, following, strict=True))
            steps.append((logits[0], probabilities[0], halt[0]))
        answers.append([np.stack(values) for values in zip(*steps, strict=True)])
    return Answers(*(np.stack(values) for values in zip(*answers, strict=True)))


def adaptive_answers(path: Path, inputs: np.ndarray, threshold: float) -> tuple[Answers, np.ndarray]:
    """Answers (K = 1) of the file that stops by itself, and the steps (N,) that it took."""
    session, limit = open_session(path), np.array(threshold, np.float32)
    names = [*Answers._fields, "steps"]
    parts = [session.run(names, {"inputs": inputs[i : i + 1], "threshold": limit}) for i in range(len(inputs))]
    logits, probabilities, halt, steps = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Answers(logits[:, None], probabilities[:, None], halt[:, None]), steps


def at_steps(answers: Answers, steps: np.ndarray) -> Answers:
    """The answer (K = 1) of each input after so many steps (N,)."""
    rows = np.arange(len(steps))
    return Answers(*(values[rows, steps - 1][:, None] for values in answers))


def compare(answers: Answers, expected: Answers, score: Callable[[np.ndarray], dict[str, float]]) -> Agreement:
    """Compare answers with those expected; ``score`` gives the scores of probabilities (N, ..., classes).

    Raises ValueError if an answer is NaN or infinite.
    """
    require(all(np.isfinite(values).all() for values in answers), "the file answers with NaN or infinite values")
    difference = answers.logits.astype(np.float64) - expected.logits
    last, before = answers.probabilities[:, -1], expected.probabilities[:, -1]
    differs = last.argmax(axis=-1) != before.argmax(axis=-1)
    second, first = np.moveaxis(np.partition(before, -2, axis=-1)[..., -2:], -1, 0)
    return Agreement(
        largest=float(np.abs(difference).max()) / max(1.0, float(np.abs(expected.logits).max())),
        rms=float(np.sqrt((difference**2).mean())),
        other_outputs=max(float(np.abs(a - b).max()) for a, b in zip(answers[1:], expected[1:], strict=True)),
        same=float(1 - differs.mean()),
        lead=float((first - second)[differs].max(initial=0.0)),
        scores=score(last),
    )
