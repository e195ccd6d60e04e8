"""What an exported model could take on a Jetson Orin Nano: operations and bytes of its graph against the hardware.

    python -m trm_jax.export.project                                       # the shapes of the model that ships
    python -m trm_jax.export.project --model runs/package/model.onnx --name package
    python -m trm_jax.export.project --preset paper                        # a token for every cell; minutes
    python -m trm_jax.export.project --quality docs/results/wafer-edge/results.csv   # a figure: time against quality

No Jetson was at hand: bounds follow from data sheets, and projections from what others have measured on one with other
models. Each such number says "projection, not measured"; `docs/jetson.md` says how to measure. Seconds on any machine.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import onnx
import pandas as pd
from google.protobuf.message import DecodeError

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.edge.format import Metadata
from trm_jax.export import graph
from trm_jax.export.measures import roofline
from trm_jax.export.measures.cost import count
from trm_jax.reporting.style import svg
from trm_jax.support.files import ROOT, replacing_directory, write_text
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.wafer.presets import PRESETS


@dataclass(frozen=True)
class Arguments:
    """Count a graph and write lower bounds and projections."""

    model: Path | None = None
    """An exported file without a loop (model.onnx, step.onnx, model_fp16.onnx); else the shapes of --preset."""
    preset: Literal["edge", "paper", "smoke"] = "edge"
    """Model of wafer_train.py to count, untrained, where no --model is given."""
    quality: Path | None = None
    """results.csv of wafer_evaluate.py: draw its macro-F1 after each step, and all presets, against projected time."""
    launch: tuple[float, float] = roofline.LAUNCH
    """Seconds to start a kernel: in a CUDA graph, and one by one."""
    name: str = "roofline"
    """Folder under --output."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""


def load(path: Path) -> onnx.ModelProto:
    """Read an exported file. Raises ValueError."""
    require(path.is_file(), f"no model at {path}")
    try:
        return onnx.load(path)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise ValueError(f"{path} is damaged, not an ONNX file or lacks weights.bin: {error}") from None


def untrained(preset: str, **options: Any) -> onnx.ModelProto:
    """The graph of a preset as `wafer_train.py` ships it by default, in two views."""
    config = Config().override(**PRESETS[preset], **{"model.encoder.views": 2}).override(**options)
    params = model.initialise(config.model, jax.random.key(0))
    grids = jnp.zeros(model.blank_inputs(config.model, 1).shape, jnp.float32)
    return graph.export(config, params, "model", Metadata([], {}, 1.0, 0.0, {}, {}, {}), grids)


def points(quality: Path) -> list[roofline.Point]:
    """The edge preset at every depth with its measured macro-F1, then the preset paper, on the board at 15 W in fp16.

    Raises ValueError for a file without scores of supervision steps.
    """
    require(quality.is_file(), f"no scores at {quality}; wafer_evaluate.py writes results.csv")
    try:
        table = pd.read_csv(quality)
        rows = table[(table["name"] == "all") & (table["score"] == "macro_f1")].set_index("part")[
            ["value", "low", "high"]
        ]
        steps = rows[rows.index.astype(str).str.fullmatch(r"step \d+")].astype(float)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{quality} is not a table of wafer_evaluate.py: {error}") from None
    require(len(steps) > 0, f"{quality} has no macro_f1 of supervision steps")

    def point(name: str, measured: Any, preset: str, **options: Any) -> roofline.Point:
        projection = roofline.project(count(untrained(preset, **options)), roofline.BOARDS[0], "fp16")
        return roofline.Point(name, projection, measured)

    depths = {part: int(str(part).removeprefix("step ")) for part in steps.index}
    measured = [point(part, tuple(steps.loc[part]), "edge", **{"recursion.N_sup": depths[part]}) for part in depths]
    return [*measured, point("preset paper", None, "paper")]


def run(arguments: Arguments) -> None:
    """Write roofline.md and roofline.json, and print the first."""
    require(0 <= arguments.launch[0] <= arguments.launch[1], f"launch must be a range of seconds, {arguments.launch}")
    directory = arguments.output / arguments.name
    if directory.exists() and not (directory / "roofline.json").is_file():
        raise ValueError(f"{directory} exists and holds no roofline; choose another --name")
    counted = count(load(arguments.model) if arguments.model else untrained(arguments.preset))
    title = arguments.model.name if arguments.model else f"preset {arguments.preset}, untrained"
    text, numbers = roofline.report(counted, title, arguments.launch)
    drawn = points(arguments.quality) if arguments.quality else []
    with replacing_directory(directory) as temporary:
        write_text(temporary / "roofline.md", text)
        write_text(temporary / "roofline.json", json.dumps(numbers | {"quality": drawn}, indent=1))
        if drawn:
            score = f"Macro-F1 on test wafers, 95 % interval\n{roofline.BOARDS[0].name}, fp16, two views of a wafer"
            write_text(temporary / "quality.svg", svg(roofline.quality_against_time(drawn, score)))
    print(text)


if __name__ == "__main__":
    main(Arguments, run, __doc__)
