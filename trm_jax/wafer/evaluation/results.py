"""All numbers of the report on one wafer classifier, computed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trm_jax.reporting.interval import Interval
from trm_jax.wafer.evaluation import metrics, pooled
from trm_jax.wafer.evaluation.comparisons import Other, compare
from trm_jax.wafer.evaluation.metrics import BY_CLASS
from trm_jax.wafer.evaluation.pooled import SHARES_BY_SIZE, Pooled
from trm_jax.wafer.evaluation.stored import Fold
from trm_jax.wafer.evaluation.trust import selective
from trm_jax.wafer.evaluation.trust.calibration import RiskCoverage, risk_coverage
from trm_jax.wafer.evaluation.trust.selective import BY_BLOCK, BY_LOT
from trm_jax.wafer.maps.wafers import CLASSES, Wafers

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


@dataclass(frozen=True)
class Check:
    """A target and whether it is met."""

    name: str
    target: str
    measured: str
    passed: bool
    sure: bool
    """Whether the whole interval meets it."""


@dataclass(frozen=True)
class Results:
    """Everything that is computed once and then written, drawn and put into words."""

    rates: dict[str, float]
    """alpha, the error rate allowed among automatic decisions, and delta, the probability that the promise fails."""
    measured: dict[str, Interval]
    together: dict[str, Interval]
    """Accuracy and macro-F1 of all seeds as one classifier, which answers with the mean of their probabilities, and
    what each gains over the seeds' mean score, ``accuracy_gain`` and ``macro_f1_gain``; empty for one seed."""
    confusion: np.ndarray
    """(C, C), wafers of each class (rows) by answer, mean over seeds."""
    steps: pd.DataFrame
    thresholds: pd.DataFrame
    """A row per rule, split and seed, as in `selective.thresholds`."""
    decided: dict[str, dict[str, Interval]]
    """By rule: shares of the test wafers, as in `selective.shares`."""
    by_class: dict[int, dict[str, Interval]]
    """By class: coverage and errors of the rule by lot among its test wafers."""
    by_split: pd.DataFrame
    by_size: pd.DataFrame
    curves: list[RiskCoverage]
    """Of every seed."""
    design_effect: float
    adaptive: pd.DataFrame
    """As in `pooled.adaptive`, and a column ms, NaN where it was not measured."""
    unknown: pd.DataFrame
    compared: dict[str, dict[str, dict[str, Interval]]]
    """By other classifier: its scores ("own") and ours minus its ("difference")."""
    checks: list[Check]


def compute(
    folds: Sequence[Fold],
    wafers: Wafers,
    tested: Pooled,
    rates: Mapping[str, float],
    parameters: int,
    others: Mapping[str, Other],
    left_out: Sequence[Sequence[Fold]] = (),
    milliseconds: Sequence[float] = (),
) -> Results:
    """All numbers. ``left_out`` are folds of runs that did not train on a class; ``milliseconds`` times of a wafer at
    each halting threshold, if they were measured."""
    draws = metrics.resample(len(np.unique(tested.group)))
    measured, counts = pooled.measure(tested, draws), tested.counts(tested.depth)
    thresholds = selective.thresholds(folds, wafers, tested, rates["alpha"], rates["delta"])
    masks = {rule: selective.decided_by(rule, thresholds, folds, tested) for rule in (BY_LOT, BY_BLOCK)}
    decided = {rule: selective.shares(mask, tested, draws) for rule, mask in masks.items()}
    unknown = [selective.unknown(folds, tested)]
    unknown += [selective.unknown(run, pooled.pool(run, wafers)) for run in left_out]
    return Results(
        rates=dict(rates),
        measured=measured,
        together=pooled.together(tested, counts, draws) if len(tested.logits) > 1 else {},
        confusion=counts.confusion.sum(axis=0).mean(axis=0),
        steps=pooled.by_step(tested, draws),
        thresholds=thresholds,
        decided=decided,
        by_class=selective.decided_by_class(masks[BY_LOT], tested, draws),
        by_split=pooled.by_split(folds, tested),
        by_size=pooled.by_size(masks[BY_LOT], tested, wafers, draws),
        curves=[
            risk_coverage(probabilities.max(axis=1), ~wrong)
            for probabilities, wrong in zip(tested.probabilities(tested.depth), tested.wrong(), strict=True)
        ],
        design_effect=selective.design_effect(tested, wafers),
        adaptive=pooled.adaptive(tested, draws).assign(ms=list(milliseconds) or np.nan),
        unknown=pd.concat(unknown, ignore_index=True),
        compared=compare(tested, counts, others, draws),
        checks=readiness(measured, decided[BY_LOT], parameters, rates["alpha"]),
    )


