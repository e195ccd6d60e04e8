"""Figures of wafer classifiers: what they confuse, how they learned and thought, and when they may decide alone.

Every function returns a new Figure, touches no global state, and names ``source``, what the data are, on top.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from trm_jax.reporting.interval import Interval, points
from trm_jax.reporting.style import (
    BLACK,
    BLUE,
    COLOURS,
    DASHED,
    GREY,
    MARKERS,
    ORANGE,
    STYLE,
    draw_confusion,
    draw_intervals,
    percent,
    titled,
)
from trm_jax.wafer.evaluation.trust.calibration import RiskCoverage
from trm_jax.wafer.figures import draw_map

SERIES = {"accuracy": ("accuracy", BLUE, "o"), "macro_f1": ("macro-F1", ORANGE, "s")}
"""Name, colour and marker of the scores that are drawn as lines."""


def macro_f1(measured: Mapping[str, Mapping[str, Interval]], source: str) -> Figure:
    """Macro-F1 and accuracy of each classifier with 95 % intervals: accuracy alone would flatter."""
    series = {SERIES[name][0]: [scores[name] for scores in measured.values()] for name in ("macro_f1", "accuracy")}
    return _intervals(list(measured), series, "Score on test wafers, with 95 % interval (%)", source)


def f1_by_class(measured: Mapping[str, Mapping[str, Interval]], classes: Sequence[str], source: str) -> Figure:
    """F1 of each class by every classifier, with 95 % intervals."""
    series = {name: [scores[f"f1_{index}"] for index in range(len(classes))] for name, scores in measured.items()}
    return _intervals(classes, series, "F1 on test wafers, with 95 % interval (%)", source)


@matplotlib.rc_context(STYLE)
def _intervals(rows: Sequence[str], series: Mapping[str, Sequence[Interval]], label: str, source: str) -> Figure:
    """Figure of draw_intervals alone, as high as its rows need."""
    figure = titled(1.2 + 0.2 * (len(series) > 1) + len(rows) * (0.25 + 0.1 * len(series)), source)
    draw_intervals(figure.subplots(), rows, series, label)
    if len(series) > 1:
        figure.legend(loc="outside lower center", ncols=3)
    return figure


@matplotlib.rc_context(STYLE)
def confusion(matrix: np.ndarray, classes: Sequence[str], source: str) -> Figure:
    """Confusion matrix in percent of the true class, with the wafers of each class."""
    figure = titled(5.2, source)
    draw_confusion(figure.subplots(), matrix, classes)
    return figure


@matplotlib.rc_context(STYLE)
def training(curves: Mapping[str, pd.DataFrame], source: str) -> Figure:
    """Loss and validation macro-F1 by update, every seed as a line; splits differ in colour and marker.

    ``curves`` has columns step, seed, loss, validation_macro_f1 for each split.
    """
    figure = titled(5, source)
    loss, score = figure.subplots(2, 1, sharex=True)
    for (name, curve), colour, marker in zip(curves.items(), COLOURS, MARKERS, strict=False):
        for seed, of_seed in curve.groupby("seed"):
            label = name if seed == 0 else None
            loss.plot(of_seed["step"], of_seed["loss"], color=colour, lw=0.9, label=label)
            judged = of_seed.dropna(subset="validation_macro_f1")
            style = f"-{marker}" if len(judged) < 30 else "-"
            score.plot(judged["step"], judged["validation_macro_f1"], style, color=colour, lw=0.9, ms=3, label=label)
    if all((curve["loss"] > 0).all() for curve in curves.values()):
        loss.set_yscale("log")
    loss.set_ylabel("Training loss,\nall steps summed")
    score.set(xlabel="Optimizer step", ylabel="Validation macro-F1")
    if score.get_legend_handles_labels()[1]:
        score.legend(loc="lower right", ncols=2)
    else:
        score.text(0.5, 0.5, "no curve was logged", transform=score.transAxes, ha="center", color=GREY)
    return figure


@matplotlib.rc_context(STYLE)
def steps(table: pd.DataFrame, depth: int, source: str) -> Figure:
    """Accuracy and macro-F1 after each step; the gain from the first to the trained depth is written out.

    ``table`` is that of `pooled.by_step`; ``depth`` is the N_sup trained with.
    """
    figure = titled(4.2, source)
    axes, title = figure.subplots(), f"Gain of step {depth} over step 1, in points:"
    for score, (name, colour, marker) in SERIES.items():
        values = table[table["score"] == score]
        axes.fill_between(values["step"], values["low"], values["high"], color=colour, alpha=0.2, lw=0)
        axes.plot(values["step"], values["value"], f"-{marker}", color=colour, lw=1.6, label=name)
        gain = table[(table["score"] == f"{score}_gain") & (table["step"] == depth)].iloc[0]
        title += f"\n{name} {points(gain['value'])} ({points(gain['low'])} to {points(gain['high'])})"
    axes.axvline(depth, color=BLACK, lw=1, ls=DASHED, label="trained depth")
    axes.set_title(title, loc="left", fontsize=9)
    axes.set(xlabel="Supervision steps", ylabel="Score on test wafers,\nwith 95 % interval (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    percent(axes.yaxis)
    axes.legend(loc="best")
    return figure


@matplotlib.rc_context(STYLE)
def risk_coverage(
    curves: Sequence[RiskCoverage], decided: Mapping[str, Mapping[str, Interval]], alpha: float, source: str
) -> Figure:
    """Error rate of what is decided against the share that is decided, a curve per seed.

    ``decided`` has coverage and errors of each rule on test wafers; ``alpha`` is the error rate that is allowed.
    """
    figure = titled(4.4, source)
    axes = figure.subplots()
    for number, curve in enumerate(curves):
        label = "most confident first, a line per seed" if number == 0 else None
        axes.plot(curve.coverage, curve.risk, color=BLUE, lw=1.2, alpha=0.8, label=label)
    axes.axhline(alpha, color=BLACK, lw=1, ls=DASHED, label=f"error rate allowed, {alpha:.1%}")
    for (name, shares), marker, colour in zip(decided.items(), "sD", (ORANGE, COLOURS[3]), strict=False):
        place = shares["coverage"].value, shares["errors"].value
        axes.plot(*place, marker, color=colour, ms=8, mec="white", label=name, zorder=4, clip_on=False)
    risks = [float(curve.risk[-1]) for curve in curves] + [shares["errors"].value for shares in decided.values()]
    lowest = min([0.6, *(shares["coverage"].value - 0.05 for shares in decided.values())])  # below it nobody decides
    axes.set(xlim=(max(0, lowest), 1), ylim=(0, 1.25 * max(alpha, *risks)))
    percent(axes.xaxis)
    percent(axes.yaxis)
    axes.set(xlabel="Wafers decided automatically (%)", ylabel="Errors among them (%)")
    figure.legend(loc="outside lower center", ncols=1)
    return figure


@matplotlib.rc_context(STYLE)
def adaptive_depth(table: pd.DataFrame, source: str) -> Figure:
    """Accuracy and macro-F1 against the mean steps used, a point for each halting threshold; and the time, if measured.

    ``table`` is that of `pooled.adaptive` with a column ms.
    """
    timed = bool(table["ms"].notna().all())
    figure = titled(5.6 if timed else 3.8, source)
    panels = figure.subplots(2 if timed else 1, 1, sharex=True, squeeze=False, height_ratios=(3, 2)[: 1 + timed])[:, 0]
    for score, (name, colour, marker) in SERIES.items():
        value, low, high = np.array(table[score].tolist()).T
        panels[0].errorbar(
            table["steps"], value, np.abs([value - low, high - value]), color=colour, marker=marker, ms=4, lw=1.2,
            capsize=2, label=name,
        )  # fmt: skip
    percent(panels[0].yaxis)
    panels[0].set_ylabel("Score on test wafers,\nwith 95 % interval (%)")
    panels[0].legend(loc="best")
    if timed:
        panels[1].plot(table["steps"], table["ms"], "-D", color=BLACK, lw=1.2, ms=4)
        panels[1].set(ylabel="Time of a wafer (ms)", ylim=(0, 1.2 * table["ms"].max()))
    # Thresholds that stop wafers at nearly the same step share a label.
    for _, near in table.groupby((table["steps"].diff() > 0.2).cumsum()):
        first, last = near.iloc[0], near.iloc[-1]
        name = f"{first.halt:g}" if len(near) == 1 else f"{first.halt:g} to {last.halt:g}"
        height, offset = (near["ms"].max(), 6) if timed else (last.macro_f1.low, -12)
        place = last.steps, height
        panels[-1].annotate(name, place, (0, offset), textcoords="offset points", ha="center", fontsize=8)
    panels[-1].set_xlabel("Mean supervision steps;\nnumbers: halting probability above which a wafer stops")
    return figure


@matplotlib.rc_context(STYLE)
def confident_errors(
    maps: Sequence[np.ndarray], truth: Sequence[str], probabilities: np.ndarray, classes: Sequence[str], source: str
) -> Figure:
    """Wrongly answered wafers, each with its probabilities (N, C): the label in blue, the answer in orange."""
    columns = 2
    rows = max(1, -(-len(maps) // columns))
    figure = Figure((6.5, 0.7 + 2.15 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=(1, 0.8) * columns)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (cells, name) in enumerate(zip(maps, truth, strict=True)):
        row, column = divmod(number, columns)
        picture, bars = grid[row, 2 * column], grid[row, 2 * column + 1]
        draw_map(picture, cells)
        answer = int(probabilities[number].argmax())
        picture.set_title(
            f"{name} taken for\n{classes[answer]}, {probabilities[number, answer]:.1%}", fontsize=8.5, loc="left"
        )
        bars.set_axis_on()
        colours_of_bars = [
            BLUE if title == name else ORANGE if place == answer else GREY for place, title in enumerate(classes)
        ]
        bars.barh(range(len(classes)), probabilities[number], color=colours_of_bars, height=0.7)
        bars.set(xlim=(0, 1), ylim=(len(classes) - 0.5, -0.5))
        bars.set_xticks((0, 1), ("0 %", "100 %"), fontsize=7)
        bars.set_yticks(range(len(classes)), classes, fontsize=7)
        for tick, title in zip(bars.get_yticklabels(), classes, strict=True):
            tick.set(color=BLUE if title == name else BLACK, fontweight="bold" if title == name else "normal")
        bars.grid(visible=False)
    handles = [Patch(color=BLUE, label="class as labelled"), Patch(color=ORANGE, label="answer")]
    figure.legend(handles=handles, loc="outside lower left", ncols=2)
    figure.suptitle(f"The most confident wrong answers: {source}", fontsize=10, color=GREY)
    return figure
