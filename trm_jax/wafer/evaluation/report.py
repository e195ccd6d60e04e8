"""The report on one wafer classifier: results.csv, results.json, report.md and figures; every sentence is computed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from trm_jax.reporting import markdown
from trm_jax.reporting.style import svg
from trm_jax.support.files import write_text
from trm_jax.wafer.baselines.report import protocol
from trm_jax.wafer.evaluation import figures as wafer_evaluation_plots
from trm_jax.wafer.evaluation import text
from trm_jax.wafer.evaluation.pooled import Answers
from trm_jax.wafer.evaluation.results import Results, curves, long_table
from trm_jax.wafer.evaluation.runs import Fold, recipe
from trm_jax.wafer.maps.maps import CLASSES, Wafers


def write_report(
    directory: Path,
    results: Results,
    folds: Sequence[Fold],
    wafers: Wafers,
    tested: Answers,
    rates: Mapping[str, float],
    provenance: Mapping[str, str],
) -> str:
    """Write all files; returns the readiness check as text."""
    seeds = f"{len(tested.logits)} seed{'s' if len(tested.logits) > 1 else ''}"
    source = f"{wafers.source}, {len(tested.index):,} test wafers, {seeds}"
    known = {rule: found for rule, found in results.decided.items() if found["coverage"].value > 0}
    points = {rule: (found["coverage"].value, found["errors"].value) for rule, found in known.items()}
    by_split = {fold.split.name: fold.curve for fold in folds}
    figures = {
        "overview": wafer_evaluation_plots.overview(
            results.confusion, CLASSES, results.measured, by_split, results.steps, tested.depth, source
        ),
        "adaptive_depth": wafer_evaluation_plots.adaptive_depth(results.adaptive, source),
        "risk_coverage": wafer_evaluation_plots.risk_coverage(curves(tested), points, rates["alpha"], source),
    }
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        write_text(directory / "figures" / f"{name}.svg", svg(figure))
    table = long_table(results, tested)
    write_text(directory / "results.csv", table.to_csv(index=False))
    content = for_machines(results, table, folds, wafers, tested)
    content |= {"rates": dict(rates), "provenance": dict(provenance)}
    write_text(directory / "results.json", json.dumps(content, indent=1))
    shown = text.readiness_table(results.checks)
    parts = [
        f"# A wafer classifier, tested on lots it never saw: {wafers.source}",
        markdown.bullets(protocol(wafers, [fold.split for fold in folds], "lot") + text.seeds(tested)),
        *text.sections(results, tested, rates, shown),
        markdown.bullets(f"{key}: `{value}`" for key, value in provenance.items()),
    ]
    write_text(directory / "report.md", "\n\n".join(parts) + "\n")
    return shown


def for_machines(
    results: Results, table: pd.DataFrame, folds: Sequence[Fold], wafers: Wafers, tested: Answers
) -> dict[str, Any]:
    """What a program would ask of an evaluation, as JSON; `wafer_ship.py` reads it."""
    return {
        "source": wafers.source,
        "wafers": len(tested.index),
        "splits": [fold.split.name for fold in folds],
        "seeds": len(tested.logits),
        "trained depth": tested.depth,
        "errors together": results.together,
        "recipe": recipe(folds[0].config, folds[0].made),
        "readiness": [check._asdict() for check in results.checks],
        "numbers": json.loads(table.to_json(orient="records")),
        "thresholds": json.loads(results.rules.to_json(orient="records")),
    }
