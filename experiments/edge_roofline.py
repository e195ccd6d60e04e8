"""What an exported model could take on a Jetson Orin Nano: operations and bytes of its graph against the hardware.

    python experiments/edge_roofline.py                                       # the shapes of the model that ships
    python experiments/edge_roofline.py --model runs/package/model.onnx --name package
    python experiments/edge_roofline.py --preset paper                        # a token for every cell; minutes
    python experiments/edge_roofline.py --quality docs/results/wafer-edge/results.csv   # a figure: time against quality

No Jetson was at hand: bounds follow from data sheets, and projections from what others have measured on one with other
models. Each such number says "projection, not measured"; `docs/jetson.md` says how to measure. Seconds on any machine.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import onnx
import pandas as pd
from google.protobuf.message import DecodeError

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.edge.package import Metadata
from trm_jax.export import graph as export
from trm_jax.export.cost import Counted, count, is_product, traffic, units
from trm_jax.export.roofline import Point, quality_against_time
from trm_jax.reporting import markdown
from trm_jax.reporting.interval import Interval
from trm_jax.reporting.style import svg
from trm_jax.support.cli import main
from trm_jax.support.files import replacing_directory, write_text
from trm_jax.support.schema import require
from trm_jax.wafer.maps.maps import CLASSES
from trm_jax.wafer.presets import PRESETS

ROOT = Path(__file__).resolve().parent.parent
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


def vit_flops(width: int, tokens: int, layers: int, patch: int) -> float:
    """Operations of the products of a plain vision transformer with a class token."""
    layer = 12 * width**2 * tokens + 2 * tokens**2 * width
    return 2 * (layers * layer + (tokens - 1) * 3 * patch**2 * width)


ANCHORS = (
    Anchor("ViT-Tiny, 197 tokens, JetPack 6.0", vit_flops(192, 197, 12, 16), 3.115e-3),
    Anchor("ResNet-18, slowest published", 3.64e9, 2.0e-3),
    Anchor("ResNet-18, fastest published", 3.64e9, 0.76e-3),
)


@dataclass(frozen=True)
class Arguments:
    """Count a graph and write lower bounds and projections."""

    model: Path | None = None
    """An exported file without a loop (model.onnx, step.onnx, model_fp16.onnx); else the shapes of --preset."""
    preset: Literal["edge", "paper", "smoke"] = "edge"
    """Model of wafer_train.py to count, untrained, where no --model is given."""
    quality: Path | None = None
    """results.csv of wafer_evaluate.py: draw its macro-F1 after each step, and all presets, against projected time."""
    top: int = 8
    """Nodes with the most operations to list."""
    launch: tuple[float, float] = LAUNCH
    """Seconds to start a kernel: in a CUDA graph, and one by one."""
    name: str = "roofline"
    """Folder under --output."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""


class Projection(NamedTuple):
    """One board, precision and kind of attention; seconds."""

    board: str
    precision: str
    attention: str
    bound: float
    low: float
    high: float
    millijoule: tuple[float, float]


def project(
    counted: Counted, board: Board, precision: str, fused: bool, launch: tuple[float, float] = LAUNCH
) -> Projection:
    """Lower bound, and a range: the fastest anchor's rate with a CUDA graph, the slowest's without one.

    The bound is the larger of arithmetic at full speed and of moving what crosses kernels at full bandwidth.
    """
    moved = traffic(counted, units(counted, fused))
    products = sum(node.flops for node in counted.nodes if is_product(node))
    others = sum(node.flops for node in counted.nodes) - products
    size = 1 if precision == "int8" else 2
    moving = (2 * moved.others + size * (moved.products + moved.weights)) / board.bandwidth
    arithmetic = products / getattr(board, precision) + others / board.vector
    bound = max(arithmetic, moving)
    gain = board.bandwidth / BOARDS[0].bandwidth
    rates = sorted(anchor.flops / anchor.seconds * gain for anchor in ANCHORS)
    low = max(bound, products / rates[-1]) + moved.kernels * launch[0]
    high = max(bound, products / rates[0]) + moved.kernels * launch[1]
    energy = (1e3 * board.watts * low, 1e3 * board.watts * high)
    return Projection(board.name, precision, "fused" if fused else "separate", bound, low, high, energy)


def graph_of(arguments: Arguments) -> tuple[onnx.ModelProto, str]:
    """The graph to count and what it is."""
    if arguments.model is not None:
        require(arguments.model.is_file(), f"no model at {arguments.model}")
        try:
            return onnx.load(arguments.model), arguments.model.name
        except (DecodeError, onnx.checker.ValidationError) as error:
            raise ValueError(f"{arguments.model} is damaged, no ONNX file or lacks weights.bin: {error}") from None
    return untrained(arguments.preset), f"preset {arguments.preset}, untrained"


def untrained(preset: str, **options: Any) -> onnx.ModelProto:
    """The graph of a preset as `wafer_train.py` ships it by default, in two views."""
    config = Config().override(**PRESETS[preset], **{"model.views": 2}).override(**options)
    params = model.initialise(config.model, jax.random.key(0))
    about = Metadata(list(CLASSES), {}, 1.0, 0.0, {}, {}, {})
    return export.export(config, params, "model", about)


