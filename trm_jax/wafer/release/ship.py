"""From runs on all lots to a checkpoint that ships: the best seed or all together, calibrated, with a model card."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import default_options
from trm_jax.edge.monitor import MIN_LOTS, reference
from trm_jax.reporting.interval import Interval
from trm_jax.reporting.page import template
from trm_jax.support.files import read_json
from trm_jax.support.provenance import provenance
from trm_jax.support.schema import require
from trm_jax.training.run_directory import filled, read_config
from trm_jax.wafer.checkpoint import Calibration, Classifier, joined, load_classifier
from trm_jax.wafer.evaluation import metrics, stored
from trm_jax.wafer.evaluation.metrics import WM811K_LABELLED, WM811K_NONE
from trm_jax.wafer.evaluation.pooled import Pooled, lots, pool
from trm_jax.wafer.evaluation.results import DECIDED, FULL_MIX, SCORES
from trm_jax.wafer.evaluation.trust.cross_fit import CrossFitted, fit_decisions, of_folds
from trm_jax.wafer.evaluation.trust.risk_control import Promise
from trm_jax.wafer.maps.plausible import measure
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.splits import Split, all_lots, folds

SHOWN = ("accuracy", "macro_f1", "balanced_accuracy", "ece_tempered")


@dataclass(frozen=True)
class Candidate:
    """What is to ship, and all that its card and its monitoring reference are computed from."""

    classifier: Classifier
    wafers: Wafers
    split: Split
    answers: stored.Predicted
    """To the validation wafers, of what ships alone."""
    promise: Promise
    trained: Config
    recipe: dict[str, Any]
    """How it was trained, as `wafer_evaluate.py` writes it."""
    seeds: tuple[int, ...]
    """The seed with the highest macro-F1 on validation, or those of all nets that answer together."""
    tried: int
    """Seeds that were trained: among them it was chosen, or together they ship."""
    update: int | None
    """Update of the best weights of one seed, None if the training did not record it."""
    macro_f1: float
    accuracy: float
    crossed: CrossFitted | None
    """What it was calibrated with; None where the wafers that chose the weights had to do."""


def candidate_of(
    runs: Sequence[Path], wafers: Wafers, promise: Promise, cross: Sequence[Path] = (), together: bool = False
) -> Candidate:
    """What ships of runs of ``wafer_train.py --all-lots`` of one recipe: the best seed, or all of them ``together``.

    Calibrated on the test wafers of ``cross``, cross-validations of the same recipe with one seed or several (together:
    with as many); without them on the wafers that chose the weights, which flatters, and with one threshold for all
    classes. Raises ValueError where a run is not complete, or of other wafers or recipes.
    """
    split = all_lots(wafers)
    trained = trained_on_all(runs, split)
    recipe, config = trained[0].recipe, trained[0].config
    answers = reduce(stored.stack, [one.answers for one in trained])
    if together:
        require(len(trained) > 1, "one seed cannot answer together: name runs of other seeds too")
        answers = stored.answers_together(answers)
        recipe = stored.recipe(config.override(**{"model.members": len(trained)}), trained[0].prediction_options)
    logits = answers.logits[:, config.recursion.N_sup - 1]
    scores = metrics.seed_scores(wafers.label[answers.index], logits.argmax(axis=-1), len(CLASSES))
    best = int(scores.macro_f1.argmax())
    crossed = None
    if cross:
        pooled = tested_folds(cross, wafers, trained[0].recipe, len(trained) if together else 1)
        crossed = of_folds(pooled, wafers, promise)
    calibration = calibrated(crossed, logits[best], wafers, split, promise)
    chosen = trained if together else trained[best : best + 1]
    nets = [load_classifier(one.weights, calibration) for one in chosen]
    return Candidate(
        classifier=joined(nets) if together else nets[0],
        wafers=wafers,
        split=split,
        answers=answers.of_seed(best),
        promise=promise,
        trained=config,
        recipe=recipe,
        seeds=tuple(one.seed for one in chosen),
        tried=len(trained),
        update=chosen[0].update if len(chosen) == 1 else None,
        macro_f1=float(scores.macro_f1[best]),
        accuracy=float(scores.accuracy[best]),
        crossed=crossed,
    )


def calibrated(
    crossed: CrossFitted | None, logits: np.ndarray, wafers: Wafers, split: Split, promise: Promise
) -> Calibration:
    """What was fitted on folds, or else on the logits (N, C) for the validation wafers, with one threshold."""
    if crossed:
        return Calibration(crossed.temperature, crossed.threshold, crossed.limits, dies_range(wafers))
    truth, units = wafers.label[split.validation].astype(np.int64), lots(wafers, split.validation)
    temperature, threshold = fit_decisions(logits, truth, units, promise.alpha, promise.delta)
    return Calibration(temperature, threshold, (), dies_range(wafers))


class Trained(NamedTuple):
    """A seed that was trained on all lots."""

    seed: int
    config: Config
    prediction_options: dict[str, Any]
    answers: stored.Predicted
    """To the validation wafers, of this seed alone."""
    weights: Path
    update: int | None
    """Update of its best weights, None if the training did not record it."""

    @property
    def recipe(self) -> dict[str, Any]:
        """How it was trained, as `wafer_evaluate.py` writes it."""
        return stored.recipe(self.config, self.prediction_options)


def trained_on_all(runs: Sequence[Path], split: Split) -> list[Trained]:
    """The seeds of runs on this split of all lots.

    Raises ValueError where they are of other wafers, differ in more than their seeds, or have one in common.
    """
    found: list[Trained] = []
    for run in runs:
        directory = run / "all-lots"
        answers = stored.load_predicted(directory / "validation.npz")
        same = np.array_equal(answers.index, split.validation)
        require(same, f"{directory} was trained on other wafers; give --data")
        config, task = read_config(directory)
        options = stored.read_prediction_options(run / "wafers.json") | {"task": task}
        curve = stored.read_curve(directory / "metrics.jsonl")
        for number, seed in enumerate(config.run.seeds):
            update, weights = stored.best_update(curve, number), directory / f"weights-{seed}"
            found.append(Trained(seed, config, options, answers.of_seed(number), weights, update))
            require(found[-1].recipe == found[0].recipe, f"{run} is of another recipe than {runs[0]}")
    seeds = [one.seed for one in found]
    require(len(set(seeds)) == len(seeds), f"the runs must have seeds of their own, got {seeds}")
    return found


def tested_folds(runs: Sequence[Path], wafers: Wafers, how: dict[str, Any] | None = None, members: int = 1) -> Pooled:
    """The test wafers of all folds of runs of one recipe, the answers of all their seeds.

    With several ``members`` the seeds, which must be as many, answer as one. Raises ValueError where a fold is missing,
    a seed is there twice, or the recipe is not ``how``.
    """
    splits, found = folds(wafers), []
    for run in runs:
        part = stored.read_run(run, wafers, splits)
        require(len(part) == len(splits), f"{run} has {len(part)} of {len(splits)} folds; calibration needs them all")
        same = how is None or stored.recipe(part[0].config, part[0].prediction_options) == how
        require(same, f"{run} is of another recipe than what ships; its calibration says nothing")
        found.append(part)
    joined_folds = stored.join_runs(found)
    if members > 1:
        seeds = joined_folds[0].config.run.seeds
        require(len(seeds) == members, f"{members} nets answer together: --folds must have as many seeds, not {seeds}")
        joined_folds = stored.as_members(joined_folds)
    return pool(joined_folds, wafers)


def dies_range(wafers: Wafers) -> tuple[float, float]:
    """Fewest and most dies of maps that are like those trained on: all but the smallest of 2,000."""
    dies = measure(wafers).dies
    return float(np.quantile(dies, 5e-4, method="lower")), float(dies.max())


def drift_reference(candidate: Candidate, threshold: float | None) -> dict[str, Any]:
    """What the device compares its wafers with: the validation wafers and the answers to them; empty for few lots.

    ``threshold`` is the halting probability above which the device will stop early, None if it never does.
    """
    answers, calibration = candidate.answers, candidate.classifier.calibration
    units = lots(candidate.wafers, answers.index)
    if len(np.unique(units)) < MIN_LOTS:
        print(f"no monitoring reference: validation has {len(np.unique(units))} lots, {MIN_LOTS} are needed")
        return {}
    last = stored.stopped_at(answers.halt[0, : candidate.trained.recursion.N_sup], threshold)
    logits = answers.logits[0, last, np.arange(len(answers.index))]
    shown = replace(candidate.wafers.take(answers.index), group=units)
    probabilities = softmax(logits / calibration.temperature, axis=1)
    return reference(shown, probabilities, last + 1, calibration.review_threshold)


def read_evaluation(directory: Path, candidate: Candidate) -> dict[str, Any]:
    """What wafer_evaluate.py wrote. Raises ValueError for another recipe than the candidate's."""
    path = directory / "results.json"
    require(path.is_file(), f"{directory} is not a folder of wafer_evaluate: it has no results.json")
    evaluated = read_json(path)
    defaults = default_options(candidate.classifier.task)  # of options that did not exist when it was evaluated
    same = filled(evaluated.get("recipe", {}), defaults) == filled(candidate.recipe, defaults)
    how = "; nets that ship together are evaluated with --together" if len(candidate.seeds) > 1 else ""
    require(same, f"{directory} is of another recipe than --run{how}; its scores say nothing")
    return evaluated


