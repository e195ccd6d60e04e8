"""Figures of one wafer classifier: what it confuses, how it learned and thought, and when it may decide alone.

Every function returns a new Figure and touches no global state.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from trm_jax.reporting.style import BLACK, BLUE, GREY, ORANGE, STYLE
from trm_jax.wafer.evaluation.confidence import RiskCoverage
from trm_jax.wafer.evaluation.metrics import Interval
from trm_jax.wafer.evaluation.score_figures import COLOURS, MARKERS, draw_confusion, draw_intervals
from trm_jax.wafer.figures import FAIL_COLOUR, NO_DIE_COLOUR, PASS_COLOUR


@matplotlib.rc_context(STYLE)
def overview(
    matrix: np.ndarray,
    classes: Sequence[str],
    measured: Mapping[str, Interval],
    curves: Mapping[str, pd.DataFrame],
    steps: pd.DataFrame,
    depth: int,
    source: str,
) -> Figure:
    """Two by two: confusion with counts and row shares, F1 by class, training curves by split, scores by step.

    ``curves`` has columns step, seed, loss, validation_macro_f1 for each split; ``steps`` step, score, value, low, high
    with the gains over the first step; ``depth`` is the N_sup trained with.
    """
    figure = Figure((13, 11), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(6, 5), squeeze=False)[:, 0]
    confusion, by_class = top.subplots(1, 2, width_ratios=(6, 5))
    draw_confusion(confusion, matrix, classes, shares=True)
    confusion.set_title("Confusion: wafers (mean over seeds), share of the true class", loc="left")
    draw_intervals(
        by_class,
        classes,
        {"F1": [measured[f"f1_{index}"] for index in range(len(classes))]},
        "F1 on test wafers, with 95 % interval (%)",
    )
    by_class.axvline(measured["macro_f1"].value, color=ORANGE, lw=1.4, ls=(0, (4, 2)))
    by_class.set_title(f"F1 by class; dashed: macro-F1 {measured['macro_f1'].value:.3f}", loc="left")
    left, right = bottom.subfigures(1, 2, squeeze=False)[0]
    loss, score = left.subplots(2, 1, sharex=True)
    _draw_curves(loss, score, curves)
    _draw_steps(right.subplots(), steps, depth)
    figure.suptitle(source, fontsize=9, color=GREY)
    return figure


def _draw_curves(loss: Axes, score: Axes, curves: Mapping[str, pd.DataFrame]) -> None:
    """Every seed as a line; splits differ in colour and marker."""
    for (name, curve), colour, marker in zip(curves.items(), COLOURS, MARKERS, strict=False):
        for seed, own in curve.groupby("seed"):
            label = name if seed == 0 else None
            loss.plot(own["step"], own["loss"], color=colour, lw=0.9, label=label)
            judged = own.dropna(subset="validation_macro_f1")
            style = f"-{marker}" if len(judged) < 30 else "-"
            score.plot(judged["step"], judged["validation_macro_f1"], style, color=colour, lw=0.9, ms=3, label=label)
    if all((curve["loss"] > 0).all() for curve in curves.values()):
        loss.set_yscale("log")
    loss.set_title("Training, a line per seed", loc="left")
    loss.set_ylabel("Training loss,\nall steps summed")
    score.set_ylabel("Validation macro-F1")
    score.set_xlabel("Optimizer step")
    if score.get_legend_handles_labels()[1]:
        score.legend(loc="lower right", ncols=2)
    else:
        score.text(0.5, 0.5, "no curve was logged", transform=score.transAxes, ha="center", color=GREY)


def _draw_steps(axes: Axes, steps: pd.DataFrame, depth: int) -> None:
    """Accuracy and macro-F1 after each step; the gain from the first to the trained depth is written out."""
    title = []
    for score, name, colour, marker in (("accuracy", "accuracy", BLUE, "o"), ("macro_f1", "macro-F1", ORANGE, "s")):
        own = steps[steps["score"] == score]
        axes.fill_between(own["step"], own["low"], own["high"], color=colour, alpha=0.2, lw=0)
        axes.plot(own["step"], own["value"], f"-{marker}", color=colour, lw=1.6, label=name)
        gain = steps[(steps["score"] == f"{score}_gain") & (steps["step"] == depth)].iloc[0]
        title.append(f"{name} {_points(gain['value'])} ({_points(gain['low'])} to {_points(gain['high'])})")
    axes.axvline(depth, color=BLACK, lw=1, ls=(0, (4, 2)), label="trained depth")
    axes.set_title(f"Gain of step {depth} over step 1, points:\n" + ", ".join(title), loc="left", fontsize=10)
    axes.set_xlabel("Supervision steps")
    axes.set_ylabel("Score on test wafers, with 95 % interval (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.legend(loc="best")


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


@matplotlib.rc_context(STYLE)
def risk_coverage(
    curves: Sequence[RiskCoverage], points: Mapping[str, tuple[float, float]], alpha: float, source: str
) -> Figure:
    """Error rate of what is decided against the share that is decided, a curve per seed.

    ``points`` are named rules with coverage and error rate measured on test wafers; ``alpha`` the rate asked for.
    """
    figure = Figure((6, 4.6), layout="constrained")
    axes = figure.subplots()
    for number, curve in enumerate(curves):
        label = "most confident first, a line per seed" if number == 0 else None
        axes.plot(curve.coverage, curve.risk, color=BLUE, lw=1.2, alpha=0.8, label=label)
    axes.axhline(alpha, color=BLACK, lw=1, ls=(0, (4, 2)), label=f"error rate asked for, {alpha:.1%}")
    for (name, (coverage, risk)), marker, colour in zip(points.items(), "sDv", (ORANGE, "#009E73", GREY), strict=False):
        axes.plot(coverage, risk, marker, color=colour, ms=8, mec="white", label=name, zorder=4, clip_on=False)
    highest = max([alpha, *(float(curve.risk[-1]) for curve in curves), *(risk for _, risk in points.values())])
    axes.set(xlim=(0, 1), ylim=(0, 1.25 * highest))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.set_xlabel("Wafers decided automatically (%)")
    axes.set_ylabel("Errors among them (%)")
    figure.legend(loc="outside lower center", ncols=1)
    figure.suptitle(source, fontsize=9, color=GREY)
    return figure


@matplotlib.rc_context(STYLE)
def adaptive_depth(table: pd.DataFrame, source: str) -> Figure:
    """Accuracy and macro-F1 against the mean steps used, a point for each halting threshold; and the time, if measured.

    ``table`` is that of wafer_evaluation.adaptive with a column ms.
    """
    timed = bool(table["ms"].notna().all())
    figure = Figure((6.4, 5.6 if timed else 3.8), layout="constrained")
    panels = figure.subplots(2 if timed else 1, 1, sharex=True, squeeze=False, height_ratios=(3, 2)[: 1 + timed])[:, 0]
    for score, name, colour, marker in (("accuracy", "accuracy", BLUE, "o"), ("macro_f1", "macro-F1", ORANGE, "s")):
        value, low, high = (np.array([getattr(one, part) for one in table[score]]) for part in ("value", "low", "high"))
        panels[0].errorbar(
            table["steps"], value, [value - low, high - value], color=colour, marker=marker, ms=4, lw=1.2,
            capsize=2, label=name,
        )  # fmt: skip
    panels[0].yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    panels[0].set_ylabel("Score on test wafers,\nwith 95 % interval (%)")
    panels[0].legend(loc="best")
    if timed:
        panels[1].plot(table["steps"], table["ms"], "-D", color=BLACK, lw=1.2, ms=4)
        panels[1].set_ylabel("Time of a wafer (ms)")
        panels[1].set_ylim(0, 1.2 * table["ms"].max())
    # Thresholds that stop wafers at nearly the same step share a label.
    for _, near in table.groupby((table["steps"].diff() > 0.2).cumsum()):
        first, last = near.iloc[0], near.iloc[-1]
        name = f"{first.halt:g}" if len(near) == 1 else f"{first.halt:g} to {last.halt:g}"
        height = near["ms"].max() if timed else last.macro_f1.value
        panels[-1].annotate(
            name, (last.steps, height), (0, 6), textcoords="offset points", ha="center", fontsize=8
        )  # fmt: skip
    panels[-1].set_xlabel("Mean supervision steps; numbers: halting probability above which a wafer stops")
    figure.suptitle(source, fontsize=9, color=GREY)
    return figure


@matplotlib.rc_context(STYLE)
def confident_errors(
    maps: Sequence[np.ndarray], truth: Sequence[str], shares: np.ndarray, classes: Sequence[str], source: str
) -> Figure:
    """Wrongly answered wafers, each with its probabilities (N, C): the label in blue, the answer in orange."""
    columns = 4
    rows = max(1, -(-len(maps) // columns))
    figure = Figure((13, 0.7 + 2.15 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=(1, 0.8) * columns)
    for axes in grid.flat:
        axes.set_axis_off()
    colours = ListedColormap([NO_DIE_COLOUR, PASS_COLOUR, FAIL_COLOUR])
    for number, (cells, name) in enumerate(zip(maps, truth, strict=True)):
        row, column = divmod(number, columns)
        picture, bars = grid[row, 2 * column], grid[row, 2 * column + 1]
        height, width = cells.shape
        picture.imshow(cells, colours, BoundaryNorm(range(4), 3), aspect=width / height, interpolation="nearest")
        answer = int(shares[number].argmax())
        picture.set_title(
            f"{name} taken for\n{classes[answer]}, {shares[number, answer]:.1%}", fontsize=8.5, loc="left"
        )
        bars.set_axis_on()
        chosen = [BLUE if one == name else ORANGE if place == answer else GREY for place, one in enumerate(classes)]
        bars.barh(range(len(classes)), shares[number], color=chosen, height=0.7)
        bars.set(xlim=(0, 1), ylim=(len(classes) - 0.5, -0.5))
        bars.set_xticks((0, 1), ("0 %", "100 %"), fontsize=7)
        bars.set_yticks(range(len(classes)), classes, fontsize=7)
        for tick, one in zip(bars.get_yticklabels(), classes, strict=True):
            tick.set(color=BLUE if one == name else BLACK, fontweight="bold" if one == name else "normal")
        bars.grid(visible=False)
    handles = [Patch(color=BLUE, label="class as labelled"), Patch(color=ORANGE, label="answer")]
    figure.legend(handles=handles, loc="outside lower left", ncols=2)
    figure.suptitle(f"The most confident wrong answers: {source}", fontsize=10, color=GREY)
    return figure