def points(quality: Path) -> list[Point]:
    """The edge preset at every depth with its measured macro-F1, then the preset paper, on the board at 15 W in fp16.

    Raises ValueError for a file without scores of supervision steps.
    """
    require(quality.is_file(), f"no scores at {quality}; wafer_evaluate.py writes results.csv")
    try:
        table = pd.read_csv(quality)
    except ValueError as error:
        raise ValueError(f"{quality} is no table of wafer_evaluate.py: {error}") from None
    columns = {"part", "name", "score", "value", "low", "high"}
    require(columns <= set(table), f"{quality} has no columns {', '.join(sorted(columns - set(table)))}")
    steps = table[
        (table["name"] == "all") & (table["score"] == "macro_f1") & table["part"].astype(str).str.fullmatch(r"step \d+")
    ]
    require(len(steps) > 0, f"{quality} has no macro_f1 of supervision steps")

    def point(name: str, found: Interval | None, preset: str, **options: Any) -> Point:
        row = project(count(untrained(preset, **options)), BOARDS[0], "fp16", False)
        return Point(name, 1e3 * row.low, 1e3 * row.high, found)

    made = []
    for row in steps.itertuples():
        depth = int(str(row.part).removeprefix("step "))
        measured = Interval(float(row.value), float(row.low), float(row.high))
        made.append(point(str(depth), measured, "edge", **{"recursion.N_sup": depth}))
    return [*made, point("preset paper", None, "paper")]


def report(counted: Counted, title: str, arguments: Arguments) -> tuple[str, dict[str, Any]]:
    """The report as Markdown, and its numbers."""
    products = sum(node.flops for node in counted.nodes if is_product(node))
    attention = {fused: traffic(counted, units(counted, fused)) for fused in (False, True)}
    rows = [
        project(counted, board, precision, fused, arguments.launch)
        for board in BOARDS for precision in ("fp16", "int8") for fused in (False, True)
    ]  # fmt: skip
    biggest = sorted(counted.nodes, key=lambda node: -node.flops)[: arguments.top]
    launches = [f"{1e6 * seconds:g} us" for seconds in arguments.launch]
    says = [
        f"{products / 1e9:.3f} GFLOP in products a sample, {sum(n.flops for n in counted.nodes) / 1e9:.3f} in all, "
        f"{len(counted.nodes):,} nodes.",
        f"About {attention[False].kernels} kernels, {attention[True].kernels} with fused attention, if all that lies "
        f"between two products is one kernel ({WORDS}).",
        *(f"Published: {one.name}, {one.flops / 1e9:.2f} GFLOP in {1e3 * one.seconds:.3f} ms." for one in ANCHORS),
        f"Assumed: {launches[0]} to start a kernel in a CUDA graph (low), {launches[1]} without (high); the rate of "
        "the fastest published model (low) and of the slowest (high), scaled by bandwidth for Super. Energy is time at "
        "the whole power budget.",
    ]  # fmt: skip
    table = [
        [row.board, row.precision, row.attention, f"{1e3 * row.bound:.3f} ({WORDS})",
         f"{1e3 * row.low:.2f} to {1e3 * row.high:.2f} ({WORDS})",
         f"{row.millijoule[0]:.1f} to {row.millijoule[1]:.1f} ({WORDS})"]
        for row in rows
    ]  # fmt: skip
    columns = ["Board", "Precision", "Attention", "Lower bound, ms", "Time of a sample, ms", "Energy of a sample, mJ"]
    nodes = [[node.kind, f"{node.flops / 1e6:.3f}", ", ".join(node.weights)[:60]] for node in biggest]
    text = [
        f"# Roofline of {title}: {WORDS}",
        markdown.bullets(says),
        markdown.table(columns, table),
        "Nodes with the most operations:",
        markdown.table(["Node", "MFLOP", "Weight"], nodes),
    ]
    numbers: dict[str, Any] = {
        "note": WORDS, "graph": title, "product_flops": products, "kernels": attention[False].kernels,
        "kernels_fused": attention[True].kernels, "projections": [row._asdict() for row in rows],
    }  # fmt: skip
    return "\n\n".join(text) + "\n", numbers


def run(arguments: Arguments) -> None:
    """Write roofline.md and roofline.json, and print the first."""
    require(0 <= arguments.launch[0] <= arguments.launch[1], f"launch must be a range of seconds, {arguments.launch}")
    directory = arguments.output / arguments.name
    if directory.exists() and not (directory / "roofline.json").is_file():
        raise ValueError(f"{directory} exists and holds no roofline; choose another --name")
    graph, title = graph_of(arguments)
    text, numbers = report(count(graph), title, arguments)
    drawn = points(arguments.quality) if arguments.quality else []
    if drawn:
        numbers["quality"] = [point._asdict() for point in drawn]
    with replacing_directory(directory) as temporary:
        write_text(temporary / "roofline.md", text)
        write_text(temporary / "roofline.json", json.dumps(numbers, indent=1))
        if drawn:
            note = f"{BOARDS[0].name}, fp16, two views of a wafer"
            write_text(temporary / "quality.svg", svg(quality_against_time(drawn, note)))
    print(text)


if __name__ == "__main__":
    main(Arguments, run, __doc__)
