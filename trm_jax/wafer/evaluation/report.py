"""The report on one wafer classifier: results.csv, results.json, report.md, report.html and figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trm_jax.reporting import page
from trm_jax.reporting.interval import Interval
from trm_jax.reporting.markdown import table
from trm_jax.support.files import write_text
from trm_jax.wafer.evaluation import figures, metrics
from trm_jax.wafer.evaluation.pooled import SHARES_BY_SIZE, Pooled
from trm_jax.wafer.evaluation.results import SCORES, Check, Results, long_table
from trm_jax.wafer.evaluation.stored import Fold, recipe
from trm_jax.wafer.evaluation.trust.selective import BY_LOT, KNOWN
from trm_jax.wafer.maps.wafers import CLASSES, NONE, Wafers
from trm_jax.wafer.splits import Split

FREE = 0.005
"""Loss of macro-F1 that stopping early may cost where it is called free."""


def write_report(
    directory: Path,
    results: Results,
    folds: Sequence[Fold],
    wafers: Wafers,
    pooled: Pooled,
    provenance: Mapping[str, str],
) -> str:
    """Write all files; returns the readiness check as text."""
    members = folds[0].config.model.members
    seeds = f"{len(pooled.logits)} seed{'s' if len(pooled.logits) > 1 else ''}"
    seeds = f"{members} nets together" if members > 1 else seeds
    source = f"{wafers.source}, {len(pooled.index):,} test wafers, {seeds}"
    decided = {rule: shares for rule, shares in results.decided.items() if shares["coverage"].value > 0}
    drawn = {
        "confusion": figures.confusion(results.confusion, CLASSES, source),
        "f1_by_class": figures.f1_by_class({"F1": results.measured}, CLASSES, source),
        "training": figures.training({fold.split.name: fold.curve for fold in folds}, source),
        "risk_coverage": figures.risk_coverage(results.curves, decided, results.rates["alpha"], source),
    }
    if pooled.depth > 1:  # a net that was trained to answer at once has no depth to draw
        drawn["steps"] = figures.steps(results.steps, pooled.depth, source)
        drawn["adaptive_depth"] = figures.adaptive_depth(results.adaptive, source)
    checks, steps = readiness_table(results.checks), results.steps.to_dict("records")
    limits = results.thresholds.groupby("rule")["threshold"]
    text = page.template("trm_jax.wafer.evaluation", "report.md").render(
        results=results,
        pooled=pooled,
        members=members,
        source=wafers.source,
        protocol=protocol(wafers, [fold.split for fold in folds], "lot"),
        provenance=provenance,
        readiness=checks,
        classes=CLASSES,
        score_titles=SCORES,
        size_titles=SHARES_BY_SIZE,
        at_prior=metrics.at_wm811k_prior_in_words(results.confusion),
        steps={(row["step"], row["score"]): Interval(row["value"], row["low"], row["high"]) for row in steps},
        limits=limits.agg(["min", "max", "count", "size"]).to_dict("index"),
        by_lot=results.decided[BY_LOT],
        nets=results.thresholds[results.thresholds["rule"] == BY_LOT].dropna(subset="threshold"),
        cheapest=cheapest(results.adaptive),
        timed=bool(results.adaptive["ms"].notna().all()),
        unknown=unknown_areas(results.unknown),
        known=KNOWN[-1],
    )
    numbers = long_table(results, pooled)
    content = to_json(results, numbers, folds, wafers, pooled) | {"provenance": dict(provenance)}
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "results.csv", numbers.to_csv(index=False))
    write_text(directory / "results.json", json.dumps(content, indent=1))
    page.write_report(directory, text, drawn)
    return checks


def to_json(
    results: Results, numbers: pd.DataFrame, folds: Sequence[Fold], wafers: Wafers, pooled: Pooled
) -> dict[str, Any]:
    """What a program would ask of an evaluation; a checkpoint that ships takes its model card from it."""
    return {
        "source": wafers.source,
        "wafers": len(pooled.index),
        "splits": [fold.split.name for fold in folds],
        "seeds": len(pooled.logits),
        "trained depth": pooled.depth,
        "errors together": results.design_effect,
        "recipe": recipe(folds[0].config, folds[0].prediction_options),
        "readiness": [asdict(check) for check in results.checks],
        "numbers": json.loads(numbers.to_json(orient="records")),
        "thresholds": json.loads(results.thresholds.to_json(orient="records")),
        "rates": results.rates,
    }


def protocol(wafers: Wafers, splits: Sequence[Split], kind: str) -> list[str]:
    """What was done, in three sentences."""
    separation = {
        "lot": "no lot has wafers on both sides of a split",
        "random": "wafers of a lot are on both sides of a split, which flatters",
        "official": "the training and test part are those of the file",
    }[kind]
    index = np.concatenate([split.test for split in splits])
    share = np.mean(wafers.label[index] == NONE)
    return [
        f"{len(index):,} labelled wafers in {len(splits)} test parts, mixed as in the data ({share:.0%} none); "
        f"{separation}.",
        "Weights and stopping are chosen by macro-F1 or loss on validation wafers, about a sixth of those not tested; "
        "the test part chooses nothing.",
        "Intervals are 95 % percentile intervals of 1,000 bootstrap samples of whole lots (or blocks of lots).",
    ]


def readiness_table(checks: Sequence[Check]) -> str:
    """The targets as Markdown."""
    result = {(True, True): "PASS", (True, False): "PASS, but not by its whole interval"}
    rows = [(c.name, c.target, c.measured, result.get((c.passed, c.sure), "FAIL")) for c in checks]
    return table(["Target", "Wanted", "Measured", "Result"], rows)


def cheapest(adaptive: pd.DataFrame) -> dict[str, Any] | None:
    """The row with the fewest steps of those that surely cost less than FREE of macro-F1; None if it saves no step."""
    rows = adaptive.to_dict("records")
    best = min((row for row in rows if row["macro_f1_gain"].low > -FREE), key=lambda row: row["steps"])
    return best if best["steps"] < rows[-1]["steps"] else None


def unknown_areas(unknown: pd.DataFrame) -> pd.DataFrame:
    """Area under the ROC curve of every score: mean, lowest and highest of splits and seeds, as text.

    A row for each kind of unknown pattern and what it is told from, and at its end the number of unknown wafers.
    """
    kinds = unknown.groupby(["unknown", "known"], sort=False)
    counts = [part.drop_duplicates("split")["count"].sum() for _, part in kinds]
    areas = unknown.groupby(["unknown", "known", "score"], sort=False)["auroc"].agg(["mean", "min", "max"])
    text = areas.apply(lambda row: str(Interval(row["mean"], row["min"], row["max"])), axis=1)
    table = text.unstack("score", sort=False) if len(text) else pd.DataFrame()
    return table.assign(Wafers=counts)