def model_card(title: str, candidate: Candidate, evaluated: dict[str, Any], notice: str) -> str:
    """The model card of a checkpoint with this title.

    ``evaluated`` is the cross-validation of the same recipe, empty without one; ``notice`` that of the data.
    """
    config, params = candidate.classifier.config, candidate.classifier.params
    numbers = {
        (row["part"], row["name"], row["score"]): Interval(row["value"], row["low"], row["high"])
        for row in evaluated.get("numbers", [])
    }
    classes: list[tuple[object, ...]] = []
    for name in CLASSES:
        keys = [("score", "all", f"{score}_{name}") for score in metrics.BY_CLASS]
        keys += [(DECIDED, name, score) for score in ("coverage", "errors")]
        classes.append((name, *(numbers.get(key, "") for key in keys)))
    limits = candidate.classifier.calibration.class_thresholds
    counts = np.bincount(candidate.wafers.label[candidate.split.train], minlength=len(CLASSES))
    return template("trm_jax.wafer.release", "model_card.md").render(
        **vars(candidate),
        title=title,
        always=[name for name, limit in zip(CLASSES, limits, strict=False) if limit == 1],
        evaluated=evaluated,
        scores=[(SCORES[name], numbers[key]) for name in SHOWN if (key := ("score", "all", name)) in numbers],
        classes=classes,
        mixed=[numbers[key].value for name in ("accuracy", "macro_f1") if (key := (FULL_MIX, "all", name)) in numbers],
        none_share=100 * WM811K_NONE / WM811K_LABELLED,
        parameters=model.count_parameters(config.model, params),
        gflop=model.forward_flops(config, params, inference=True) / 1e9,
        rare=", ".join(f"{CLASSES[index]} {counts[index]:,}" for index in np.argsort(counts)[:3]),
        notice=notice,
        made=provenance(),
    )
