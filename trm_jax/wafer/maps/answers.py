"""What the model says about every map of a source, in the source's order: one table, wherever it is made."""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from trm_jax.support.files import replacing
from trm_jax.wafer.maps.validate import NAMES, ReadResult
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN

Thresholds = float | tuple[float, ...]
"""Confidence below which a wafer is for review: of all classes, or of each predicted class."""
Doubts = Mapping[int, str]
"""Why a person should look at a wafer, by its position."""
NO_DOUBTS: Doubts = MappingProxyType({})
ALWAYS = "answers of this class are always reviewed: no promise can be made for them"
"""Reason for a review where the threshold of the predicted class is 1."""
LARGEST = 8
"""Clusters that are shown to people."""
BROKEN_MAPS = 3
"""Exit code of a command that has answered, but could not read every map."""


class Decisions(NamedTuple):
    """What follows from probabilities, one entry a wafer."""

    predicted: np.ndarray
    """Index of the most probable class."""
    confidence: np.ndarray
    """Its probability."""
    review: np.ndarray
    """bool, True where a person should look: the map is doubted, its confidence below the threshold, or that is 1."""
    always: np.ndarray
    """bool, True where the threshold is 1: the answers of this class are always reviewed."""


class Answer(NamedTuple):
    """What is said about one map; one that was rejected has no more than a row and a reason."""

    row: int
    decision: str
    """auto, review or rejected."""
    prediction: str = ""
    confidence: float | None = None
    steps: int | None = None
    unlike: float | None = None
    """How unlike the map is to those trained on; above 0 it is for review."""
    cluster: int = 0
    """Which of the groups of unlike maps it is in, from 1 for the largest on; 0 for none."""
    probabilities: tuple[float, ...] = ()
    label: str = ""
    reason: str = ""


def decide(probabilities: np.ndarray, review_threshold: Thresholds, doubts: Doubts = NO_DOUBTS) -> Decisions:
    """Class, confidence and whether to review, of probabilities (N, classes).

    ``review_threshold`` is one for all classes, or one for each predicted class. A threshold of 1 says that nothing may
    be decided, also not where a probability is rounded to 1. What has a reason in ``doubts``, by its position, is for
    review however sure the model is.
    """
    confidence = probabilities.max(axis=1)
    predicted = probabilities.argmax(axis=1)
    limit = np.broadcast_to(review_threshold, probabilities.shape[1])[predicted]
    review = (confidence < limit) | (limit >= 1)
    review[list(doubts)] = True
    return Decisions(predicted, confidence, review, limit >= 1)


