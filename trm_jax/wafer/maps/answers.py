"""What the model says about every map of a source, in the source's order: one table, wherever it is made."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trm_jax.support.files import replacing
from trm_jax.wafer.maps.maps import CLASSES, UNKNOWN
from trm_jax.wafer.maps.validate import Loaded


class Decisions(NamedTuple):
    """What follows from probabilities, one entry a wafer."""

    predicted: np.ndarray
    """Index of the most probable class."""
    confidence: np.ndarray
    """Its probability."""
    review: np.ndarray
    """bool, True where a person should look: the confidence is below the threshold, or the threshold is 1."""


class Answer(NamedTuple):
    """What is said about one map; a map that was rejected has no more than a row and a reason."""

    row: int
    decision: str
    """auto, review or rejected."""
    prediction: str = ""
    confidence: float | None = None
    steps: int | None = None
    probabilities: tuple[float, ...] = ()
    label: str = ""
    reason: str = ""


def check_output(path: Path) -> None:
    """Raise ValueError if this cannot be a file: to be asked before an hour of classifying, not after it."""
    folder = path.resolve().parent
    if not folder.is_dir():
        raise ValueError(f"--output: there is no folder {folder}")
    if path.is_dir():
        raise ValueError(f"--output: {path} is a folder; name a file in it")


def decide(probabilities: np.ndarray, review_threshold: float) -> Decisions:
    """Class, confidence and whether to review, of probabilities (N, classes).

    A threshold of 1 says that nothing may be decided, also not where a probability is rounded to 1.
    """
    confidence = probabilities.max(axis=1)
    return Decisions(
        probabilities.argmax(axis=1), confidence, (confidence < review_threshold) | (review_threshold >= 1)
    )


def answers(loaded: Loaded, probabilities: np.ndarray, steps: np.ndarray, review_threshold: float) -> Iterator[Answer]:
    """One answer for every map, also for rejected ones, in the order of the source.

    ``probabilities`` (N, 9) and ``steps`` (N,) belong to ``loaded.wafers``. Raises ValueError if they do not fit, or
    are no numbers.
    """
    count = len(loaded.wafers)
    if probabilities.shape != (count, len(CLASSES)) or steps.shape != (count,):
        raise ValueError(
            f"{count} wafers need probabilities ({count}, {len(CLASSES)}) and steps ({count},), "
            f"got {probabilities.shape} and {steps.shape}"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities have values that are no numbers")
    return _answers(loaded, probabilities, steps, decide(probabilities, review_threshold) if count else None)


def _answers(loaded: Loaded, probabilities: np.ndarray, steps: np.ndarray, made: Decisions | None) -> Iterator[Answer]:
    wafers = loaded.wafers
    # A rejected map stands before the first usable one of a higher row; rows of a source ascend.
    rejected = sorted(loaded.rejected, key=lambda one: one.row)
    places = np.searchsorted(np.maximum.accumulate(wafers.row), [one.row for one in rejected], side="right")
    waiting = iter([*zip(places.tolist(), rejected, strict=True), (len(wafers) + 1, None)])
    place, broken = next(waiting)
    for index in range(len(wafers) + 1):
        while broken is not None and place == index:
            yield Answer(int(broken.row), "rejected", reason=broken.reason)
            place, broken = next(waiting)
        if made is not None and index < len(wafers):
            label = int(wafers.label[index])
            yield Answer(
                row=int(wafers.row[index]),
                decision="review" if made.review[index] else "auto",
                prediction=CLASSES[made.predicted[index]],
                confidence=float(made.confidence[index]),
                steps=int(steps[index]),
                probabilities=tuple(probabilities[index].tolist()),
                label="" if label == UNKNOWN else CLASSES[label],
            )


def write_answers(
    path: Path, loaded: Loaded, probabilities: np.ndarray, steps: np.ndarray, review_threshold: float
) -> None:
    """Write a CSV file with one line a map, whole or not at all; arguments and errors as those of ``answers``.

    Columns: row, prediction, confidence, decision, steps, p_ and the name of each class; then label if any map has one,
    file if each map has its own, and reason if any map was rejected.
    """
    lines = answers(loaded, probabilities, steps, review_threshold)
    labelled, broken = bool((loaded.wafers.label != UNKNOWN).any()), bool(loaded.rejected)
    columns = ["row", "prediction", "confidence", "decision", "steps", *(f"p_{name}" for name in CLASSES)]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns + ["label"] * labelled + ["file"] * bool(loaded.files) + ["reason"] * broken)
        for one in lines:
            shares = [f"{share:.6f}" for share in one.probabilities] or [""] * len(CLASSES)
            confidence = "" if one.confidence is None else f"{one.confidence:.6f}"
            made = [one.row, one.prediction, confidence, one.decision, "" if one.steps is None else one.steps]
            file_of_map = [loaded.files[one.row]] if loaded.files else []
            writer.writerow(made + shares + [one.label] * labelled + file_of_map + [one.reason] * broken)
