"""All numbers of the report on one wafer classifier, computed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from trm_jax.wafer.baselines.report import at_full_mix, ranged
from trm_jax.wafer.evaluation import confidence, metrics, pooled
from trm_jax.wafer.evaluation import groups as wafer_evaluation_groups
from trm_jax.wafer.evaluation.groups import SHARES_BY_SIZE
from trm_jax.wafer.evaluation.metrics import BY_CLASS, GroupCounts, Interval
from trm_jax.wafer.evaluation.pooled import RULES, Answers, Check
from trm_jax.wafer.evaluation.runs import Fold
from trm_jax.wafer.maps.maps import CLASSES, Wafers

SCORES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "balanced_accuracy": "Balanced accuracy",
    "loss": "Cross-entropy, as trained",
    "loss_tempered": "Cross-entropy, temperature-scaled",
    "ece": "ECE, as trained",
    "ece_tempered": "ECE, temperature-scaled",
}
DECIDED, FULL_MIX = "automatic decisions by class", "score at the class mix of all of WM-811K"
"""Parts of the numbers."""
MAIN_RULE, WEAKER_RULE = "guaranteed, by lot", "marginal, by lot"


class Other(NamedTuple):
    """What another classifier answered to M of the N test wafers."""

    probabilities: np.ndarray
    """(M, C) or (S, M, C)."""
    asked: np.ndarray
    """(N,) bool, which of the test wafers they are about."""


@dataclass(frozen=True)
class Results:
    """Everything that is computed once and then written, drawn and put into words."""

    measured: dict[str, Interval]
    confusion: np.ndarray
    """(C, C), wafers of each class (rows) by answer, mean over seeds."""
    steps: pd.DataFrame
    rules: pd.DataFrame
    """A row per rule, split and seed, as in wafer_evaluation.thresholds."""
    decided: dict[str, dict[str, Interval]]
    """By rule: coverage and errors (among the decided) on test wafers."""
    by_class: dict[int, dict[str, Interval]]
    """By class: coverage and errors of the guaranteed rule among its test wafers."""
    by_split: pd.DataFrame
    """A row per split and seed, as in wafer_evaluation_groups.by_split."""
    by_size: pd.DataFrame
    """A row per range of sizes, as in wafer_evaluation_groups.by_size."""
    areas: list[float]
    """Area under the risk-coverage curve of each seed."""
    together: float
    sets: dict[str, Interval]
    adaptive: pd.DataFrame
    unknown: pd.DataFrame
    baselines: dict[str, dict[str, dict[str, Interval]]]
    """By baseline: its scores ("own") and ours minus its ("difference")."""
    checks: list[Check]


def compute(
    folds: Sequence[Fold],
    wafers: Wafers,
    tested: Answers,
    baselines: Mapping[str, Other],
    left_out: Sequence[Sequence[Fold]],
    parameters: int,
    rates: Mapping[str, float],
    milliseconds: Sequence[float] = (),
) -> Results:
    """All numbers. ``left_out`` are folds of runs that did not train on a class; ``rates`` has alpha, delta and sets
    (the error rate of the conformal sets); ``milliseconds`` times of a wafer at each halting threshold, if they were
    measured."""
    draws = metrics.resample(len(np.unique(tested.group)))
    measured, counts = pooled.measure(tested, draws), pooled.counts(tested, tested.depth)
    wrong = tested.probabilities(tested.depth).argmax(axis=-1) != tested.truth
    rules = pooled.thresholds(folds, wafers, tested, rates["alpha"], rates["delta"])
    masks = {rule: pooled.decided(rules, rule, folds, tested) for rule in RULES}
    everything, decided = np.ones_like(wrong), {}
    for rule, chosen in masks.items():
        decided[rule] = {
            "coverage": pooled.share(chosen, everything, tested.group, draws),
            "errors": pooled.share(wrong, chosen, tested.group, draws),
            "wrong": pooled.share(wrong & chosen, everything, tested.group, draws),
        }
    unknown = [pooled.unknown(folds, tested)]
    unknown += [pooled.unknown(others, pooled.pool(others, wafers)) for others in left_out]
    return Results(
        measured,
        counts.confusion.sum(axis=0).mean(axis=0),
        pooled.by_step(tested, draws),
        rules,
        decided,
        wafer_evaluation_groups.decided_by_class(masks[MAIN_RULE], wrong, tested, draws),
        wafer_evaluation_groups.by_split(folds, tested),
        wafer_evaluation_groups.by_size(masks[MAIN_RULE], wrong, tested, wafers, draws),
        [curve.area for curve in curves(tested)],
        pooled.together(tested, wafers),
        _set_scores(folds, wafers, tested, rates["sets"], draws),
        pooled.adaptive(tested, draws).assign(ms=list(milliseconds) or np.nan),
        pd.concat(unknown, ignore_index=True),
        _compared(tested, counts, baselines, draws),
        readiness(measured, decided, parameters, rates["alpha"]),
    )


def curves(tested: Answers) -> list[confidence.RiskCoverage]:
    """Risk-coverage curve of every seed."""
    answers = tested.probabilities(tested.depth)
    return [confidence.risk_coverage(one.max(axis=1), one.argmax(axis=1) == tested.truth) for one in answers]


def _set_scores(
    folds: Sequence[Fold], wafers: Wafers, tested: Answers, alpha: float, draws: np.ndarray
) -> dict[str, Interval]:
    """How often conformal sets hold the labelled class, how large they are, and how many hold exactly one class."""
    found = pooled.sets(folds, wafers, tested, alpha)
    size, everything = found.sum(axis=-1), np.ones(found.shape[:2], bool)
    covered = np.take_along_axis(found, tested.truth[None, :, None], axis=2)[..., 0]
    return {
        "coverage": pooled.share(covered, everything, tested.group, draws),
        "one class": pooled.share(size == 1, everything, tested.group, draws),
        "empty": pooled.share(size == 0, everything, tested.group, draws),
        "size": Interval(float(size.mean()), np.nan, np.nan),
    }


def _compared(
    tested: Answers, whole: GroupCounts, others: Mapping[str, Other], draws: np.ndarray
) -> dict[str, dict[str, dict[str, Interval]]]:
    """Scores of every other classifier, and ours minus its; ``whole`` are our counts on all test wafers."""
    groups, compared = np.unique(tested.group), {}
    for name, other in others.items():
        group = tested.group[other.asked]
        # Splits keep groups whole, so the counts of the wafers asked about are those of their groups.
        ours = GroupCounts(*(part[np.isin(groups, group)] for part in whole))
        theirs = metrics.count(tested.truth[other.asked], other.probabilities, group)
        own = draws if other.asked.all() else metrics.resample(len(np.unique(group)))
        compared[name] = {
            "own": metrics.with_intervals(theirs, own),
            "difference": metrics.difference(ours, theirs, own),
        }
    return compared


def readiness(
    measured: Mapping[str, Interval], decided: Mapping[str, Mapping[str, Interval]], parameters: int, alpha: float
) -> list[Check]:
    """The targets, each with what was measured; the error rate of nothing decided meets no target."""
    accuracy, macro, ece = (measured[name] for name in ("accuracy", "macro_f1", "ece_tempered"))
    checks = [
        Check("Parameters", "below 10,000,000", f"{parameters:,}", parameters < 10_000_000, True),
        Check("Accuracy", "above 0.93", ranged(accuracy), accuracy.value > 0.93, accuracy.low > 0.93),
        Check("Macro-F1", "above 0.90", ranged(macro), macro.value > 0.90, macro.low > 0.90),
        Check("ECE, temperature-scaled", "at most 0.03", ranged(ece), ece.value <= 0.03, ece.high <= 0.03),
    ]
    for name, rule, score in (
        ("Wrong among automatic decisions, guaranteed rule", MAIN_RULE, "errors"),
        ("Decided and wrong, of all, marginal conformal rule", WEAKER_RULE, "wrong"),
    ):
        found, some = decided[rule][score], decided[rule]["coverage"].value > 0
        told = f"{ranged(found)} at coverage {decided[rule]['coverage'].value:.1%}" if some else "nothing is decided"
        passed, sure = some and found.value <= alpha, some and found.high <= alpha
        checks.append(Check(name, f"at most {alpha:g}", told, passed, sure))
    return checks


def long_table(results: Results, tested: Answers) -> pd.DataFrame:
    """Every number: columns part, name, score, value, low, high."""
    rows: list[tuple[Any, ...]] = [("score", "all", name, *one) for name, one in results.measured.items()]
    mixed = at_full_mix(results.confusion)
    rows += [(FULL_MIX, "all", name, float(getattr(mixed, name))) for name in ("accuracy", "macro_f1")]
    rows += [
        ("confusion", f"labelled {CLASSES[true]}, named {CLASSES[named]}", "wafers", number)
        for (true, named), number in np.ndenumerate(results.confusion)
    ]
    rows += [(f"step {row.step}", "all", row.score, row.value, row.low, row.high) for row in results.steps.itertuples()]
    for rule, found in results.decided.items():
        rows += [("automatic decisions", rule, name, *one) for name, one in found.items()]
    rows += [
        (DECIDED, CLASSES[label], name, *one)
        for label, found in results.by_class.items()
        for name, one in found.items()
    ]
    rows += [
        ("split", f"{row.split}, seed {row.seed}", name, getattr(row, name))
        for row in results.by_split.itertuples()
        for name in ("accuracy", "macro_f1")
    ]
    rows += [
        ("map size", f"{row['smallest']} to {row['largest']} dies a side", name, *row[name])
        for row in results.by_size.to_dict("records")
        for name in SHARES_BY_SIZE
        if row[name] is not None
    ]
    rows += [("conformal sets", "all", name, *one) for name, one in results.sets.items()]
    rows += [("risk-coverage area", f"seed {seed}", "area", area) for seed, area in enumerate(results.areas)]
    for row in results.adaptive.to_dict("records"):
        name = f"halt {row['halt']:g}"
        rows += [("adaptive depth", name, key, row[key]) for key in ("steps", "ms") if row[key] > 0]
        rows += [("adaptive depth", name, key, *one) for key, one in row.items() if isinstance(one, Interval)]
    for name, parts in results.baselines.items():
        for part, found in parts.items():
            rows += [(f"baseline {part}", name, score, *one) for score, one in found.items()]
    rows += [
        ("unknown patterns", f"{row.unknown}, from {row.known}, {row.split}, seed {row.seed}", row.score, row.auroc)
        for row in results.unknown.itertuples()
    ]
    rows += [
        ("temperature", f"split {fold}, seed {seed}", "temperature", value)
        for (seed, fold), value in np.ndenumerate(tested.temperature)
    ]
    padded = [(*row, np.nan, np.nan)[:6] for row in rows]  # what has no interval
    table = pd.DataFrame(padded, columns=["part", "name", "score", "value", "low", "high"])
    names = {f"{score}_{i}": f"{score}_{title}" for score in BY_CLASS for i, title in enumerate(CLASSES)}
    return table.assign(score=table["score"].replace(names))
