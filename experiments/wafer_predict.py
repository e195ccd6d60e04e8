"""Classify wafer maps with a checkpoint: a class, a confidence, and whether a person should look, for every map.

    python experiments/wafer_predict.py --checkpoint checkpoints/wafer-edge --input LSWMD.pkl --output answers.csv
    python experiments/wafer_predict.py --checkpoint checkpoints/wafer-edge --input maps/ --output answers.csv \
        --threshold 0.9                                        # stop as soon as the model is sure
    python experiments/wafer_predict.py --preset smoke         # an untrained model on generated wafers: proves it runs

One row for every map of the input (.pkl, .npz, a prepared cache or a folder of CSV or PNG maps) with its probabilities;
broken maps get a row with the reason.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.support.cli import main
from trm_jax.support.schema import require
from trm_jax.training.processes import configure
from trm_jax.wafer.checkpoint import Calibration, Shipped, load_checkpoint
from trm_jax.wafer.classify import classify
from trm_jax.wafer.maps import source
from trm_jax.wafer.maps.answers import check_output, decide, write_answers
from trm_jax.wafer.maps.validate import ReadResult
from trm_jax.wafer.presets import PRESETS
from trm_jax.wafer.synthetic import synthetic_wafers

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Arguments:
    """Read maps, classify them and write a table."""

    checkpoint: Path | None = None
    """Directory of a checkpoint; needed unless --preset smoke."""
    input: Path | None = None
    """Maps to classify; needed unless --preset smoke."""
    output: Path = Path("answers.csv")
    """Table to write."""
    force: bool = False
    """Replace the table if it exists."""
    threshold: float | None = None
    """Stop a wafer after the first supervision step whose halting probability is above it; all steps if left out."""
    batch: int = 64
    """Maps that are classified at a time."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: an untrained model on 300 generated wafers."""


def prepare(arguments: Arguments) -> tuple[Shipped, ReadResult]:
    """Checkpoint and maps. Raises ValueError or FileNotFoundError."""
    if arguments.preset == "smoke":
        config = Config().override(**PRESETS["smoke"])
        return Shipped(config, model.initialise(config.model, jax.random.key(0)), Calibration()), ReadResult(
            synthetic_wafers(300), []
        )
    if arguments.checkpoint is None or arguments.input is None:
        raise ValueError("give --checkpoint and --input, or --preset smoke")
    return load_checkpoint(arguments.checkpoint), source.read(arguments.input, sys.stderr.isatty(), to_classify=True)


def run(arguments: Arguments) -> None:
    """Classify all maps, write the table and say what came out."""
    require(arguments.batch >= 1, f"--batch must be at least 1, got {arguments.batch}")
    require(
        arguments.threshold is None or 0 <= arguments.threshold <= 1,
        f"--threshold is a probability, got {arguments.threshold}",
    )
    check_output(arguments.output, arguments.force)
    shipped, loaded = prepare(arguments)
    begun = time.perf_counter()
    found = classify(shipped, loaded.wafers, arguments.threshold, arguments.batch)
    seconds = time.perf_counter() - begun
    threshold = shipped.calibration.review_threshold
    write_answers(arguments.output, loaded, found.probabilities, found.steps, threshold)
    count = len(loaded.wafers)
    print(
        f"{loaded.wafers.source}: {count:,} maps classified in {seconds:.1f} s ({count / seconds:,.0f} a second, "
        f"compiling included), {np.mean(found.steps):.2f} steps on average, "
        f"{np.mean(decide(found.probabilities, threshold).review):.1%} for review, {len(loaded.rejected):,} broken; "
        f"{arguments.output}"
    )


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
