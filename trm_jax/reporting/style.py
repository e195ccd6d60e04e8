"""What figures have in common: colours, text sizes, SVG text, and the axes that several of them draw.

Figures are narrow, so that they can be read on a phone.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from trm_jax.reporting.interval import Interval

# Okabe and Ito, "Color Universal Design", 2008.
BLACK, BLUE, ORANGE, GREY = "#000000", "#0072B2", "#E69F00", "#767676"
COLOURS = (BLUE, BLACK, ORANGE, "#009E73", "#CC79A7", GREY, "#56B4E9", "#D55E00")
MARKERS = "osD^vPX*"
"""Of series in one figure, in this order: they differ in shape too."""
DASHED = (0, (4, 2))
WIDTH = 5.0  # inches
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "legend.fontsize": 9,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "trm_jax",
}


def svg(figure: Figure) -> str:
    """The figure as SVG text, the same for the same figure."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def percent(axis: Axis) -> None:
    """Shares from 0 to 1 as percent; the label of the axis has the sign."""
    axis.set_major_formatter(PercentFormatter(1, symbol=""))


def titled(height: float, source: str) -> Figure:
    """A new figure of the common width, with what its data are in grey over it."""
    figure = Figure((WIDTH, height), layout="constrained")
    figure.suptitle(source, fontsize=9, color=GREY)
    return figure


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """A named line for each of the names, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def draw_intervals(axes: Axes, rows: Sequence[str], series: Mapping[str, Sequence[Interval]], label: str) -> None:
    """Shares with their intervals: a line of each name, in which every series has its value, side by side."""
    offsets = min(0.3, 0.1 * len(series) - 0.1) * np.linspace(-1, 1, len(series))  # rows stay apart
    for offset, (name, intervals), colour, marker in zip(offsets, series.items(), COLOURS, MARKERS, strict=False):
        value, low, high = np.array(intervals).T
        axes.errorbar(
            value, np.arange(len(rows)) + offset, xerr=np.abs([value - low, high - value]), label=name,
            fmt=marker, color=colour, ms=5, lw=1.4, capsize=2.5, clip_on=False,
        )  # fmt: skip
    name_rows(axes, rows)
    axes.set_xlim(0, 1.0)
    percent(axes.xaxis)
    axes.set_xlabel(label)


def draw_confusion(axes: Axes, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """A confusion matrix: percent of the true class, which is the colour too; beside a class how many it has."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(matrix >= 0.5).tolist():
        colour = "white" if share[row, column] > 0.5 else BLACK
        axes.text(column, row, f"{100 * share[row, column]:.1f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    counts = matrix.sum(axis=1)
    axes.set_yticks(range(len(classes)), [f"{name}\n{count:,.0f}" for name, count in zip(classes, counts, strict=True)])
    axes.set(xlabel="Predicted class, percent of the true class", ylabel="True class, examples")
    bare(axes)


def bare(axes: Axes) -> None:
    """No frame, no grid and no marks at the ticks around an image."""
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
