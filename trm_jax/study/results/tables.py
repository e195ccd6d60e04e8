"""The tables of a report, as text: numbers are rounded and given their units here and nowhere else.

The first column names the arm, in backticks.
"""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from trm_jax.reporting.interval import magnitude, points
from trm_jax.study.results import findings
from trm_jax.study.results.findings import Wording
from trm_jax.study.results.published import Paper
from trm_jax.study.statistics import Comparison, mean_interval


def overview_table(sections: Mapping[str, tuple[pd.DataFrame, Sequence[Comparison]]], wording: Wording) -> pd.DataFrame:
    """Exact accuracy of every arm at every difficulty, with what was detected: the whole study at one glance."""
    marks = {"lower": " \N{DOWNWARDS ARROW}", "higher": " \N{UPWARDS ARROW}"}
    everything = pd.concat([rows for rows, _ in sections.values()])
    lines = []
    for arm, first in everything.groupby("arm", sort=False).first().iterrows():
        cells = []
        for rows, comparisons in sections.values():
            exact = rows.loc[rows["arm"] == arm, "exact"]
            mark = "".join(marks.get(findings.decision(c), "") for c in comparisons if c.arm == arm)
            cells.append(f"{exact_text(exact)}{mark}" if len(exact) else "none")
        lines.append([f"`{arm}`", *cells, f"{first['parameters']:,.0f}", f"{first['flops'] / 1e6:,.1f}"])
    return pd.DataFrame(lines, columns=["Arm", *sections, "Parameters", f"MFLOP a {wording.example}"])


def accuracy_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores of every arm in percent: final weights, then best checkpoint."""
    titles = {"valid": "Valid", "cells": "Cells"}
    scores = [name for name in titles if name in rows]
    lines = []
    for arm, group in rows.groupby("arm", sort=False):
        means = [group["exact"].min(), group["best_exact"].mean(), *(group[name].mean() for name in scores)]
        interval = mean_interval(group["exact"])
        ends = interval.clipped.ends(_percent) if interval.known else "none"
        lines.append([f"`{arm}`", _percent(interval.value), ends, *map(_percent, means), str(len(group))])
    columns = ["Arm", "Exact %", "95 % interval", "Lowest seed", "Best checkpoint"]
    return pd.DataFrame(lines, columns=[*columns, *(titles[name] for name in scores), "Seeds"])


def cost_table(rows: pd.DataFrame, wording: Wording) -> pd.DataFrame:
    """What every arm costs."""
    columns = ["Arm", "Parameters", "Layer applications", f"MFLOP a {wording.example}", "Training, s a seed"]
    lines = [
        [f"`{arm}`"]
        + [f"{group[name].iloc[0]:,.0f}" for name in ("parameters", "layer_applications")]
        + [f"{group['flops'].iloc[0] / 1e6:,.2f}", f"{group['train_seconds'].mean():,.0f}"]
        for arm, group in rows.groupby("arm", sort=False)
    ]
    return pd.DataFrame(lines, columns=columns)


def impact_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Paired differences to the reference arm in percentage points, with all that was computed about them."""
    columns = ["Arm", "Difference", "95 % (t)", "95 % (bootstrap)", "Effect size", "p (Holm)"]
    columns += ["Detectable", "Decision", "Both halves"]
    halves = {None: "too few seeds", True: "yes", False: "no"}
    lines = [
        [
            f"`{comparison.arm}`",
            points(comparison.interval.value),
            comparison.interval.ends(points),
            comparison.bootstrap.ends(points),
            "none" if math.isnan(comparison.effect) else findings.signed(comparison.effect),
            findings.p_text(comparison.p_holm),
            magnitude(comparison.detectable) if math.isfinite(comparison.detectable) else "none",
            _decision(comparison),
            halves[comparison.replicated],
        ]
        for comparison in comparisons
    ]
    return pd.DataFrame(lines, columns=columns)


def ranking_table(comparisons: Sequence[Comparison], predicted: Sequence[str], paper: Paper | None) -> pd.DataFrame:
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
    return pd.DataFrame(lines, columns=columns)


def _decision(comparison: Comparison) -> str:
    """The decision in the width of a column."""
    return findings.decision(comparison).replace(findings.NONE, "none detected")


def _place(name: str, sizes: Mapping[str, float]) -> str:
    """Place by size, the largest first; equal sizes share one."""
    return str(1 + sum(size > sizes[name] for size in sizes.values()))


def exact_text(values: pd.Series) -> str:
    """Mean in percent with its interval, cut at 0 and 100; a single seed has none."""
    interval = mean_interval(values)
    return f"{interval.clipped.percent:.1f}" if interval.known else _percent(interval.value)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
