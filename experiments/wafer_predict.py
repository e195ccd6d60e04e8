"""Classify wafer maps with a checkpoint: a class, a confidence, and whether a person should look, for every map.

    python experiments/wafer_predict.py --checkpoint checkpoints/wafer-edge --input LSWMD.pkl --output answers.csv
    python experiments/wafer_predict.py --checkpoint checkpoints/wafer-edge --input maps/ --output answers.csv \
        --threshold 0.9                                        # stop as soon as the model is sure
    python experiments/wafer_predict.py --preset smoke         # an untrained model on generated wafers: proves it runs

One row for every map of the input (a data set, a map or a folder of maps) with its probabilities; broken maps get a row
with the reason. --page writes a page to look at the answers. Maps unlike the training wafers are put in
clusters of those that are like each other. The exit code is 3 if maps were broken.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trm_jax.support.files import check_file
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure
from trm_jax.wafer.maps.answer_page import write_page
from trm_jax.wafer.maps.answers import BROKEN_MAPS, summary, write_answers
from trm_jax.wafer.maps.plausible import inspect, parse_codes
from trm_jax.wafer.maps.unlike import doubted

if TYPE_CHECKING:
    from trm_jax.wafer.checkpoint import Classifier
    from trm_jax.wafer.maps.validate import ReadResult


@dataclass(frozen=True)
class Arguments:
    checkpoint: Path | None = None
    """Directory of a checkpoint; needed unless --preset smoke."""
    input: Path | None = None
    """Maps to classify; needed unless --preset smoke."""
    pass_bins: str = ""
    """Bins of passing dies, such as 1 or 1,2, for files that have bins instead of the codes 0, 1, 2."""
    output: Path = Path("answers.csv")
    """Table to write."""
    codes: str = ""
    """How the cells are coded where they are not 0, 1, 2: `swapped`, or such as pass=1,fail=0,outline=disc."""
    page: Path | None = None
    """HTML page to write, with map, answer and second guess, and corrections to export."""
    force: bool = False
    """Replace the table and the page if they exist."""
    threshold: float | None = None
    """Stop a wafer after the first supervision step whose halting probability is above it; all steps if left out."""
    batch: int = 64
    """Maps that are classified at a time."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: an untrained model on 1,200 generated wafers."""


def prepare(arguments: Arguments) -> "tuple[Classifier, ReadResult]":
    """Classifier and maps. Raises ValueError or FileNotFoundError."""
    from trm_jax.wafer.checkpoint import load_checkpoint, untrained  # here: --help needs no jax
    from trm_jax.wafer.data import load
    from trm_jax.wafer.maps import source
    from trm_jax.wafer.maps.validate import ReadResult

    if arguments.preset == "smoke":
        ignored = [name for name in ("checkpoint", "input") if getattr(arguments, name) is not None]
        require(not ignored, f"--preset smoke has a model and maps of its own; leave out --{' and --'.join(ignored)}")
        return untrained(), ReadResult(load(smoke=True), [])
    if arguments.checkpoint is None or arguments.input is None:
        raise ValueError("give --checkpoint and --input, or --preset smoke")
    maps = source.read(arguments.input, sys.stderr.isatty(), to_classify=True, pass_bins=arguments.pass_bins)
    return load_checkpoint(arguments.checkpoint), maps


def run(arguments: Arguments) -> int:
    batch, threshold = arguments.batch, arguments.threshold
    require(batch >= 1, f"--batch must be at least 1, got {batch}")
    require(threshold is None or 0 <= threshold <= 1, f"--threshold is a probability, got {threshold}")
    check_file(arguments.output, arguments.force)
    if arguments.page:
        check_file(arguments.page, arguments.force, "--page")
    parse_codes(arguments.codes)
    from trm_jax.wafer.classify import classify
    from trm_jax.wafer.unknown.clusters import of_answers

    classifier, read = prepare(arguments)
    maps, doubts, notes = inspect(read, arguments.codes, classifier.calibration.dies)
    for note in notes:
        print(note, file=sys.stderr)
    print(f"classifying {len(maps.wafers):,} maps, after compiling", file=sys.stderr)
    classified = classify(classifier, maps.wafers, threshold, batch, shown=sys.stderr.isatty())
    review_threshold, unlike = classifier.calibration.thresholds, classified.unlike
    doubts = doubts if unlike is None else doubted(doubts, unlike)
    cluster = of_answers(classifier.unlike, classified)
    answered = (maps, classified.probabilities, classified.steps, review_threshold, doubts)
    write_answers(arguments.output, *answered, unlike, cluster)
    if arguments.page:
        write_page(arguments.page, *answered, cluster)
    count = len(maps.wafers)
    print(
        f"{maps.wafers.source}: {count:,} maps classified in {classified.seconds:.1f} s "
        f"({count / classified.seconds:,.0f} a second, compiling included), {classified.steps.mean():.2f} steps on "
        f"average; {arguments.output}{f' and {arguments.page}' if arguments.page else ''}\n"
        f"{summary(maps, classified.probabilities, review_threshold, doubts, cluster)}"
    )
    return BROKEN_MAPS if maps.rejected else 0


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
