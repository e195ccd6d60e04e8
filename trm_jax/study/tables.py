"""The tables of a report, as text: numbers are rounded and given their units here and nowhere else."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from trm_jax.study import findings, published
from trm_jax.study.statistics import Comparison, Interval


class Table(NamedTuple):
    """A table of texts; the first column names the arm, in backticks."""

    columns: list[str]
    rows: list[list[str]]
    note: str
    """What the columns mean, as Markdown; may be empty."""


def overview_table(sections: Mapping[str, tuple[pd.DataFrame, Sequence[Comparison]]], reference: str) -> Table:
    """Exact accuracy of every arm at every difficulty, with what was detected: the whole study at one glance."""
    arms = list(dict.fromkeys(arm for rows, _ in sections.values() for arm in rows["arm"]))
    table = []
    for arm in arms:
        cells = []
        for rows, compared in sections.values():
            own = rows[rows["arm"] == arm]
            marks = {"lower": " \N{DOWNWARDS ARROW}", "higher": " \N{UPWARDS ARROW}"}
            mark = "".join(marks.get(findings.decision(one), "") for one in compared if one.arm == arm)
            interval = findings.arm_interval(rows, arm) if len(own) else None
            cells.append(f"{_ranged(interval)}{mark}" if interval else "none")
        first = pd.concat([rows[rows["arm"] == arm] for rows, _ in sections.values()]).iloc[0]
        table.append([f"`{arm}`", *cells, f"{first['parameters']:,.0f}", f"{first['flops'] / 1e6:,.1f}"])
    note = (
        f"Exact accuracy in percent and its 95 % interval over seeds. An arrow marks a detected difference to "
        f"`{reference}`, up or down."
    )
    return Table(["Arm", *sections, "Parameters", "MFLOP a puzzle"], table, note)


def _ranged(interval: Interval) -> str:
    span = f" ({_percent(interval.low)} to {_percent(interval.high)})" if math.isfinite(interval.low) else ""
    return _percent(interval.mean) + span


def accuracy_table(rows: pd.DataFrame) -> Table:
    """Scores of every arm in percent: final weights, then best checkpoint."""
    columns = ["Arm", "Exact %", "95 % interval", "Lowest seed", "Best checkpoint", "Valid", "Cells", "Seeds"]
    table = []
    for arm, group in rows.groupby("arm", sort=False):
        interval = findings.arm_interval(rows, arm)
        known = math.isfinite(interval.low)
        table.append(
            [
                f"`{arm}`",
                _percent(interval.mean),
                f"{_percent(interval.low)} to {_percent(interval.high)}" if known else "none",
                _percent(group["exact"].min()),
                _percent(group["best_exact"].mean()),
                _percent(group["valid"].mean()),
                _percent(group["cells"].mean()),
                str(len(group)),
            ]
        )
    note = (
        "All columns but the last are percent. Exact: the whole puzzle as in its solution. Valid: any correct "
        "completion. Cells: share of right cells. Best checkpoint: each seed's weights with the highest validation "
        "score. The other columns are final weights."
    )
    return Table(columns, table, note)


def cost_table(rows: pd.DataFrame) -> Table:
    """What every arm costs."""
    columns = ["Arm", "Parameters", "Layer applications", "MFLOP a puzzle", "Training, s a seed"]
    table = []
    for arm, group in rows.groupby("arm", sort=False):
        first = group.iloc[0]
        table.append(
            [
                f"`{arm}`",
                f"{first['parameters']:,.0f}",
                f"{first['layer_applications']:,.0f}",
                f"{first['flops'] / 1e6:,.2f}",
                f"{group['train_seconds'].mean():,.0f}",
            ]
        )
    return Table(
        columns, table, "FLOPs are those of the matrix products in one forward pass over all supervision steps."
    )


def impact_table(comparisons: Sequence[Comparison], reference: str) -> Table:
    """Paired differences to the reference arm in percentage points, with all that was computed about them."""
    columns = ["Arm", "Difference", "95 % (t)", "95 % (bootstrap)", "Effect size", "p (Holm)"]
    columns += ["Detectable", "Decision"]
    table = [
        [
            f"`{comparison.arm}`",
            findings.points(comparison.interval.mean),
            findings.span(comparison.interval),
            findings.span(comparison.bootstrap),
            "none" if math.isnan(comparison.effect) else findings.signed(comparison.effect),
            findings.p_text(comparison.p_holm),
            findings.magnitude(comparison.detectable) if math.isfinite(comparison.detectable) else "none",
            _decision(comparison),
        ]
        for comparison in comparisons
    ]
    note = (
        f"Differences in percentage points, arm minus `{reference}`, paired by seed. Detectable: the smallest "
        "difference that is found with 80 % probability at this number of seeds and this spread."
    )
    return Table(columns, table, note)


def ranking_table(comparisons: Sequence[Comparison], reference: str, predicted: Sequence[str] | None) -> Table:
    """Arms by impact, the largest first, beside their places in the paper and in the predicted order."""
    impacts, paper = findings.impact_sizes(comparisons), findings.paper_sizes(comparisons)
    guessed = findings.predicted_sizes(predicted or [])
    decisions = {comparison.arm: _decision(comparison) for comparison in comparisons}
    columns = ["Arm", "Place here", "Impact", "Decision", "Place in the paper", "Impact in the paper"]
    columns += ["Predicted place"] if guessed else []
    table = []
    for arm, impact in impacts.items():
        row = published.lookup(arm)
        place = "" if row is None else _place(arm, paper)
        line = [f"`{arm}`", _place(arm, impacts), findings.points(impact), decisions[arm], place]
        line.append("" if row is None else findings.points(-row.difference / 100))
        table.append(line + ([_place(arm, guessed) if arm in guessed else ""] if guessed else []))
    note = (
        f"Impact: percentage points lost against `{reference}`. Paper: {published.CITATION}, {published.DATA_SET}, "
        "single runs."
    )
    return Table(columns, table, note)


def _decision(comparison: Comparison) -> str:
    """The decision in the width of a column."""
    return findings.decision(comparison).replace(findings.NONE, "none detected")


def _place(name: str, sizes: Mapping[str, float]) -> str:
    """Place by size, the largest first; equal sizes share one."""
    return str(1 + sum(size > sizes[name] for size in sizes.values()))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
