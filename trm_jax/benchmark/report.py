"""Tables and figures of a benchmark, made from its rows."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from trm_jax.reporting import markdown
from trm_jax.reporting.style import BLACK, BLUE, ORANGE, STYLE

MARKERS = {"PyTorch eager": ("o", BLUE), "PyTorch compiled": ("s", ORANGE)}
SIZES = {"n": "latent updates", "T": "cycles", "N_sup": "supervision steps", "L": "tokens", "D": "width"}
SIZES |= {"B": "samples", "S": "seeds"}


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table with an empty line after it."""
    return markdown.table(columns, rows) + "\n"


def timing_table(rows: list[dict[str, Any]]) -> str:
    """Our time beside the peer's, the ratio with its range over rounds, and the share of the matrix product."""
    columns = ["Case", "Ours, ms", "Against", "Its ms", "Ratio (range)", "GFLOP/s", "Of peak", "Note"]
    lines = []
    for row in rows:
        ratio = (
            "" if row["ratio"] is None else f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        )
        share = "" if row["share"] is None else f"{row['share']:.0%}"
        lines.append(
            [row["name"], _number(row["ours_ms"]), row["peer"], _number(row["peer_ms"]), ratio]
            + [_number(row["gflops"]), share, row["note"]]
        )
    return table(columns, lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def report(results: dict[str, Any]) -> str:
    """All results as Markdown."""
    made = results["made by"]
    parts = [
        "# Benchmark\n",
        f"Command `{made['command']}`, commit `{made['commit']}`, {made['machine']}, {made['threads']} threads on both "
        f"sides, {made['versions']}; {made['minutes']:.0f} minutes.\n",
        "Ratio: our time over the other's, median of rounds in which the two take turns, with the lowest and the "
        "highest round; below 1 we are faster. GFLOP/s counts matrix products of the forward and backward pass, "
        "without recomputation; peak is a 2048x2048 float32 matrix product in the same round"
        + (f", at best {made['peak_gflops']:.0f} GFLOP/s.\n" if made["peak_gflops"] else ".\n"),
    ]
    if results["rows"]:
        parts += [timing_table(results["rows"])]
    if results["start"]:
        lines = [[row["name"], f"{row['seconds']:.1f}", row["note"]] for row in results["start"]]
        parts += ["## Start\n", table(["Start of a process to the end of its first step", "Seconds", "Note"], lines)]
    if results["memory"]:
        lines = [
            [row["name"], row["side"], _number(row.get("temp_mb")), _number(row["peak_mb"])]
            for row in results["memory"]
        ]
        columns = ["Case", "Side", "Temporary of the compiled step, MB", "Peak of the process, MB"]
        parts += ["## Memory\n", table(columns, lines)]
    if results["growth"]:
        parts += growth_report(results["growth"], results["growth_excesses"])
    return "\n".join(parts)


def growth_report(growth: dict[str, list[dict[str, Any]]], excesses: list[str]) -> list[str]:
    """Growth as Markdown: every curve, memory by mode, and what exceeds the prediction."""
    curves = [
        [f"{p['size']} = {p['value']}", _number(p["ms"])]
        + [f"{p['growth']:.2f} ({p['growth_low']:.2f} to {p['growth_high']:.2f})", f"{p['predicted']:.2f}"]
        + [_number(p["temp_mb"])]
        for p in growth["curves"]
    ]
    memory = [
        [m["mode"], f"{m['size']} = {m['value']}", _number(m["temp_mb"]), f"{m['growth']:.2f}"]
        for m in growth["memory"]
    ]
    listed = markdown.bullets(excesses or ["nothing"]) + "\n"
    return [
        "## Growth\n",
        "Growth counts from the smallest value; predicted is the growth of the matrix-product operations.\n",
        table(["Size", "ms a step", "Growth (range)", "Predicted", "Temporary, MB"], curves),
        table(["Gradient", "Size", "Temporary, MB", "Growth"], memory),
        "More than 1.3 times the prediction:\n",
        listed,
    ]


@matplotlib.rc_context(STYLE)
def ratio_figure(rows: list[dict[str, Any]]) -> Figure:
    """Ratios to PyTorch with their range over rounds, and a line where both take the same time."""
    rows = [row for row in rows if row["peer"] in MARKERS]
    names = list(dict.fromkeys(row["name"] for row in rows))
    figure = Figure(figsize=(6.5, 1.4 + 0.24 * len(names)), layout="constrained")
    axes = figure.subplots()
    for peer, (marker, colour) in MARKERS.items():
        chosen = [row for row in rows if row["peer"] == peer]
        if not chosen:
            continue
        ratio, low, high = (np.array([row[key] for row in chosen]) for key in ("ratio", "ratio_low", "ratio_high"))
        y = [names.index(row["name"]) for row in chosen]
        axes.errorbar(
            ratio, y, xerr=[ratio - low, high - ratio], fmt=marker, color=colour, ms=5, lw=1.4, label=f"against {peer}"
        )
    axes.axvline(1, color=BLACK, lw=1)
    axes.set_xscale("log")
    _plain_ticks(axes.xaxis)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0.1)
    figure.supxlabel("Our time over PyTorch's; left of the line we are faster", fontsize=10)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _plain_ticks(axis: Axis) -> None:
    """Numbers instead of powers of ten on a logarithmic axis that spans less than two decades."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


@matplotlib.rc_context(STYLE)
def growth_figure(growth: dict[str, list[dict[str, Any]]]) -> Figure:
    """Small multiples: measured growth of time and memory against each size, beside the predicted growth of time."""
    figure = Figure(figsize=(7.5, 7.5), layout="constrained")
    grid = figure.subplots(3, 3).flat
    for axes, size in zip(grid, SIZES, strict=False):
        points = [point for point in growth["curves"] if point["size"] == size]
        x = [point["value"] for point in points]
        temp = [point["temp_mb"] / points[0]["temp_mb"] for point in points]
        axes.plot(x, [point["predicted"] for point in points], "--", color=BLACK, label="operations (predicted time)")
        axes.plot(x, [point["growth"] for point in points], "o-", color=BLUE, label="time")
        axes.fill_between(
            x, [p["growth_low"] for p in points], [p["growth_high"] for p in points], color=BLUE, alpha=0.2, lw=0
        )
        axes.plot(x, temp, "s:", color=ORANGE, label="temporary memory")
        axes.set(xscale="log", yscale="log", title=f"{size}: {SIZES[size]}")
        axes.set_xticks(x, [str(value) for value in x])
        axes.xaxis.set_minor_formatter(NullFormatter())
        _plain_ticks(axes.yaxis)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    for axes in figure.axes[len(SIZES) :]:
        axes.remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
