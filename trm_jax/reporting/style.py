"""Colours, text sizes and the SVG text of every figure. Figures are narrow, so that they can be read on a phone."""

import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design", 2008.
BLACK, BLUE, ORANGE, GREY, BAND = "#000000", "#0072B2", "#E69F00", "#767676", "#f0f0f0"
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
