"""What a model could take on a Jetson Orin Nano: lower bounds by data sheets, projections by published measurements."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from trm_jax.export.measures.cost import Cost
from trm_jax.reporting import markdown
from trm_jax.reporting.style import BLUE, ORANGE, STYLE

WORDS = "projection, not measured"


class Board(NamedTuple):
    """A Jetson Orin Nano in one power mode, dense arithmetic, by its data sheet."""

    name: str
    fp16: float
    """Operations a second on tensor cores."""
    int8: float
    vector: float
    """Operations a second outside of products, in float32."""
    bandwidth: float
    """Bytes a second."""
    watts: float


BOARDS = (
    Board("Orin Nano, 15 W", 10e12, 20e12, 1.28e12, 68e9, 15.0),
    Board("Orin Nano Super, 25 W", 17e12, 33e12, 2.1e12, 102e9, 25.0),
)
LAUNCH = (2e-6, 8e-6)
"""Seconds to start a kernel, assumed: recorded in a CUDA graph, and one by one."""


class Anchor(NamedTuple):
    """A published measurement on an Orin Nano at 15 W in float16."""

    name: str
    flops: float
    seconds: float


ANCHORS = (
    # The products of 12 layers of width 192 on 197 tokens, and of 196 patches of 16 x 16 in three colours.
    Anchor(
        "ViT-Tiny, 197 tokens, JetPack 6.0",
        2.0 * (12 * (12 * 192**2 * 197 + 2 * 197**2 * 192) + 196 * 3 * 16**2 * 192),
        3.115e-3,
    ),
    Anchor("ResNet-18, slowest published", 3.64e9, 2.0e-3),
    Anchor("ResNet-18, fastest published", 3.64e9, 0.76e-3),
)


class Projection(NamedTuple):
    """One board and precision; seconds, and millijoules at the whole power budget."""

    board: str
    precision: str
    bound: float
    low: float
    high: float
    millijoule: tuple[float, float]


def project(cost: Cost, board: Board, precision: str, launch: tuple[float, float] = LAUNCH) -> Projection:
    """Lower bound, and a range: the fastest anchor's rate with a CUDA graph, the slowest's without one.

    The bound is the larger of arithmetic at full speed and of moving what crosses kernels at full bandwidth.
    """
    size = 1 if precision == "int8" else 2
    moving = (2 * cost.other_traffic + size * (cost.product_reads + cost.weights)) / board.bandwidth
    arithmetic = cost.product_flops / getattr(board, precision) + (cost.flops - cost.product_flops) / board.vector
    bound = max(arithmetic, moving)
    rates = [anchor.flops / anchor.seconds * board.bandwidth / BOARDS[0].bandwidth for anchor in ANCHORS]
    low = max(bound, cost.product_flops / max(rates)) + cost.kernels * launch[0]
    high = max(bound, cost.product_flops / min(rates)) + cost.kernels * launch[1]
    return Projection(board.name, precision, bound, low, high, (1e3 * board.watts * low, 1e3 * board.watts * high))


def report(cost: Cost, title: str, launch: tuple[float, float]) -> tuple[str, dict[str, Any]]:
    """The report as Markdown, and its numbers."""
    projections = [project(cost, board, precision, launch) for board in BOARDS for precision in ("fp16", "int8")]
    sentences = [
        f"{cost.product_flops / 1e9:.3f} GFLOP in products a sample, {cost.flops / 1e9:.3f} in all, {cost.nodes:,} "
        "nodes.",
        f"About {cost.kernels} kernels, if all that lies between two products is one kernel ({WORDS}).",
        *(f"Published: {a.name}, {a.flops / 1e9:.2f} GFLOP in {1e3 * a.seconds:.3f} ms." for a in ANCHORS),
        f"Assumed: {1e6 * launch[0]:g} us to start a kernel in a CUDA graph (low), {1e6 * launch[1]:g} us without "
        "(high); the rate of the fastest published model (low) and of the slowest (high), scaled by bandwidth for "
        "Super. Energy is time at the whole power budget.",
    ]
    columns = ["Board", "Precision", "Lower bound, ms", "Time of a sample, ms", "Energy of a sample, mJ"]
    rows = [
        [p.board, p.precision, f"{1e3 * p.bound:.3f} ({WORDS})", f"{1e3 * p.low:.2f} to {1e3 * p.high:.2f} ({WORDS})",
         f"{p.millijoule[0]:.1f} to {p.millijoule[1]:.1f} ({WORDS})"] for p in projections
    ]  # fmt: skip
    text = [f"# Roofline of {title}: {WORDS}", markdown.bullets(sentences), markdown.table(columns, rows)]
    numbers = {"note": WORDS, "graph": title, **cost._asdict(), "projections": [p._asdict() for p in projections]}
    return "\n\n".join(text) + "\n", numbers


class Point(NamedTuple):
    """A model, or a depth of one, on the figure."""

    name: str
    time: Projection
    quality: tuple[float, float, float] | None
    """Measured score with the ends of its interval; None where it was not trained."""


@matplotlib.rc_context(STYLE)
def quality_against_time(points: Sequence[Point], score: str) -> Figure:
    """Ranges of projected time, at the height of the measured score with its interval.

    What was not trained is a band over all heights.
    """
    figure = Figure((7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    for point in points:
        low, high = 1e3 * point.time.low, 1e3 * point.time.high
        if point.quality is None:
            axes.axvspan(low, high, color=ORANGE, alpha=0.3, lw=0, label=f"{point.name}, not trained")
            continue
        value, *ends = point.quality
        axes.plot([low, high], [value, value], color=BLUE, lw=5, alpha=0.35, solid_capstyle="butt")
        axes.plot([(low * high) ** 0.5] * 2, ends, color=BLUE, lw=1, marker="_")
        axes.annotate(point.name, (low, value), (-4, 0), textcoords="offset points", ha="right", va="center", size=8)
    axes.set(xscale="log", xlabel=f"Milliseconds a sample, best to worst case ({WORDS})", ylabel=score)
    axes.legend(loc="lower right")
    return figure
