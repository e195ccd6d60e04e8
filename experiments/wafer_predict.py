"""Classify wafer maps with a checkpoint: a class, a confidence, and whether a person should look, for every map.

    python experiments/wafer_predict.py --checkpoint checkpoints/wafer-edge --input LSWMD.pkl --output answers.csv
    python experiments/wafer_predict.py --checkpoint checkpoints/wafer-edge --input maps/ --output answers.csv \
        --threshold 0.9                                        # stop as soon as the model is sure
    python experiments/wafer_predict.py --preset smoke         # an untrained model on generated wafers: proves it runs

One row for every map of the input (.pkl, .npz, a prepared cache or a folder of CSV or PNG maps) with its probabilities;
broken maps get a row with the reason.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.support.cli import main
from trm_jax.support.schema import require
from trm_jax.training.processes import configure
from trm_jax.wafer.checkpoint import Calibration, Classifier, load_checkpoint
from trm_jax.wafer.classify import classify
from trm_jax.wafer.data import load
from trm_jax.wafer.maps import source
from trm_jax.wafer.maps.answers import check_output, decide, write_answers
from trm_jax.wafer.maps.plausible import inspect, parse_codes
from trm_jax.wafer.maps.unlike import doubted
from trm_jax.wafer.maps.validate import ReadResult
from trm_jax.wafer.presets import PRESETS
from trm_jax.wafer.task import WaferTask


@dataclass(frozen=True)
class Arguments:
    """Read maps, classify them and write a table."""

    checkpoint: Path | None = None
    """Directory of a checkpoint; needed unless --preset smoke."""
    input: Path | None = None
    """Maps to classify; needed unless --preset smoke."""
    output: Path = Path("answers.csv")
    """Table to write."""
    codes: str = ""
    """How the cells are coded where they are not 0, 1, 2: `swapped`, or such as pass=1,fail=0,outline=disc."""
    force: bool = False
    """Replace the table if it exists."""
    threshold: float | None = None
    """Stop a wafer after the first supervision step whose halting probability is above it; all steps if left out."""
    batch: int = 64
    """Maps that are classified at a time."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: an untrained model on 1,200 generated wafers."""


def prepare(arguments: Arguments) -> tuple[Classifier, ReadResult]:
    """Classifier and maps. Raises ValueError or FileNotFoundError."""
    if arguments.preset == "smoke":
        config = Config().override(**PRESETS["smoke"])
        params = model.initialise(config.model, jax.random.key(0))
        return Classifier(config, params, WaferTask(), Calibration()), ReadResult(load(smoke=True), [])
    if arguments.checkpoint is None or arguments.input is None:
        raise ValueError("give --checkpoint and --input, or --preset smoke")
    return load_checkpoint(arguments.checkpoint), source.read(arguments.input, sys.stderr.isatty(), to_classify=True)


def run(arguments: Arguments) -> None:
    """Classify all maps, write the table and print a summary."""
    batch, threshold = arguments.batch, arguments.threshold
    require(batch >= 1, f"--batch must be at least 1, got {batch}")
    require(threshold is None or 0 <= threshold <= 1, f"--threshold is a probability, got {threshold}")
    check_output(arguments.output, arguments.force)
    parse_codes(arguments.codes)
    classifier, read = prepare(arguments)
    maps, doubts, notes = inspect(read, arguments.codes, classifier.calibration.dies)
    for note in notes:
        print(note, file=sys.stderr)
    classified = classify(classifier, maps.wafers, threshold, batch)
    review_threshold, unlike = classifier.calibration.thresholds, classified.unlike
    doubts = doubts if unlike is None else doubted(doubts, unlike)
    write_answers(arguments.output, maps, classified.probabilities, classified.steps, review_threshold, doubts, unlike)
    count = len(maps.wafers)
    print(
        f"{maps.wafers.source}: {count:,} maps classified in {classified.seconds:.1f} s "
        f"({count / classified.seconds:,.0f} a second, compiling included), {classified.steps.mean():.2f} steps on "
        f"average, {decide(classified.probabilities, review_threshold, doubts).review.mean():.1%} for review "
        f"({len(doubts):,} maps with a reason), "
        f"{len(maps.rejected):,} broken; {arguments.output}"
    )


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
