"""Figures of wafer classifiers, drawn from scores and confusion matrices. Every function returns a new Figure."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from trm_jax.plots import BLACK, BLUE, GREY, ORANGE, STYLE
from trm_jax.wafer_metrics import Interval

MARKERS = "osD^vPX*"
COLOURS = (BLUE, BLACK, ORANGE, "#009E73", "#CC79A7", GREY, "#56B4E9", "#D55E00")
"""Okabe and Ito; shapes differ too."""


@matplotlib.rc_context(STYLE)
def macro_f1(measured: Mapping[str, Mapping[str, Interval]], source: str) -> Figure:
    """Macro-F1 and accuracy of each classifier with 95 % intervals: accuracy alone would flatter."""
    names = list(measured)
    figure = Figure((6, 1.9 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    for offset, (score, title, colour, marker) in enumerate(
        (("macro_f1", "macro-F1", BLUE, "o"), ("accuracy", "accuracy", GREY, "s"))
    ):
        places = np.arange(len(names)) + 0.24 * offset - 0.12
        _intervals(axes, [measured[name][score] for name in names], places, colour, marker, title)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    _percent(axes, "Score on test wafers")
    figure.legend(loc="outside lower center", ncols=2)
    figure.suptitle(f"{source}", fontsize=9, color=GREY)
    return figure


@matplotlib.rc_context(STYLE)
def f1_by_class(measured: Mapping[str, Mapping[str, Interval]], classes: Sequence[str], source: str) -> Figure:
    """F1 of each class by every classifier, with 95 % intervals."""
    figure = Figure((6, 1.6 + 0.62 * len(classes)), layout="constrained")
    axes = figure.subplots()
    spread = np.linspace(-0.3, 0.3, len(measured)) if len(measured) > 1 else [0.0]
    for place, (name, found), colour, marker in zip(spread, measured.items(), COLOURS, MARKERS, strict=False):
        values = [found[f"f1_{index}"] for index in range(len(classes))]
        _intervals(axes, values, np.arange(len(classes)) + place, colour, marker, name)
    axes.set_yticks(range(len(classes)), classes)
    axes.invert_yaxis()
    _percent(axes, "F1 on test wafers")
    figure.legend(loc="outside lower center", ncols=3)
    figure.suptitle(f"{source}", fontsize=9, color=GREY)
    return figure


@matplotlib.rc_context(STYLE)
def confusion(matrix: np.ndarray, classes: Sequence[str], source: str) -> Figure:
    """Confusion matrix with counts; the colour is the share of the true class."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure((6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(matrix.shape):
        if matrix[row, column]:
            colour = "white" if share[row, column] > 0.5 else BLACK
            axes.text(column, row, f"{matrix[row, column]:,.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("Predicted class")
    axes.set_ylabel("True class")
    axes.grid(False)
    figure.colorbar(image, label="Share of the true class", shrink=0.8, format=PercentFormatter(1))
    axes.set_title(source, fontsize=9, color=GREY)
    return figure


def _intervals(axes, values: Sequence[Interval], places, colour: str, marker: str, title: str) -> None:
    centre = np.array([one.value for one in values])
    spread = np.abs(np.array([[one.low, one.high] for one in values]).T - centre)
    axes.errorbar(centre, places, xerr=spread, fmt=marker, color=colour, ms=5, lw=1.4, capsize=2.5, label=title)


def _percent(axes, title: str) -> None:
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.set_xlabel(f"{title} (%)")