def readiness(
    measured: Mapping[str, Interval], decided: Mapping[str, Interval], parameters: int, alpha: float
) -> list[Check]:
    """The targets, each with what was measured; the error rate of nothing decided meets no target."""
    accuracy, macro, ece = (measured[name] for name in ("accuracy", "macro_f1", "ece_tempered"))
    errors, coverage = decided["errors"], decided["coverage"].value
    decisions = f"{errors} at coverage {coverage:.1%}" if coverage else "nothing is decided"
    met, sure = errors.value <= alpha, errors.high <= alpha
    return [
        Check("Parameters", "below 10,000,000", f"{parameters:,}", parameters < 10_000_000, True),
        Check("Accuracy", "above 0.93", str(accuracy), accuracy.value > 0.93, accuracy.low > 0.93),
        Check("Macro-F1", "above 0.90", str(macro), macro.value > 0.90, macro.low > 0.90),
        Check("ECE, temperature-scaled", "at most 0.03", str(ece), ece.value <= 0.03, ece.high <= 0.03),
        Check(
            "Wrong among automatic decisions",
            f"at most {alpha:g}",
            decisions,
            coverage > 0 and met,
            coverage > 0 and sure,
        ),
    ]


def long_table(results: Results, tested: Pooled) -> pd.DataFrame:
    """Every number: columns part, name, score, value, low, high."""
    rows: list[tuple[str, str, str, float, float, float]] = []

    def add(part: str, name: str, values: Mapping[str, Interval | float]) -> None:
        for score, value in values.items():
            rows.append((part, name, score, *(value if isinstance(value, Interval) else (value, np.nan, np.nan))))

    add("score", "all", results.measured)
    add("score", "all seeds together", results.together)
    mixed = metrics.at_wm811k_prior(results.confusion)
    add(FULL_MIX, "all", {name: float(getattr(mixed, name)) for name in ("accuracy", "macro_f1")})
    for (true, named), number in np.ndenumerate(results.confusion):
        add("confusion", f"labelled {CLASSES[true]}, named {CLASSES[named]}", {"wafers": number})
    for row in results.steps.itertuples():
        add(f"step {row.step}", "all", {row.score: Interval(row.value, row.low, row.high)})
    for rule, shares in results.decided.items():
        add("automatic decisions", rule, shares)
    for label, shares in results.by_class.items():
        add(DECIDED, CLASSES[label], shares)
    for row in results.by_split.to_dict("records"):
        add("split", f"{row['split']}, seed {row['seed']}", {name: row[name] for name in ("accuracy", "macro_f1")})
    for row in results.by_size.to_dict("records"):
        sides = f"{row['smallest']} to {row['largest']} dies a side"
        add("map size", sides, {name: row[name] for name in SHARES_BY_SIZE if row[name] is not None})
    for seed, curve in enumerate(results.curves):
        add("risk-coverage area", f"seed {seed}", {"area": curve.area})
    for row in results.adaptive.to_dict("records"):
        limit = row.pop("halt")
        add("adaptive depth", f"halt {limit:g}", {name: value for name, value in row.items() if not pd.isna(value)})
    for name, parts in results.compared.items():
        for part, scores in parts.items():
            add(f"baseline {part}", name, scores)
    for row in results.unknown.itertuples():
        add(
            "unknown patterns", f"{row.unknown}, from {row.known}, {row.split}, seed {row.seed}", {row.score: row.auroc}
        )
    for (seed, fold), temperature in np.ndenumerate(tested.temperature):
        add("temperature", f"split {fold}, seed {seed}", {"temperature": temperature})
    table = pd.DataFrame(rows, columns=["part", "name", "score", "value", "low", "high"])
    return table.assign(score=table["score"].replace(CLASS_SCORES))


CLASS_SCORES = {f"{score}_{index}": f"{score}_{name}" for score in BY_CLASS for index, name in enumerate(CLASSES)}
"""Names of the scores of each class, as tables write them."""
