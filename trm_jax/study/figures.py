"""Figures of a study, drawn from result tables and never from live models.

Every function returns a new matplotlib Figure and touches no global state. Figures are narrow, so that their text
stays readable on a phone. Arms are blue and the reference black, told apart by shape or name too, so no arm needs a
colour of its own.
``rows`` has a row per arm and seed (columns ``arm, seed, exact, best_exact, ...``) of one study and difficulty.
"""

import itertools
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from scipy.optimize import isotonic_regression

from trm_jax.reporting.style import BAND, BLACK, BLUE, DASHED, GREY, ORANGE, STYLE, WIDTH, name_rows
from trm_jax.study.findings import Wording
from trm_jax.study.statistics import Comparison, mean_interval

LONGEST_NAME = 26
COUNTS = {
    "parameters": "Parameters",
    "layer_applications": "Effective depth: layers applied in a forward pass",
}


@matplotlib.rc_context(STYLE)
def accuracy(rows: pd.DataFrame, reference: str, wording: Wording) -> Figure:
    """Exact accuracy of each arm: every seed, mean with 95 % interval, and the mean of the best checkpoints."""
    arms = list(dict.fromkeys(rows["arm"]))
    figure, axes = _rows_of_arms(arms, reference)
    for y, arm in enumerate(arms):
        group = rows[rows["arm"] == arm]
        colour = _colour(arm, reference)
        _seeds(axes, 100 * group["exact"].to_numpy(), y, colour)
        _mean(axes, group["exact"], y, colour, "s" if arm == reference else "o")
        axes.plot(100 * group["best_exact"].mean(), y - 0.27, "D", ms=4.5, mfc="white", mec=ORANGE, mew=1.4, zorder=4)
    axes.set_xlabel(f"Test {wording.examples} solved exactly (%)")
    axes.set_xlim(*_percent_limits(100 * rows[["exact", "best_exact"]].to_numpy()))
    handles = [
        _handle("o", BLUE, "one seed", size=3.5, alpha=0.5),
        _handle("o", BLUE, "mean, 95 % interval", line=True),
        _handle("s", BLACK, "the same, reference", line=True),
        _handle("D", ORANGE, "mean of best checkpoints", hollow=True),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def impact(comparisons: Sequence[Comparison], reference: str) -> Figure:
    """Paired differences to the reference arm: every seed, t and bootstrap intervals, filled where detected."""
    ordered = sorted(comparisons, key=lambda comparison: comparison.interval.value)
    figure, axes = _rows_of_arms([comparison.arm for comparison in ordered], reference)
    axes.axvline(0, color=BLACK, lw=1)
    for y, comparison in enumerate(ordered):
        mean, *ends = comparison.interval.percent
        _seeds(axes, 100 * np.array(comparison.differences), y, BLUE)
        if len(comparison.differences) > 1:
            axes.plot(comparison.bootstrap.percent[1:], [y, y], color=BLUE, lw=5, alpha=0.35, zorder=2)
            axes.plot(ends, [y, y], color=BLUE, lw=1.4, zorder=3)
        face = BLUE if comparison.detected else "white"
        axes.plot(mean, y, "o", ms=7, mfc=face, mec=BLUE, mew=1.4, zorder=4)
    axes.set_xlabel(f"Exact accuracy, difference to {_short(reference)}\n(percentage points)")
    axes.margins(x=0.08)
    handles = [
        _handle("o", BLUE, "one seed", size=3.5, alpha=0.5),
        _handle("o", BLUE, "mean, difference detected"),
        Line2D([], [], color=BLUE, lw=1.4, label="95 % interval (t)"),
        _handle("o", BLUE, "mean, none detected", hollow=True),
        Patch(color=BLUE, alpha=0.35, lw=0, label="95 % interval (bootstrap)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def cost(rows: pd.DataFrame, column: str, reference: str, wording: Wording) -> Figure:
    """A count of each arm (a key of COUNTS) against its exact accuracy with 95 % interval, equal counts on a band."""
    arms = dict(iter(rows.groupby("arm", sort=False)))
    figure = Figure(figsize=(WIDTH, 2.4 + 0.22 * len(arms)), layout="constrained")
    axes = figure.add_subplot()
    counts = {arm: float(group[column].iloc[0]) for arm, group in arms.items()}
    means = {arm: 100 * group["exact"].mean() for arm, group in arms.items()}
    _count_axis(axes, list(counts.values()))
    places = _side_by_side(axes, counts, means)
    for arm, group in arms.items():
        colour, place = _colour(arm, reference), places[arm]
        _, low, high = mean_interval(group["exact"]).clipped.percent
        axes.plot([place] * len(group), 100 * group["exact"], "o", ms=3, color=colour, alpha=0.4, mew=0)
        axes.plot([place, place], [low, high], color=colour, lw=1.4)
        marker = "s" if arm == reference else "o"
        axes.plot(place, means[arm], marker, ms=6, color=colour, mec="white", mew=0.6, zorder=4)
    axes.set_ylim(*_percent_limits(100 * rows["exact"].to_numpy()))
    _name_points(axes, {arm: (places[arm], means[arm]) for arm in arms}, reference)
    shared = "" if len(set(counts.values())) == len(counts) else "\n(on a band: equal, side by side)"
    axes.set(xlabel=COUNTS[column] + shared, ylabel=f"Test {wording.examples} solved exactly (%)")
    return figure


@matplotlib.rc_context(STYLE)
def learning_curves(curves: Mapping[str, pd.DataFrame], column: str, reference: str, wording: Wording) -> Figure:
    """A panel per arm: every seed, their mean, a band from lowest to highest, and the reference arm's mean behind.

    ``curves`` has columns ``step, seed`` and ``column``, which is ``validation_exact`` (0 to 1) or ``loss``.
    """
    exact = column == "validation_exact"
    label = f"Validation {wording.examples} solved exactly (%)" if exact else "Training loss"
    tables = {arm: _by_step(table, column) * (100 if exact else 1) for arm, table in curves.items()}
    height = -(-len(tables) // 2)
    figure = Figure(figsize=(WIDTH, 0.9 + 1.35 * height), layout="constrained")
    grid = figure.subplots(height, 2, sharex=True, sharey=True, squeeze=False)
    for axes, (arm, table) in zip(grid.flat, tables.items(), strict=False):
        colour = _colour(arm, reference)
        if arm != reference and reference in tables:
            axes.plot(tables[reference].mean(axis=1), color=BLACK, lw=1.2, ls=DASHED)
        axes.fill_between(table.index, table.min(axis=1), table.max(axis=1), color=colour, alpha=0.2, lw=0)
        axes.plot(table, color=colour, lw=0.5, alpha=0.6)
        axes.plot(table.mean(axis=1), color=colour, lw=1.8)
        axes.set_title(_wrapped(arm), fontsize=10, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axes in grid.flat[len(tables) :]:
        axes.set_axis_off()
    if len(tables) % 2 and len(tables) > 1:
        grid[-2, 1].tick_params(labelbottom=True)  # the lowest panel of its column
    if exact:
        grid[0, 0].set(ylim=(-4, 104), yticks=(0, 50, 100))
    elif all((table.isna() | (table > 0)).all(axis=None) for table in tables.values()):
        grid[0, 0].set_yscale("log")
    figure.supxlabel("Optimizer step", fontsize=10)
    figure.supylabel(label, fontsize=10)
    handles = [
        Line2D([], [], color=BLUE, lw=1.8, label="mean"),
        Line2D([], [], color=BLUE, lw=0.5, alpha=0.6, label="one seed"),
        Patch(color=BLUE, alpha=0.2, lw=0, label="lowest to highest seed"),
        Line2D([], [], color=BLACK, lw=1.2, ls=DASHED, label=f"mean of {_short(reference)}"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def _rows_of_arms(arms: Sequence[str], reference: str) -> tuple[Figure, Axes]:
    """Axes with a named line for each arm, the first on top."""
    figure = Figure(figsize=(WIDTH, 1.35 + 0.36 * len(arms)), layout="constrained")
    axes = figure.add_subplot()
    name_rows(axes, [_wrapped(arm) for arm in arms])
    for label, arm in zip(axes.get_yticklabels(), arms, strict=True):
        label.set_fontweight("bold" if arm == reference else "normal")
    return figure, axes


def _seeds(axes: Axes, values: np.ndarray, y: int, colour: str) -> None:
    """Every seed as a dot, in a fixed order just under the line of its arm."""
    heights = y + 0.17 + 0.06 * (np.arange(len(values)) % 4)
    axes.plot(values, heights, "o", ms=3.5, color=colour, alpha=0.5, mew=0)


def _mean(axes: Axes, values: pd.Series, y: int, colour: str, marker: str) -> None:
    mean, low, high = mean_interval(values).clipped.percent
    axes.plot([low, high], [y, y], color=colour, lw=1.4, zorder=3)
    axes.plot(mean, y, marker, ms=6, color=colour, zorder=4)


def _percent_limits(values: np.ndarray) -> tuple[float, float]:
    """Limits around percentages that leave room for a marker at 0 and at 100."""
    low, high = float(values.min()), float(values.max())
    room = max(1.0, 0.15 * (high - low))
    return max(-2.0 if high > 20 else -0.5, low - room), min(102.0 if low < 80 else 100.5, high + room)


def _count_axis(axes: Axes, counts: list[float]) -> None:
    """Limits for counts, logarithmic where the largest is far from the smallest; ticks at them where there is room."""
    distinct = np.unique(counts)
    low, high = distinct[0], distinct[-1]
    if high > 4 * low > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 20 * low else (1,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        room = (high / low) ** 0.15
        axes.set_xlim(low / room, high * room)
    else:
        room = 0.15 * (high - low) or 0.1 * high or 1.0
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlim(low - room, high + room)
    places = (axes.transScale + axes.transLimits).transform(np.stack([distinct, 0 * distinct], axis=1))[:, 0]
    if len(distinct) == 1 or np.diff(places).min() > 0.2:
        axes.set_xticks(distinct.tolist())
        axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))


def _side_by_side(axes: Axes, counts: Mapping[str, float], means: Mapping[str, float]) -> dict[str, float]:
    """Places on the axis of counts that keep arms apart; equal ones on a band, the most accurate to the left."""
    ordered = sorted(counts, key=lambda arm: (counts[arm], -means[arm]))
    gap = min(0.045, 0.96 / len(ordered))
    to_fraction = axes.transScale + axes.transLimits
    wanted = [to_fraction.transform((counts[arm], 0))[0] for arm in ordered]
    fractions = dict(zip(ordered, _spread(wanted, gap), strict=True))

    def place(fraction: float) -> float:
        return float(to_fraction.inverted().transform((fraction, 0))[0])

    for _, equal in itertools.groupby(ordered, counts.get):
        first, *others = (fractions[arm] for arm in equal)
        if others:
            axes.axvspan(place(first - gap / 3), place(others[-1] + gap / 3), color=BAND, lw=0, zorder=0)
    return {arm: place(fraction) for arm, fraction in fractions.items()}


def _name_points(axes: Axes, points: Mapping[str, tuple[float, float]], reference: str) -> None:
    """Names in a column right of the axes, in the order of the points' heights, each joined to its point."""
    ordered = sorted(points, key=lambda arm: (points[arm][1], -points[arm][0]))
    low, high = axes.get_ylim()
    heights = _spread([(points[arm][1] - low) / (high - low) for arm in ordered], min(0.13, 1 / len(ordered)))
    for arm, height in zip(ordered, heights, strict=True):
        axes.annotate(
            _wrapped(arm),
            points[arm],
            xytext=(1.06, height),
            textcoords="axes fraction",
            va="center",
            fontweight="bold" if arm == reference else "normal",
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6, "relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 3},
        )


def _spread(places: list[float], gap: float) -> list[float]:
    """Ascending places moved as little as possible to be ``gap`` apart, within half a gap of 0 and 1."""
    steps = gap * np.arange(len(places))
    moved = isotonic_regression(np.asarray(places) - steps).x
    return (np.clip(moved, gap / 2, 1 - gap / 2 - steps[-1]) + steps).tolist()


def _by_step(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """One line per step and one column per seed, without the steps at which nothing was measured."""
    return table.pivot(index="step", columns="seed", values=column).dropna(how="all")


def _handle(
    marker: str, colour: str, label: str, *, line: bool = False, hollow: bool = False, size: float = 6, alpha: float = 1
) -> Line2D:
    face = "white" if hollow else colour
    style = "-" if line else ""
    return Line2D([], [], marker=marker, ls=style, color=colour, mfc=face, ms=size, alpha=alpha, label=label)


def _colour(arm: str, reference: str) -> str:
    return BLACK if arm == reference else BLUE


def _short(name: str) -> str:
    """The name on one line, cut where it is too long."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _wrapped(name: str) -> str:
    """The name on at most two lines, broken after an underscore, a hyphen or a space where there is one."""
    lines = textwrap.wrap(name.replace("_", "_ "), 24, max_lines=2, placeholder="…")
    return "\n".join(lines).replace("_ ", "_")
