"""Teach a wafer classifier to doubt: a score for maps unlike its training wafers, and a threshold for each class.

    python experiments/wafer_unlike.py --checkpoint checkpoints/wafer-edge
    python experiments/wafer_unlike.py --checkpoint runs/wafer-2-without-Donut/lot-3/weights-2 --fold 3 --left-out Donut
    python experiments/wafer_unlike.py --lean                          # every pattern in turn, 4 processor minutes each
    python experiments/wafer_unlike.py --frontier                      # what doubting more costs and gains

The second measures a pattern that a run never trained on (`wafer_train.py --leave-out`). The third trains such weights
itself, with a fifteenth of the updates, one pattern after the other (--left-out: that one alone); again, it goes on
where it was. Thresholds that the checkpoint has stay (`wafer_ship.py --folds` sets them); with --folds they become
those of a cross-validation's test wafers, which chose no weights; without either they are those of the held-out wafers.
The score is fitted on training wafers, mixes of two of them, and drawings over them; its limits on the held-out wafers.
Printed: what of unknown maps is still decided automatically, the AUROC against held-out wafers with a pattern, and how
often automatic answers are wrong for each class and in the worst block.
"""

import json
from dataclasses import asdict, replace

from trm_jax.support.checksums import SUMS, write_sums
from trm_jax.support.files import check_folder, write_text
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure
from trm_jax.wafer.data import load
from trm_jax.wafer.maps.unlike import UNLIKE, save_unlike
from trm_jax.wafer.unknown import measure as unknown

Arguments = unknown.UnlikeSettings


def run(arguments: Arguments) -> None:
    from trm_jax.wafer.checkpoint import CALIBRATION, load_checkpoint  # here: --help needs no jax
    from trm_jax.wafer.evaluation.trust.readiness import by_class
    from trm_jax.wafer.unknown.fit import Sizes

    smoke = arguments.preset == "smoke"
    arguments = replace(arguments, count=30) if smoke else arguments
    require(arguments.updates >= 1, f"--updates must be at least 1, got {arguments.updates}")
    if arguments.lean:
        check_folder(arguments.output)
    wafers = load(arguments.data, smoke)
    if arguments.lean:
        return unknown.run_lean(arguments, wafers)
    classifier = unknown.threshold_of(load_checkpoint(arguments.checkpoint))
    check_folder(arguments.checkpoint, "--checkpoint")
    if arguments.folds:
        classifier = unknown.calibrated(classifier, arguments, wafers)
    split = unknown.choose_split(wafers, arguments)
    text, unlike, held = unknown.measure(
        arguments, wafers, classifier, split, Sizes(**(unknown.SMOKE if smoke else {}))
    )
    print(text, end="\n\n")
    if arguments.frontier:
        return
    limits = classifier.calibration.class_thresholds
    calibration, text = by_class(classifier.calibration, held, wafers.take(split.validation), arguments.promise, limits)
    print(text)
    if not arguments.left_out and not smoke:
        save_unlike(arguments.checkpoint / UNLIKE, unlike)
        write_text(arguments.checkpoint / CALIBRATION, json.dumps(asdict(calibration), indent=2) + "\n")
        sums = arguments.checkpoint / SUMS
        listed = [line.split()[1] for line in sums.read_text(encoding="utf-8").splitlines()] if sums.exists() else []
        if listed:
            write_sums(arguments.checkpoint, sorted({*listed, UNLIKE}))
        print(f"written to {arguments.checkpoint}: {UNLIKE}, {CALIBRATION}")


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
