"""The tables of a report, as text: numbers are rounded and given their units here and nowhere else."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from trm_jax.reporting import markdown
from trm_jax.reporting.interval import magnitude, points
from trm_jax.study import findings
from trm_jax.study.findings import Wording
from trm_jax.study.published import Paper
from trm_jax.study.statistics import Comparison, mean_interval


class Table(NamedTuple):
    """A table of texts; the first column names the arm, in backticks."""

    columns: list[str]
    rows: list[list[str]]
    note: str
    """What the columns mean, as Markdown."""

    def __str__(self) -> str:
        return f"{markdown.table(self.columns, self.rows)}\n\n{self.note}"


def overview_table(
    sections: Mapping[str, tuple[pd.DataFrame, Sequence[Comparison]]], reference: str, wording: Wording
) -> Table:
    """Exact accuracy of every arm at every difficulty, with what was detected: the whole study at one glance."""
    marks = {"lower": " \N{DOWNWARDS ARROW}", "higher": " \N{UPWARDS ARROW}"}
    everything = pd.concat([rows for rows, _ in sections.values()])
    lines = []
    for arm, first in everything.groupby("arm", sort=False).first().iterrows():
        cells = []
        for rows, comparisons in sections.values():
            exact = rows.loc[rows["arm"] == arm, "exact"]
            mark = "".join(marks.get(findings.decision(c), "") for c in comparisons if c.arm == arm)
            cells.append(f"{_exact(exact)}{mark}" if len(exact) else "none")
        lines.append([f"`{arm}`", *cells, f"{first['parameters']:,.0f}", f"{first['flops'] / 1e6:,.1f}"])
    note = (
        f"Exact accuracy in percent and its 95 % interval over seeds. An arrow marks a detected difference to "
        f"`{reference}`, up or down."
    )
    return Table(["Arm", *sections, "Parameters", f"MFLOP a {wording.example}"], lines, note)


def accuracy_table(rows: pd.DataFrame, wording: Wording) -> Table:
    """Scores of every arm in percent: final weights, then best checkpoint."""
    titles = {"valid": "Valid", "cells": "Cells"}
    scores = [name for name in titles if name in rows]
    lines = []
    for arm, group in rows.groupby("arm", sort=False):
        means = [group["exact"].min(), group["best_exact"].mean(), *(group[name].mean() for name in scores)]
        interval = mean_interval(group["exact"])
        ends = interval.clipped.ends(_percent) if interval.known else "none"
        lines.append([f"`{arm}`", _percent(interval.value), ends, *map(_percent, means), str(len(group))])
    note = (
        f"All columns but the last are percent. Exact: the whole {wording.example} as in its solution. "
        + ("Valid: any correct completion. " if "valid" in scores else "")
        + "Cells: share of right cells. Best checkpoint: each seed's weights with the highest validation score. The "
        "other columns are final weights."
    )
    columns = ["Arm", "Exact %", "95 % interval", "Lowest seed", "Best checkpoint"]
    return Table([*columns, *(titles[name] for name in scores), "Seeds"], lines, note)


def cost_table(rows: pd.DataFrame, wording: Wording) -> Table:
    """What every arm costs."""
    columns = ["Arm", "Parameters", "Layer applications", f"MFLOP a {wording.example}", "Training, s a seed"]
    lines = [
        [f"`{arm}`"]
        + [f"{group[name].iloc[0]:,.0f}" for name in ("parameters", "layer_applications")]
        + [f"{group['flops'].iloc[0] / 1e6:,.2f}", f"{group['train_seconds'].mean():,.0f}"]
        for arm, group in rows.groupby("arm", sort=False)
    ]
    note = "FLOPs are those of the matrix products in one forward pass over all supervision steps."
    return Table(columns, lines, note)


def impact_table(comparisons: Sequence[Comparison], reference: str) -> Table:
    """Paired differences to the reference arm in percentage points, with all that was computed about them."""
    columns = ["Arm", "Difference", "95 % (t)", "95 % (bootstrap)", "Effect size", "p (Holm)"]
    columns += ["Detectable", "Decision"]
    lines = [
        [
            f"`{comparison.arm}`",
            points(comparison.interval.value),
            findings.span(comparison.interval),
            findings.span(comparison.bootstrap),
            "none" if math.isnan(comparison.effect) else findings.signed(comparison.effect),
            findings.p_text(comparison.p_holm),
            magnitude(comparison.detectable) if math.isfinite(comparison.detectable) else "none",
            _decision(comparison),
        ]
        for comparison in comparisons
    ]
    note = (
        f"Differences in percentage points, arm minus `{reference}`, paired by seed. Detectable: the smallest "
        "difference that is found with 80 % probability at this number of seeds and this spread."
    )
    return Table(columns, lines, note)


def ranking_table(
    comparisons: Sequence[Comparison], reference: str, predicted: Sequence[str], paper: Paper | None
) -> Table:
    """Arms by impact, the largest first, beside their places in the paper and in the predicted order."""
    impacts = findings.impact_sizes(comparisons)
    reported = findings.paper_sizes(comparisons, paper) if paper else {}
    guessed = findings.predicted_sizes(predicted)
    decisions = {comparison.arm: _decision(comparison) for comparison in comparisons}
    columns = ["Arm", "Place here", "Impact", "Decision"]
    columns += ["Place in the paper", "Impact in the paper"] * bool(paper) + ["Predicted place"] * bool(guessed)
    lines = []
    for arm, impact in impacts.items():
        line = [f"`{arm}`", _place(arm, impacts), points(impact), decisions[arm]]
        if paper:
            line += [_place(arm, reported), points(reported[arm])] if arm in reported else ["", ""]
        if guessed:
            line.append(_place(arm, guessed) if arm in guessed else "")
        lines.append(line)
    note = f"Impact: percentage points lost against `{reference}`."
    if paper:
        note += f" Paper: {paper.citation}, {paper.data_set}, single runs."
    return Table(columns, lines, note)


def _decision(comparison: Comparison) -> str:
    """The decision in the width of a column."""
    return findings.decision(comparison).replace(findings.NONE, "none detected")


def _place(name: str, sizes: Mapping[str, float]) -> str:
    """Place by size, the largest first; equal sizes share one."""
    return str(1 + sum(size > sizes[name] for size in sizes.values()))


def _exact(values: pd.Series) -> str:
    """Mean in percent with its interval, cut at 0 and 100; a single seed has none."""
    interval = mean_interval(values)
    return f"{interval.clipped.percent:.1f}" if interval.known else _percent(interval.value)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
