"""Figures of wafer maps by class, drawn from arrays and counts and never from files; sized for a slide.

Every function returns a new matplotlib Figure, touches no global state, and prints ``source``, what the wafers are, at
the foot. ``classes`` are names in the order in which they are shown.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, PercentFormatter

from trm_jax.reporting.style import BLACK, BLUE, DASHED, GREY, bare
from trm_jax.reporting.style import STYLE as NARROW

WIDTH = 10.0  # inches, three quarters of a slide: text of 12 points stays readable from the back row
STYLE = NARROW | {
    "font.size": 12,
    "legend.fontsize": 12,
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
}
NO_DIE_COLOUR, PASS_COLOUR, FAIL_COLOUR = "#ffffff", "#c6dbe9", "#b3390b"
"""They differ in lightness too, so the maps survive colour blindness and grey printing."""


@matplotlib.rc_context(STYLE)
def class_counts(counts: Mapping[str, int], source: str) -> Figure:
    """Wafers of each class, largest first, on a linear axis that shows the imbalance and a logarithmic one."""
    ordered = dict(sorted(counts.items(), key=lambda item: -item[1]))
    names, values = list(ordered), np.array(list(ordered.values()))
    ratio = f", the most frequent {values[0] / values[-1]:,.0f} times the rarest" if values[-1] else ""
    figure = _figure(4.8, f"{values.sum():,} labelled wafers in {len(names)} classes{ratio}", source)
    for axes, scale in zip(figure.subplots(1, 2, sharey=True), ("linear", "log"), strict=True):
        axes.barh(names, values, color=BLUE, height=0.7)
        axes.set_xscale(scale)
        low, room = (0, 1.3) if scale == "linear" else (max(values.min(), 1) / 3, 6)
        axes.set_xlim(low, values.max() * room)
        for place, value in enumerate(values):
            text = f"{value:,} ({value / values.sum():.1%})" if scale == "linear" else f"{value:,}"
            axes.annotate(text, (max(value, low), place), (4, 0), textcoords="offset points", va="center", fontsize=10)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"Wafers, {'logarithmic' if scale == 'log' else scale} axis")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.tick_params(axis="y", length=0)
    figure.axes[0].locator_params(axis="x", nbins=4)
    figure.axes[0].invert_yaxis()
    return figure


@matplotlib.rc_context(STYLE)
def example_maps(examples: Mapping[str, Sequence[np.ndarray]], source: str) -> Figure:
    """A column of maps (height, width) for each class, every die of them visible."""
    rows = max(len(maps) for maps in examples.values())
    figure = _figure(0.95 + 1.1 * rows, "Wafer maps of each class at their own resolution", source)
    grid = figure.subplots(rows, len(examples), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for column, (name, maps) in zip(grid.T, examples.items(), strict=True):
        column[0].set_title(name)
        for axes, cells in zip(column, maps, strict=False):
            draw_map(axes, cells)
    handles = [
        Patch(facecolor=colour, edgecolor=GREY, linewidth=0.6, label=label)
        for colour, label in ((FAIL_COLOUR, "failing die"), (PASS_COLOUR, "passing die"), (NO_DIE_COLOUR, "no die"))
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=3)
    return figure


def draw_map(axes: Axes, cells: np.ndarray) -> None:
    """A map (height, width) as a circle: a wafer is round, it is the dies that need not be square."""
    colours = ListedColormap([NO_DIE_COLOUR, PASS_COLOUR, FAIL_COLOUR])
    height, width = cells.shape
    axes.imshow(cells, colours, BoundaryNorm(range(4), 3), aspect=width / height, interpolation="nearest")


@matplotlib.rc_context(STYLE)
def mean_maps(means: Mapping[str, np.ndarray], source: str) -> Figure:
    """Failing share of the dies at each place, (size, size) for each class, NaN where no wafer has dies."""
    rows = -(-len(means) // 5)
    figure = _figure(0.8 + 2.0 * rows, "Where the dies of each class fail, on average", source)
    grid = figure.subplots(rows, 5, squeeze=False)
    colours = matplotlib.colormaps["viridis"].with_extremes(bad="white")
    shown: AxesImage | None = None
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (name, mean) in zip(grid.flat, means.items(), strict=False):
        # Most places fail seldom: a square-root scale shows where, and one scale lets classes be compared.
        shown = axes.imshow(mean, colours, PowerNorm(0.5, 0, 1), interpolation="nearest")
        axes.set_title(name)
    if shown is not None:
        ticks = [0, 0.05, 0.2, 0.5, 1]
        bar = figure.colorbar(shown, ax=grid, shrink=0.8, ticks=ticks, format=PercentFormatter(1))
        bar.set_label("Failing share of the dies\n(square-root scale)")
        bar.outline.set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def radial_profiles(profiles: Mapping[str, np.ndarray], reference: str, source: str) -> Figure:
    """A panel for each class: mean failing share in each ring, band of the middle half, the reference class behind.

    ``profiles`` has (wafers, rings), shares from 0 to 1.
    """
    rows = -(-len(profiles) // 3)
    figure = _figure(1.3 + 1.75 * rows, "Failing share from the centre of the wafer to its edge", source)
    grid = figure.subplots(rows, 3, sharex=True, sharey=True, squeeze=False)
    for axes, (name, profile) in zip(grid.flat, profiles.items(), strict=False):
        rings = profile.shape[1]
        radius = (np.arange(rings) + 0.5) / rings
        low, high = np.quantile(profile, [0.25, 0.75], axis=0)
        axes.fill_between(radius, low, high, color=BLUE, alpha=0.25, lw=0)
        if name != reference and reference in profiles:
            axes.plot(radius, profiles[reference].mean(axis=0), color=BLACK, lw=1.3, ls=DASHED)
        axes.plot(radius, profile.mean(axis=0), color=BLUE, lw=2.2)
        axes.set_title(f"{name} ({len(profile):,})", loc="left", pad=3)
    for axes in grid.flat[len(profiles) :]:
        axes.remove()
    grid[0, 0].set(xlim=(0, 1), ylim=(0, 1.02), yticks=(0, 0.5, 1))
    grid[0, 0].set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
    grid[0, 0].yaxis.set_major_formatter(PercentFormatter(1))
    grid[-1, 1].set_xlabel("Distance from the centre (wafer radii)")
    figure.supylabel("Failing share of the dies in a ring", fontsize=12)
    handles = [
        Line2D([], [], color=BLUE, lw=2.2, label="mean of the class"),
        Patch(color=BLUE, alpha=0.25, lw=0, label="middle half of its wafers"),
        Line2D([], [], color=BLACK, lw=1.3, ls=DASHED, label=f"mean of {reference}"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=3)
    return figure


@matplotlib.rc_context(STYLE)
def feature_distributions(features: Mapping[str, Mapping[str, np.ndarray]], source: str) -> Figure:
    """Box plots by class of each feature, given by axis label: median, middle half, whiskers over the middle 90 %."""
    rows = -(-len(features) // 2)
    title = "Spatial features by class: median, middle half, whiskers 5 to 95 %"
    figure = _figure(0.9 + 2.9 * rows, title, source)
    grid = figure.subplots(rows, 2, sharey=True, squeeze=False)
    line = {"color": BLACK, "linewidth": 1.1}
    for axes, (label, values) in zip(grid.flat, features.items(), strict=False):
        axes.boxplot(
            list(values.values()),
            manage_ticks=False,
            orientation="horizontal",
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            widths=0.65,
            boxprops={"facecolor": "#9cc7e0", "edgecolor": BLACK, "linewidth": 0.8},
            medianprops={"color": BLACK, "linewidth": 2},
            whiskerprops=line,
            capprops=line,
        )
        axes.set_xlabel(label)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        grid[0, 0].set_yticks(range(1, len(values) + 1), list(values))
        grid[0, 0].set_ylim(len(values) + 0.6, 0.4)
    for axes in grid.flat[len(features) :]:
        axes.remove()
    return figure


@matplotlib.rc_context(STYLE)
def class_similarity(cosine: np.ndarray, distance: np.ndarray, classes: Sequence[str], source: str) -> Figure:
    """Two heat maps (classes, classes), dark for similar: cosine of the mean maps and distance of the mean features."""
    figure = _figure(5.6, "Which classes look alike", source)
    maps, features = figure.subplots(1, 2)
    _heat_map(maps, cosine, classes, reverse=False)
    maps.set_title("Mean maps: cosine similarity\n(each minus its mean; 1 = same shape)")
    _heat_map(features, distance, classes, reverse=True)
    features.set_title("Mean features: distance\n(in standard deviations within a class)")
    features.set_yticklabels([])
    return figure


def _heat_map(axes: Axes, values: np.ndarray, classes: Sequence[str], reverse: bool) -> None:
    """Numbers on colours; the pairs of different classes set the scale, the diagonal is left blank."""
    off = ~np.eye(len(classes), dtype=bool)
    low, high = values[off].min(), values[off].max()
    axes.imshow(np.where(off, values, np.nan), "Blues_r" if reverse else "Blues", vmin=low, vmax=high)
    for row, column in np.argwhere(off).tolist():
        value = values[row, column]
        share = (value - low) / max(high - low, 1e-9)
        dark = (1 - share if reverse else share) > 0.55
        colour = "white" if dark else BLACK
        text = f"{value:.1f}" if value >= 9.95 else f"{round(value, 2) + 0:.2f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=10, color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    bare(axes)


def _figure(height: float, title: str, source: str) -> Figure:
    """An empty figure with its title on top and the source of the data at its foot."""
    figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(h_pad=0.08))
    figure.suptitle(title, x=0.01, ha="left", fontsize=15, fontweight="bold")
    figure.supxlabel(f"Data: {source}", x=0.99, ha="right", fontsize=9, color=GREY)
    return figure
