"""Quality against projected time on a device: what a supervision step is worth."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

from trm_jax.reporting.interval import Interval
from trm_jax.reporting.style import BLUE, GREY, ORANGE, STYLE


class Point(NamedTuple):
    """A model, or a depth of one."""

    name: str
    low: float
    """Projected milliseconds a sample, best and worst."""
    high: float
    quality: Interval | None
    """Measured macro-F1; None where it was not trained."""


@matplotlib.rc_context(STYLE)
def quality_against_time(points: Sequence[Point], note: str) -> Figure:
    """Ranges of projected time with measured macro-F1 and its interval; what was not trained stands below."""
    figure = Figure((7.2, 4.4), layout="constrained")
    measured = [point for point in points if point.quality is not None]
    rest = [point for point in points if point.quality is None]
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, max(1, len(rest))))
    for point in measured:
        quality = point.quality
        assert quality is not None
        middle = (point.low * point.high) ** 0.5
        top.plot([point.low, point.high], [quality.value] * 2, color=BLUE, lw=5, alpha=0.35, solid_capstyle="butt")
        top.errorbar(
            middle, quality.value, [[quality.value - quality.low], [quality.high - quality.value]],
            color=BLUE, marker="o", ms=4, capsize=3, lw=1,
        )  # fmt: skip
        top.annotate(point.name, (middle, quality.high), (0, 4), textcoords="offset points", ha="center", size=8)
    top.set_ylabel("Macro-F1 on test wafers,\n95 % interval")
    top.set_title("Preset edge after so many supervision steps; bars: from best to worst case", loc="left", size=9)
    for row, point in enumerate(rest):
        bottom.plot([point.low, point.high], [row, row], color=ORANGE, lw=5, alpha=0.5, solid_capstyle="butt")
    bottom.set_yticks(range(len(rest)), [f"{point.name},\nnot trained" for point in rest])
    bottom.set_ylim(-0.7, max(0.7, len(rest) - 0.3))
    bottom.set_xscale("log")
    bottom.set_xlabel("Milliseconds a wafer (projection, not measured)")
    figure.suptitle(note, fontsize=9, color=GREY)
    return figure
