"""Shipped weights adapted to the labelled wafers of a fab, and whether that made any class worse on lots held out."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax

from trm_jax.reporting.markdown import table
from trm_jax.support.schema import require
from trm_jax.training.loop import fit
from trm_jax.wafer.checkpoint import CARD, REFERENCE, Calibration, Classifier, save_checkpoint
from trm_jax.wafer.classify import classify
from trm_jax.wafer.evaluation.metrics import seed_scores
from trm_jax.wafer.maps.answers import decide, plain_cell
from trm_jax.wafer.maps.validate import NAMES, ReadResult
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN, Wafers, class_index
from trm_jax.wafer.presets import PRIOR
from trm_jax.wafer.splits import Split, deal
from trm_jax.wafer.task import take_seed

FEWEST = 200
"""Labelled wafers from which on a model is adapted."""
FROZEN = ("stem", "net")
"""The convolutions and layers in the weights, which stay as they are."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How far to go from the weights of the checkpoint to the trained ones; validation chooses."""
MARGIN = 0.01
"""Macro-F1 on validation that is not worth moving further for: products that a fab did not label pay for every move."""


@dataclass(frozen=True)
class Measured:
    """Answers to the held-out wafers."""

    f1: np.ndarray
    """(classes,)"""
    macro_f1: float
    decided: float
    """Share that is decided automatically."""
    wrong: float
    """Share of the decided that is wrong; 0 where nothing is decided."""


class Adapted(NamedTuple):
    """An average of two classifiers' weights, chosen among some."""

    classifier: Classifier
    share: float
    """How far it lies from the first to the second; 0 where training gained nothing."""
    scores: tuple[float, ...]
    """Macro-F1 on validation of each of SHARES."""


