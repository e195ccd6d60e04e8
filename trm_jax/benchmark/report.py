"""The results of a benchmark as JSON, Markdown and figures."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from trm_jax.benchmark.growth import Growth, figure
from trm_jax.benchmark.rows import PEERS, Row
from trm_jax.reporting import markdown
from trm_jax.reporting.style import BLACK, BLUE, ORANGE, STYLE, svg
from trm_jax.support.files import write_text

MARKERS = {PEERS["eager"]: ("o", BLUE), PEERS["compiled"]: ("s", ORANGE)}


@dataclass
class Results:
    """What a run of the benchmark measured."""

    preset: str
    rows: list[Row]
    start: list[dict[str, Any]]
    memory: list[dict[str, Any]]
    growth: Growth
    peak_gflops: float | None
    minutes: float
    provenance: dict[str, str]


def report(results: Results) -> str:
    """All results as Markdown."""
    parts = [
        "# Benchmark",
        markdown.bullets(f"{name}: `{value}`" for name, value in results.provenance.items()),
        f"{results.minutes:.0f} minutes. Ratio: our time over the other's, median of rounds in which the two take "
        "turns, with the lowest and the highest round; below 1 we are faster. GFLOP/s counts matrix products of the "
        "forward and backward pass, without recomputation; peak is a 2048x2048 float32 matrix product in the same "
        "round" + (f", at best {results.peak_gflops:.0f} GFLOP/s." if results.peak_gflops else "."),
    ]
    if results.rows:
        columns = ["Case", "Ours, ms", "Against", "Its ms", "Ratio (range)", "GFLOP/s", "Of peak", "Note"]
        parts.append(markdown.table(columns, map(_cells, results.rows)))
    if results.start:
        rows = [[row["name"], f"{row['seconds']:.1f}", row["note"]] for row in results.start]
        columns = ["Start of a process to the end of its first step", "Seconds", "Note"]
        parts += ["## Start", markdown.table(columns, rows)]
    if results.memory:
        rows = [[m["name"], m["side"], _number(m.get("temp_mb")), _number(m["peak_mb"])] for m in results.memory]
        columns = ["Case", "Side", "Temporary of the compiled step, MB", "Peak of the process, MB"]
        parts += ["## Memory", markdown.table(columns, rows)]
    if results.growth.curves:
        parts += ["## Growth", results.growth.report()]
    return "\n\n".join(parts) + "\n"


def _cells(row: Row) -> list[str]:
    """Our time beside the peer's, the ratio with its range over rounds, and the share of the matrix product."""
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} ({row.ratio_low:.2f} to {row.ratio_high:.2f})"
    share = "" if row.share is None else f"{row.share:.0%}"
    times = [_number(row.ours_ms), row.peer, _number(row.peer_ms)]
    return [row.name, *times, ratio, _number(row.gflops), share, row.note]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def write(directory: Path, results: Results) -> None:
    """Write benchmark.json, benchmark.md and the figures."""
    directory.mkdir(parents=True, exist_ok=True)
    growth = {name: [row._asdict() for row in rows] for name, rows in vars(results.growth).items()}
    plain = asdict(results) | {"growth": growth, "growth_excesses": results.growth.excesses}
    write_text(directory / "benchmark.json", json.dumps(plain, indent=1))
    write_text(directory / "benchmark.md", report(results))
    if any(row.peer in MARKERS for row in results.rows):
        write_text(directory / "ratios.svg", svg(ratio_figure(results.rows)))
    if results.growth.curves:
        write_text(directory / "growth.svg", svg(figure(results.growth)))


@matplotlib.rc_context(STYLE)
def ratio_figure(rows: list[Row]) -> Figure:
    """Ratios to PyTorch with their range over rounds, and a line where both take the same time."""
    names = list(dict.fromkeys(row.name for row in rows if row.peer in MARKERS))
    figure = Figure(figsize=(6.5, 1.4 + 0.24 * len(names)), layout="constrained")
    axes = figure.subplots()
    for peer, (marker, colour) in MARKERS.items():
        values = np.array([(r.ratio, r.ratio_low, r.ratio_high) for r in rows if r.peer == peer], float).reshape(-1, 3)
        if not len(values):
            continue
        ratio, low, high = values.T
        y = [names.index(row.name) for row in rows if row.peer == peer]
        axes.errorbar(
            ratio, y, xerr=[ratio - low, high - ratio], fmt=marker, color=colour, ms=5, lw=1.4, label=f"against {peer}"
        )
    axes.axvline(1, color=BLACK, lw=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # less than two decades
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0.1)
    figure.supxlabel("Our time over PyTorch's; left of the line we are faster", fontsize=10)
    figure.legend(loc="outside upper center", ncols=2)
    return figure
