"""Figures of wafer classifiers, drawn from scores and confusion matrices. Every function returns a new Figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import PercentFormatter

from trm_jax.reporting.style import BLACK, BLUE, GREY, ORANGE, STYLE
from trm_jax.wafer.evaluation.metrics import Interval

MARKERS = "osD^vPX*"
COLOURS = (BLUE, BLACK, ORANGE, "#009E73", "#CC79A7", GREY, "#56B4E9", "#D55E00")
"""Okabe and Ito; shapes differ too."""


def macro_f1(measured: Mapping[str, Mapping[str, Interval]], source: str) -> Figure:
    """Macro-F1 and accuracy of each classifier with 95 % intervals: accuracy alone would flatter."""
    series = {
        title: [found[score] for found in measured.values()]
        for title, score in {"macro-F1": "macro_f1", "accuracy": "accuracy"}.items()
    }
    return _intervals(list(measured), series, "Score on test wafers, with 95 % interval (%)", source)


def f1_by_class(measured: Mapping[str, Mapping[str, Interval]], classes: Sequence[str], source: str) -> Figure:
    """F1 of each class by every classifier, with 95 % intervals."""
    series = {name: [found[f"f1_{index}"] for index in range(len(classes))] for name, found in measured.items()}
    return _intervals(classes, series, "F1 on test wafers, with 95 % interval (%)", source)


@matplotlib.rc_context(STYLE)
def confusion(matrix: np.ndarray, classes: Sequence[str], source: str) -> Figure:
    """Confusion matrix with counts; the colour is the share of the true class."""
    figure = Figure((6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    image = draw_confusion(axes, matrix, classes)
    figure.colorbar(image, label="Share of the true class", shrink=0.8, format=PercentFormatter(1))
    axes.set_title(source, fontsize=9, color=GREY)
    return figure


def draw_confusion(axes: Axes, matrix: np.ndarray, classes: Sequence[str], shares: bool = False) -> AxesImage:
    """A confusion matrix with counts, and under them the share of the true class if ``shares``."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(matrix.shape):
        if matrix[row, column] >= 0.5:
            colour = "white" if share[row, column] > 0.5 else BLACK
            text = f"{matrix[row, column]:,.0f}" + (f"\n{share[row, column]:.1%}" if shares else "")
            size = 6.5 if shares else 8
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size, linespacing=0.95)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("Predicted class")
    axes.set_ylabel("True class")
    axes.grid(False)
    return image


@matplotlib.rc_context(STYLE)
def _intervals(rows: Sequence[str], series: Mapping[str, Sequence[Interval]], title: str, source: str) -> Figure:
    """Figure of draw_intervals alone, as high as its rows need."""
    figure = Figure((6, 1.7 + len(rows) * (0.25 + 0.1 * len(series))), layout="constrained")
    draw_intervals(figure.subplots(), rows, series, title)
    figure.legend(loc="outside lower center", ncols=3)
    figure.suptitle(source, fontsize=9, color=GREY)
    return figure


def draw_intervals(axes: Axes, rows: Sequence[str], series: Mapping[str, Sequence[Interval]], title: str) -> None:
    """A line of named rows; in each row every series has its value and interval, side by side."""
    spread = min(0.3, 0.1 * len(series) - 0.1) * np.linspace(-1, 1, len(series))  # rows stay apart
    for place, (name, values), colour, marker in zip(spread, series.items(), COLOURS, MARKERS, strict=False):
        centre = np.array([one.value for one in values])
        reach = np.abs(np.array([[one.low, one.high] for one in values]).T - centre)
        style: dict[str, Any] = {"fmt": marker, "color": colour, "ms": 5, "lw": 1.4, "capsize": 2.5, "clip_on": False}
        axes.errorbar(centre, np.arange(len(rows)) + place, xerr=reach, label=name, **style)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.set_xlabel(title)