def answers(
    read: ReadResult,
    probabilities: np.ndarray,
    steps: np.ndarray,
    review_threshold: Thresholds,
    doubts: Doubts = NO_DOUBTS,
    unlike: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
) -> Iterator[Answer]:
    """One answer for every map, also for rejected ones, in the order of the source.

    ``probabilities`` (N, 9), ``steps``, ``unlike`` and ``cluster`` (N,) and the positions in ``doubts`` belong to
    ``read.wafers``. Raises ValueError if they do not fit, or are NaN.
    """
    count = len(read.wafers)
    if probabilities.shape != (count, len(CLASSES)) or steps.shape != (count,):
        raise ValueError(
            f"{count} wafers need probabilities ({count}, {len(CLASSES)}) and steps ({count},), "
            f"got {probabilities.shape} and {steps.shape}"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities have values that are NaN or infinite")
    decisions = decide(probabilities, review_threshold, doubts) if count else None
    wafers = read.wafers

    def answer(index: int) -> Answer:
        assert decisions is not None
        label = int(wafers.label[index])
        return Answer(
            row=int(wafers.row[index]),
            decision="review" if decisions.review[index] else "auto",
            prediction=CLASSES[decisions.predicted[index]],
            confidence=float(decisions.confidence[index]),
            steps=int(steps[index]),
            unlike=None if unlike is None else float(unlike[index]),
            cluster=0 if cluster is None else int(cluster[index]),
            probabilities=tuple(probabilities[index].tolist()),
            label="" if label == UNKNOWN else CLASSES[label],
            reason=doubts.get(index, ALWAYS if decisions.always[index] else ""),
        )

    return _in_order(read, answer)


def _in_order(read: ReadResult, answer: Callable[[int], Answer]) -> Iterator[Answer]:
    """The answers to usable maps, and between them the rejected ones."""
    wafers = read.wafers
    # A rejected map stands before the first usable one of a higher row; rows of a source ascend.
    rejected = sorted(read.rejected, key=lambda entry: entry.row)
    places = np.searchsorted(np.maximum.accumulate(wafers.row), [entry.row for entry in rejected], side="right")
    waiting = iter([*zip(places.tolist(), rejected, strict=True), (len(wafers) + 1, None)])
    place, broken = next(waiting)
    for index in range(len(wafers) + 1):
        while broken is not None and place == index:
            yield Answer(int(broken.row), "rejected", reason=broken.reason)
            place, broken = next(waiting)
        if index < len(wafers):
            yield answer(index)


def summary(
    read: ReadResult,
    probabilities: np.ndarray,
    review_threshold: Thresholds,
    doubts: Doubts = NO_DOUBTS,
    cluster: np.ndarray | None = None,
) -> str:
    """What was found, in a few lines for a terminal: classes, maps to review, broken ones with the first reason."""
    decisions = decide(probabilities, review_threshold, doubts) if len(read.wafers) else None
    lines = []
    for name, wanted in (("decided", False), ("to review", True)):
        found = decisions.predicted[decisions.review == wanted] if decisions else np.zeros(0, int)
        lines.append(f"{name + ':':11}{_counted(found)}")
    if decisions and decisions.always.any():
        lines.append(
            f"{'of these:':11}{_counted(decisions.predicted[decisions.always])} always, no promise can be made for them"
        )
    reason = f", the first: {read.first_reason}" if read.rejected else ""
    if doubts:
        lines.append(f"{'doubted:':11}{len(doubts):,}, the first: {doubts[min(doubts)]}")
    if cluster is not None and cluster.any():
        sizes = ", ".join(f"{size:,}" for size in np.bincount(cluster)[1:][:LARGEST])
        lines.append(f"{'clusters:':11}{cluster.max():,} of unlike maps that are like each other; the largest: {sizes}")
    lines.append(f"{'broken:':11}{len(read.rejected):,}{reason}")
    return "\n".join([*lines, *(f"{'note:':11}{note}" for note in read.notes)])


def _counted(predicted: np.ndarray) -> str:
    """How many wafers, and of which classes, the most frequent first."""
    counts = np.bincount(predicted, minlength=len(CLASSES))
    kinds = ", ".join(f"{CLASSES[kind]} {counts[kind]:,}" for kind in np.argsort(-counts) if counts[kind])
    return f"{len(predicted):,}{' (' + kinds + ')' if kinds else ''}"


def write_answers(
    path: Path,
    read: ReadResult,
    probabilities: np.ndarray,
    steps: np.ndarray,
    review_threshold: Thresholds,
    doubts: Doubts = NO_DOUBTS,
    unlike: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
) -> None:
    """Write a CSV file with one line a map, whole or not at all; arguments and errors as those of ``answers``.

    Columns: file, lot, wafer and index as far as the source has them; row, prediction, confidence, decision, steps,
    unlike and cluster if they are known, p_ and the name of each class; then label if any map has one, and reason if
    any map was rejected or doubted, or a class is always reviewed. A file that exists is replaced: see `check_file`.
    """
    lines = answers(read, probabilities, steps, review_threshold, doubts, unlike, cluster)
    labelled = bool((read.wafers.label != UNKNOWN).any())
    explained = bool(read.rejected or doubts or np.max(review_threshold) >= 1)
    names = [read.names[kind] for kind in NAMES if kind in read.names]
    columns = ["row", "prediction", "confidence", "decision", "steps"] + ["unlike"] * (unlike is not None)
    columns += ["cluster"] * (cluster is not None)
    columns += [f"p_{name}" for name in CLASSES]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        known = [kind for kind in NAMES if kind in read.names]
        writer.writerow(known + columns + ["label"] * labelled + ["reason"] * explained)
        for line in lines:
            shares = [f"{share:.6f}" for share in line.probabilities] or [""] * len(CLASSES)
            confidence = "" if line.confidence is None else f"{line.confidence:.6f}"
            cells = [line.row, line.prediction, confidence, line.decision, "" if line.steps is None else line.steps]
            cells += [] if unlike is None else ["" if line.unlike is None else f"{line.unlike:.3f}"]
            cells += [] if cluster is None else [line.cluster or ""]
            called = [plain_cell(name[line.row]) for name in names]
            writer.writerow(called + cells + shares + [line.label] * labelled + [plain_cell(line.reason)] * explained)


def plain_cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula: an apostrophe before what could begin one."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
