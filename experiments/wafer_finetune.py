"""Adapt a checkpoint to labelled wafers of one's own fab, and ship it only if no class got worse on held-out lots.

    python experiments/wafer_finetune.py --checkpoint checkpoints/wafer-edge --input maps/ --labels labels.csv \
        --output checkpoints/our-fab
    python experiments/wafer_finetune.py --preset smoke        # generated wafers, under a minute: proves that it runs

Labels are those of a review (python -m trm_jax.edge review), of a page of answers (wafer_predict.py --page), or of the
source itself. A quarter of the lots is held out and measured before and after; a quarter chooses the weights, among
averages of those of the checkpoint and the trained ones. Thresholds stay those of the checkpoint. Where nothing is
gained, or a class got worse, nothing is written, and the exit code is 1.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trm_jax.support.files import check_folder, refuse_existing
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure

if TYPE_CHECKING:
    from trm_jax.wafer.maps.wafers import Wafers


@dataclass(frozen=True)
class Arguments:
    checkpoint: Path | None = None
    """Checkpoint to begin with; needed unless --preset smoke."""
    input: Path | None = None
    """Maps of the fab, as `wafer_predict.py` takes them; needed unless --preset smoke."""
    labels: Path | None = None
    """CSV file with columns row and label; the labels of the source if not given."""
    output: Path | None = None
    """Checkpoint to write, a new directory; needed unless --preset smoke."""
    pass_bins: str = ""
    """Bins of passing dies, such as 1 or 1,2, for files that have bins instead of the codes 0, 1, 2."""
    codes: str = ""
    """How the cells are coded where they are not 0, 1, 2: `swapped`, or such as pass=1,fail=0,outline=disc."""
    steps: int | None = None
    """Updates of the weights; 300, with --preset smoke 20."""
    lr: float = 1e-3
    """Peak learning rate of the read-out, which alone is trained."""
    tolerance: float = 0.01
    """How much lower F1 of a class may be on the held-out lots before the new weights are refused."""
    held_out: Literal[0, 1, 2, 3] = 0
    """Which quarter of the lots is held out."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: an untrained model and generated wafers."""


def prepare(arguments: Arguments, folder: Path) -> "tuple[Path, Path, Wafers]":
    """Checkpoint to begin with, checkpoint to write, and wafers with their labels. Raises ValueError."""
    from trm_jax.wafer.checkpoint import load_checkpoint, save_checkpoint, untrained  # here: --help needs no jax
    from trm_jax.wafer.data import SMOKE_RUN, load
    from trm_jax.wafer.maps import source
    from trm_jax.wafer.maps.plausible import inspect
    from trm_jax.wafer.release.finetune import labelled

    checkpoint, maps, labels, output = arguments.checkpoint, arguments.input, arguments.labels, arguments.output
    if output:
        check_folder(output)
    if arguments.preset == "smoke":
        require(
            not (checkpoint or maps or labels), "--preset smoke has a model and wafers of its own; leave out others"
        )
        save_checkpoint(folder / "untrained", untrained(), "# Untrained\n", {})
        return folder / "untrained", output or SMOKE_RUN.with_name("wafer-smoke-adapted"), load(smoke=True)
    if checkpoint is None or maps is None or output is None:
        raise ValueError("give --checkpoint, --input and --output, or --preset smoke")
    refuse_existing(output)
    known = load_checkpoint(checkpoint)
    members = known.config.model.members
    require(members == 1, f"{checkpoint} is {members} nets that answer together; adapt one net, such as wafer-plain")
    found = source.read(maps, sys.stderr.isatty(), to_classify=labels is not None, pass_bins=arguments.pass_bins)
    read = inspect(found, arguments.codes, known.calibration.dies).read
    return checkpoint, output, labelled(read, labels) if labels else read.wafers


def run(arguments: Arguments) -> bool:
    from trm_jax.wafer.checkpoint import load_checkpoint
    from trm_jax.wafer.release import finetune

    smoke = arguments.preset == "smoke"
    steps = arguments.steps if arguments.steps is not None else 20 if smoke else 300
    require(steps >= 1, f"--steps must be at least 1, got {steps}")
    require(0 <= arguments.tolerance < 1, f"--tolerance is a difference of F1, 0 to 1, got {arguments.tolerance}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint, output, wafers = prepare(arguments, folder)
        split = finetune.split_lots(wafers, arguments.held_out)
        classifier = load_checkpoint(checkpoint)
        options = finetune.options(steps, arguments.lr, len(split.train))
        trained = finetune.adapt(classifier, checkpoint, wafers, split, options, folder / "run")
        adapted = finetune.averaged(classifier, trained, wafers, split)
        before = finetune.measure(classifier, wafers, split.test)
        after = finetune.measure(adapted.classifier, wafers, split.test) if adapted.share else before
        report = finetune.report(before, after, adapted, wafers, split)
        print(report)
        refused = finetune.refusal(adapted, before, after, wafers.label[split.test], arguments.tolerance)
        if refused and not smoke:
            print(f"not written: {refused}", file=sys.stderr)
            return False
        finetune.save(output, adapted.classifier, checkpoint, report, wafers.source, replace=smoke)
    print(f"{output}; for a device: python experiments/export_onnx.py --checkpoint {output} --output {output}/onnx")
    return True


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