def labelled(read: ReadResult, path: Path) -> Wafers:
    """The wafers of a source with the labels of a CSV file: columns ``row`` and ``label``, and the names of the maps.

    The last line of a map counts, and one without a label takes it back; maps without a line keep the label of the
    source. Raises ValueError for a file of other maps, and for a label that is no class.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    columns = set(lines[0]) if lines else set()
    require({"row", "label"} <= columns, f"--labels {path}: it has no lines with the columns row and label")
    place = {int(row): index for index, row in enumerate(read.wafers.row)}
    label = read.wafers.label.copy()
    for number, line in enumerate(lines, 2):
        row = int(line["row"]) if (line["row"] or "").isdecimal() else -1
        names = {kind: plain_cell(read.names[kind][row]) for kind in NAMES if kind in read.names and row in place}
        same = all(line.get(kind, name) == name for kind, name in names.items())
        require(row in place and same, f"--labels {path}, line {number}: row {line['row']} is another map of --input")
        try:
            label[place[row]] = class_index(line["label"] or "")
        except ValueError as error:
            raise ValueError(f"--labels {path}, line {number}: {error}") from None
    return replace(read.wafers, label=label)


def split_lots(wafers: Wafers, held_out: int = 0) -> Split:
    """A quarter of the lots to test, number ``held_out`` of four, the next to choose the weights, the rest to train on.

    Raises ValueError for fewer than four lots with labels, or fewer than FEWEST wafers with labels.
    """
    usable = np.flatnonzero((wafers.label != UNKNOWN) & wafers.clean)
    few = f"{len(usable)} labelled wafers are too few to adapt to; from {FEWEST} on it can help"
    require(len(usable) >= FEWEST, few)
    part = (deal(wafers.label[usable], wafers.group[usable], 4, 0) - held_out) % 4
    return Split("fab", usable[part > 1], usable[part == 1], usable[part == 0])


def options(steps: int, learning_rate: float, wafers: int) -> dict[str, Any]:
    """Options of a short training on so many wafers."""
    chunk = min(25, steps)
    return {
        "run.steps": steps, "run.batch": min(64, wafers), "run.chunk": chunk, "run.evaluate_every": 2 * chunk,
        "run.checkpoint_every": chunk * -(-steps // chunk), "optim.warmup": min(20, steps // 4), "optim.ema": 0.98,
        "optim.learning_rate": learning_rate,
    }  # fmt: skip


def adapt(
    classifier: Classifier, weights: Path, wafers: Wafers, split: Split, options: Mapping[str, Any], directory: Path
) -> Classifier:
    """The classifier after training on ``split``, beginning with the checkpoint ``weights``; the best on validation.

    All but the read-out stays bitwise: the score of unlike maps looks at what the convolutions see, and trained on some
    products of a fab they would forget those that it does not have.
    """
    given = {
        "run.init": str(weights), "run.seeds": (0,), "recursion.curriculum_fraction": 0.0, "optim.frozen": FROZEN,
        "loss.distillation": 1.0,
    }  # fmt: skip
    config = classifier.config.override(**given, **options)
    used = np.concatenate([split.train, split.validation])
    # Logits that were moved towards common classes are those of a net that drew them the more often. Drawn otherwise,
    # training would first of all move them back, and name rare classes where it learned nothing.
    task = replace(classifier.task, balance=min(1.0, classifier.task.balance + PRIOR))
    grids = task.grids_of(config, wafers, used)
    targets = np.zeros((len(wafers), len(CLASSES)), np.float32)
    targets[split.train] = corrected(classifier, wafers.take(split.train))
    adapting = replace(task, grids=grids, labels=wafers.label, soft_targets=targets, split=split)
    trained = fit(adapting, config, directory, "adapting")
    params = take_seed(trained.best.params)
    kept = {name: classifier.params[name] for name in FROZEN}  # their average over the training has roundings
    return classifier._replace(params=params | kept)


def corrected(classifier: Classifier, wafers: Wafers) -> np.ndarray:
    """Probabilities (N, classes) to learn: those of the classifier where it agrees with the label, else the label.

    What it knows then asks for no change of the weights: only what it gets wrong does (after Li and Hoiem 2016,
    Learning without Forgetting).
    """
    said = classify(classifier._replace(calibration=Calibration()), wafers).probabilities
    agrees = said.argmax(axis=1) == wafers.label
    return np.where(agrees[:, None], said, np.eye(len(CLASSES), dtype=np.float32)[wafers.label])


def averaged(classifier: Classifier, trained: Classifier, wafers: Wafers, split: Split) -> Adapted:
    """Of the weights between two classifiers' the nearest to the first that is within MARGIN of the best on validation.

    Averages keep what the first knew and the wafers of the second do not show (Wortsman et al. 2022, WiSE-FT, eq. 1).
    """
    candidates = [
        classifier._replace(params=optax.incremental_update(trained.params, classifier.params, share))
        for share in SHARES
    ]
    scores = tuple(measure(one, wafers, split.validation).macro_f1 for one in candidates)
    nearest = next(number for number, score in enumerate(scores) if score >= max(scores) - MARGIN)
    return Adapted(candidates[nearest], SHARES[nearest], scores)


def measure(classifier: Classifier, wafers: Wafers, index: np.ndarray) -> Measured:
    """What a classifier says about the wafers ``index``, which it must not have learned from."""
    answers, truth = classify(classifier, wafers.take(index)), wafers.label[index].astype(np.int64)
    decisions = decide(answers.probabilities, classifier.calibration.thresholds)
    scores = seed_scores(truth, decisions.predicted[None], len(CLASSES))
    decided = ~decisions.review if answers.unlike is None else ~decisions.review & (answers.unlike <= 0)
    wrong = (decisions.predicted != truth)[decided].mean() if decided.any() else 0.0
    return Measured(scores.f1[0], float(scores.macro_f1[0]), float(decided.mean()), float(wrong))


def report(before: Measured, after: Measured, adapted: Adapted, wafers: Wafers, split: Split) -> str:
    """Markdown: how the weights were chosen, F1 of each class on held-out wafers before and after, what is decided."""
    truth = wafers.label[split.test]
    counts = np.bincount(truth, minlength=len(CLASSES))
    rows = [
        (CLASSES[kind], int(counts[kind]), f"{before.f1[kind]:.3f}", f"{after.f1[kind]:.3f}")
        for kind in np.flatnonzero(counts)
    ]
    ways = ", ".join(f"{score:.3f} at {share:.0%}" for share, score in zip(SHARES, adapted.scores, strict=True))
    return (
        f"{len(split.train):,} wafers trained, {len(split.validation):,} chose the weights, {len(truth):,} of "
        f"{len(np.unique(wafers.group[split.test]))} lots were held out.\n\n"
        f"Macro-F1 on the wafers that choose, on the way from the weights of the checkpoint to the trained ones: "
        f"{ways}. Taken: {adapted.share:.0%}.\n\n"
        f"{table(['Class', 'Held out', 'F1 before', 'F1 after'], rows)}\n\n"
        f"Macro-F1 {before.macro_f1:.3f} before, {after.macro_f1:.3f} after; decided {before.decided:.1%}, "
        f"{after.decided:.1%}; of the decided wrong {before.wrong:.1%}, {after.wrong:.1%}."
    )


def refusal(adapted: Adapted, before: Measured, after: Measured, truth: np.ndarray, tolerance: float) -> str:
    """Why the weights should not replace those they began with, or nothing.

    Nothing was gained on validation, or F1 of a class fell by more than ``tolerance`` on the held-out wafers, of
    classes ``truth``.
    """
    if not adapted.share:
        return f"no more than {MARGIN} of macro-F1 is gained; label more wafers that the checkpoint gets wrong"
    lost = [CLASSES[kind] for kind in np.unique(truth) if after.f1[kind] < before.f1[kind] - tolerance]
    return f"worse than before for {', '.join(lost)}; label more of these" if lost else ""


def save(
    output: Path, adapted: Classifier, checkpoint: Path, measured: str, source: str, replace: bool = False
) -> None:
    """Write the checkpoint, with the card and the monitoring reference of the one it began with."""
    card, known = ((checkpoint / name).read_text(encoding="utf-8") for name in (CARD, REFERENCE))
    text = f"{card}\n## Adapted to {source}\n\n{measured}\n\nThresholds are those of the weights it began with.\n"
    save_checkpoint(output, adapted, text, json.loads(known), replace)
