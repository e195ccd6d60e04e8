"""Figures of a study, drawn from result tables and never from live models.

Every function returns a new matplotlib Figure and touches no global state. Figures are narrow, so that their text
stays readable on a phone. An arm has the same colour in all of them, by its place among the arms; the reference is
black. ``rows`` has a row per difficulty, arm and seed (columns ``difficulty, arm, seed, exact, flops, ...``).
"""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy.optimize import isotonic_regression

from trm_jax.reporting.style import BLACK, COLOURS, GREY, STYLE, WIDTH, name_rows
from trm_jax.study.results.findings import Wording
from trm_jax.study.statistics import Comparison, mean_interval

COLUMNS = 3
"""Difficulties side by side."""


def colours(arms: Sequence[str], reference: str) -> dict[str, str]:
    """A colour for every arm."""
    others = [colour for colour in COLOURS if colour != BLACK]
    named = {arm: others[place % len(others)] for place, arm in enumerate(arm for arm in arms if arm != reference)}
    return named | {reference: BLACK}


@matplotlib.rc_context(STYLE)
def forest(rows: pd.DataFrame, compared: Mapping[str, Sequence[Comparison]], reference: str) -> Figure:
    """Paired differences to the reference arm at every difficulty, the arms by their mean effect.

    Seeds are dots, the line is Student's t interval, the mean is filled where a difference was detected; parameters and
    MFLOP stand under the name of the arm.
    """
    effects = pd.DataFrame(
        {level: {c.arm: c.interval.value for c in comparisons} for level, comparisons in compared.items()}
    )
    arms = effects.mean(axis=1).sort_values(ascending=False).index.tolist()
    counts = rows.drop_duplicates("arm").set_index("arm")
    named = [f"{_wrapped(arm)}\n{counts['parameters'][arm]:,.0f} · {counts['flops'][arm] / 1e6:,.3g} M" for arm in arms]
    across = min(COLUMNS, len(compared))
    down = -(-len(compared) // across)
    figure = Figure(figsize=(WIDTH, 0.9 + down * (0.5 + 0.5 * len(arms))), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    colour_of = colours(rows["arm"].unique(), reference)
    for axes, (level, comparisons) in zip(grid.flat, compared.items(), strict=False):
        axes.axvline(0, color=BLACK, lw=1)
        for comparison in comparisons:
            _effect(axes, comparison, arms.index(comparison.arm), colour_of[comparison.arm])
        axes.set_title(level, fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.margins(x=0.1)
    for axes in grid.flat[len(compared) :]:
        axes.set_axis_off()
    name_rows(grid[0, 0], named)
    figure.supxlabel(f"Exact accuracy, difference to {reference} (points)", fontsize=10)
    handles = [
        Line2D([], [], ls="", marker="o", ms=3.5, color=GREY, alpha=0.5, label="one seed"),
        Line2D([], [], marker="o", ms=6, color=GREY, label="mean, 95 % interval: detected"),
        Line2D([], [], marker="o", ms=6, color=GREY, mfc="white", label="none detected"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, handletextpad=0.3, columnspacing=1)
    return figure


def _effect(axes: Axes, comparison: Comparison, y: int, colour: str) -> None:
    values = 100 * np.array(comparison.differences)
    heights = y + 0.2 + 0.06 * (np.arange(len(values)) % 4)
    axes.plot(values, heights, "o", ms=3.5, color=colour, alpha=0.5, mew=0)
    mean, *ends = comparison.interval.percent
    if comparison.interval.known:
        axes.plot(ends, [y, y], color=colour, lw=1.6)
    face = colour if comparison.detected else "white"
    axes.plot(mean, y, "o", ms=7, mfc=face, mec=colour, mew=1.4)


@matplotlib.rc_context(STYLE)
def learning_curves(curves: Mapping[str, pd.DataFrame], reference: str, wording: Wording) -> Figure:
    """Accuracy on validation, and the training loss under it: mean of each arm and a band over its seeds.

    ``curves`` has columns ``step, seed, validation_exact`` (0 to 1) and, if known, ``loss``. Arms are named at the ends
    of their lines.
    """
    labels = {"validation_exact": f"Validation {wording.examples}\n{wording.solved} (%)", "loss": "Training loss"}
    known = [name for name in labels if any(name in table and table[name].notna().any() for table in curves.values())]
    figure = Figure(figsize=(WIDTH, 0.6 + 2.2 * len(known)), layout="constrained")
    grid = figure.subplots(len(known), sharex=True, squeeze=False)[:, 0]
    colour_of = colours(list(curves), reference)
    for axes, column in zip(grid, known, strict=True):
        scale, ends = (100 if column == "validation_exact" else 1), {}
        for arm, table in curves.items():
            by_step = scale * table.pivot(index="step", columns="seed", values=column).dropna(how="all")
            mean = by_step.mean(axis=1)
            low, high, colour = by_step.min(axis=1), by_step.max(axis=1), colour_of[arm]
            axes.fill_between(by_step.index, low, high, color=colour, alpha=0.15, lw=0)
            axes.plot(mean, color=colour, lw=1.8)
            ends[arm] = (float(mean.index[-1]), float(mean.iloc[-1]))
        if column == "loss" and min(end for _, end in ends.values()) > 0:
            axes.set_yscale("log")
        axes.set_ylabel(labels[column])
        name_ends(axes, ends)
    grid[-1].set_xlabel("Optimizer step")
    grid[-1].xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


@matplotlib.rc_context(STYLE)
def cost(rows: pd.DataFrame, reference: str, wording: Wording) -> Figure:
    """Accuracy of every arm with its 95 % interval over the operations of a forward pass: who is good for the money?"""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.add_subplot()
    colour_of, places = colours(rows["arm"].unique(), reference), {}
    for arm, group in rows.groupby("arm", sort=False):
        mean, low, high = mean_interval(group["exact"]).clipped.percent
        x = group["flops"].iloc[0] / 1e6
        axes.errorbar(x, mean, [[mean - low], [high - mean]], fmt="o", ms=6, lw=1.6, color=colour_of[arm])
        places[arm] = (x, mean)
    axes.set_xlim(0, None)
    axes.margins(y=0.15)
    axes.set(xlabel=f"MFLOP a {wording.example}", ylabel=f"Test {wording.examples} {wording.solved} (%)")
    name_ends(axes, places)
    return figure


def name_ends(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """The name of each point right of the axes, as near to its height as the other names let it."""
    axes.autoscale_view()
    ordered = sorted(points, key=lambda arm: points[arm][1])
    heights = (axes.transScale + axes.transLimits).transform([points[arm] for arm in ordered])[:, 1]
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("axes without a figure have no height")
    gap = 13 / 72 / (figure.get_figheight() / len(figure.axes) - 0.5)  # a line of text
    steps = gap * np.arange(len(ordered))
    free = np.clip(isotonic_regression(heights - steps).x, 0, max(0, 1 - steps[-1]))
    for arm, height in zip(ordered, free + steps, strict=True):
        # Grey dots: a line in the arm's colour across the figure would be taken for a curve.
        arrow = {"arrowstyle": "-", "color": GREY, "lw": 0.8, "ls": ":", "relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            arm, points[arm], (1.05, height), textcoords="axes fraction", va="center",
            fontsize=9, arrowprops=arrow,
        )  # fmt: skip


def _wrapped(name: str) -> str:
    """The name on at most two lines, broken after an underscore, a hyphen or a space where there is one."""
    lines = textwrap.wrap(name.replace("_", "_ "), 20, max_lines=2, placeholder="…")
    return "\n".join(lines).replace("_ ", "_")
