"""Teach a wafer classifier to doubt: a score for maps unlike its training wafers, and a threshold for each class.

    python experiments/wafer_unlike.py --checkpoint checkpoints/wafer-edge
    python experiments/wafer_unlike.py --checkpoint runs/wafer-2-without-Donut/lot-3/weights-2 --fold 3 --left-out Donut
    python experiments/wafer_unlike.py --lean                          # every pattern in turn, 4 processor minutes each
    python experiments/wafer_unlike.py --frontier                      # what doubting more costs and gains

The second measures a pattern that a run never trained on (`wafer_train.py --leave-out`). The third trains such weights
itself, with a fifteenth of the updates, one pattern after the other (--left-out: that one alone); again, it goes on
where it was. With --folds the checkpoint's temperature and thresholds become those of a cross-validation's test wafers,
which chose no weights. The score is fitted on training wafers, mixes of two of them, and drawings over them; its limits
and the thresholds on the held-out wafers. Printed: what of unknown maps is still decided automatically, the AUROC
against held-out wafers with a pattern, and how often automatic answers are wrong for each class and in the worst block.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from trm_jax.support.checksums import SUMS, write_sums
from trm_jax.support.files import write_text
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure
from trm_jax.wafer.data import load
from trm_jax.wafer.maps.answers import decide
from trm_jax.wafer.maps.unlike import UNLIKE, Unlike, save_unlike
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.splits import Split, all_lots, folds
from trm_jax.wafer.unknown.left_out import UNKNOWNS, drawn
from trm_jax.wafer.unknown.synthetic import mixed_wafers

if TYPE_CHECKING:
    from trm_jax.wafer.checkpoint import Classifier
    from trm_jax.wafer.classify import Classified
    from trm_jax.wafer.unknown.fit import Sizes

ROOT = Path(__file__).resolve().parent.parent
UNCALIBRATED = 0.835
"""Review threshold of weights that have none: that of the checkpoint that ships."""
SMOKE = {"train": 300, "mixes": 60, "drawings": 10, "hidden": 8}


@dataclass(frozen=True)
class Arguments:
    """Fit the score, measure it, and write it beside the weights."""

    checkpoint: Path = ROOT / "checkpoints" / "wafer-edge"
    """Checkpoint, or weights of a run."""
    data: Path | None = None
    """The wafers that it was trained on: cache, .npz, .pkl or folder; else $TRM_DATA, or ../shared/data."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: generated wafers and a small score, which is not written."""
    cost: float = 0.02
    """Share of the held-out wafers that lose their automatic decision."""
    alpha: float = 0.03
    """Error rate that automatic answers of a predicted class stay under in new blocks of lots, with probability 0.9."""
    fold: int | None = None
    """The fold whose weights these are; not needed for weights of all lots."""
    folds: Path | None = None
    """Run of wafer_train.py on all folds, of the recipe of the checkpoint, to calibrate it with."""
    lean: bool = False
    """Train briefly without a pattern, and ask whether it is noticed; nothing of the checkpoint is used."""
    updates: int = 400
    """Updates of the weights with --lean."""
    output: Path = ROOT / "runs" / "left-out"
    """Folder of the runs of --lean."""
    frontier: bool = False
    """Write nothing: limits set on four fifths of the held-out blocks and measured on the rest, for several costs."""
    left_out: Literal["", *CLASSES] = ""  # type: ignore[valid-type]
    """Class that the weights never saw: it is the unknown, and nothing is written."""
    count: int = 500
    """Maps of each unknown."""
    seed: int = 0
    """Of training subset, drawings and mixes."""


def unknowns(held_out: Wafers, tested: Wafers, arguments: Arguments) -> dict[str, Wafers]:
    """The class that was left out, or drawings and mixes; none of the kinds that the score was fitted with."""
    if arguments.left_out:
        label = CLASSES.index(arguments.left_out)
        return {f"{arguments.left_out}, never trained on": tested.take(tested.label == label)}
    made = {name: drawn(held_out, draw, arguments.count, arguments.seed) for name, draw in UNKNOWNS.items()}
    mixes = mixed_wafers(held_out, np.arange(len(held_out)), arguments.count, arguments.seed)
    return {**made, "two patterns, of held-out lots": mixes}


def choose_split(wafers: Wafers, arguments: Arguments) -> Split:
    """What the weights were trained on, without the class that was left out."""
    from trm_jax.wafer.folds import without

    split = all_lots(wafers) if arguments.fold is None else folds(wafers)[arguments.fold]
    if not arguments.left_out:
        return split
    require(arguments.fold is not None, "--left-out needs --fold, whose test wafers are asked about")
    return without(split, wafers.label, CLASSES.index(arguments.left_out))


def threshold_of(classifier: "Classifier") -> "Classifier":
    """With the review threshold of what ships, where it has none."""
    if classifier.calibration.review_threshold < 1:
        return classifier
    return classifier._replace(calibration=replace(classifier.calibration, review_threshold=UNCALIBRATED))


def run_lean(arguments: Arguments, wafers: Wafers) -> None:
    """Leave out one pattern after the other, and print a table for each."""
    from trm_jax.wafer.checkpoint import load_checkpoint  # here: --help needs no jax
    from trm_jax.wafer.unknown.lean import SIZES, lean_weights, thinned

    for name in (arguments.left_out,) if arguments.left_out else [name for name in CLASSES if name != "none"]:
        directory = arguments.output / name
        done, now = directory / "report.md", replace(arguments, left_out=name, fold=arguments.fold or 3)
        if not done.exists():
            split = thinned(choose_split(wafers, now), arguments.seed)
            classifier = load_checkpoint(lean_weights(wafers, split, directory, arguments.updates))
            write_text(done, f"{arguments.updates} updates\n\n{measure(now, wafers, classifier, split, SIZES)[0]}\n")
        print(f"without {name}, {done.read_text(encoding='utf-8')}", flush=True)


def measure(
    arguments: Arguments, wafers: Wafers, classifier: "Classifier", split: Split, sizes: "Sizes"
) -> "tuple[str, Unlike, Classified]":
    """Fit the score: what of unknown maps is noticed, the score, and the answers to the held-out wafers."""
    from trm_jax.wafer.classify import classify
    from trm_jax.wafer.evaluation.trust.frontier import frontier
    from trm_jax.wafer.evaluation.trust.readiness import told_apart
    from trm_jax.wafer.unknown.fit import features_of, fit_unlike, with_limits

    classifier = threshold_of(classifier)
    held_out, tested = wafers.take(split.validation), wafers.take(split.test)
    held, seen = classify(classifier._replace(unlike=None), held_out), features_of(classifier, held_out)
    lowest = classifier.calibration.review_threshold
    automatic = ~decide(held.probabilities, lowest).review
    unlike = fit_unlike(classifier, wafers, split.train, sizes, arguments.seed)
    unlike = with_limits(unlike, seen[automatic], arguments.cost / max(automatic.mean(), 1e-9))
    classifier, unknown = classifier._replace(unlike=unlike), unknowns(held_out, tested, arguments)
    if arguments.frontier:
        asked = {
            name: (classify(classifier, maps).probabilities, features_of(classifier, maps))
            for name, maps in unknown.items()
        }
        return frontier(unlike, (held.probabilities, seen), held_out, lowest, asked), unlike, held
    held = held._replace(unlike=unlike.score(seen))
    return told_apart(classifier, unknown, held, held_out.label), unlike, held


def run(arguments: Arguments) -> None:
    """Fit and print; write where nothing was left out."""
    from trm_jax.wafer.checkpoint import CALIBRATION, load_checkpoint  # here: --help needs no jax
    from trm_jax.wafer.evaluation.trust.readiness import by_class
    from trm_jax.wafer.unknown.fit import Sizes

    smoke = arguments.preset == "smoke"
    arguments = replace(arguments, count=30) if smoke else arguments
    require(arguments.updates >= 1, f"--updates must be at least 1, got {arguments.updates}")
    wafers = load(arguments.data, smoke)
    if arguments.lean:
        return run_lean(arguments, wafers)
    classifier, limits = threshold_of(load_checkpoint(arguments.checkpoint)), None
    if arguments.folds:
        classifier, limits = calibrated(classifier, arguments, wafers, arguments.folds)
    split = choose_split(wafers, arguments)
    text, unlike, held = measure(arguments, wafers, classifier, split, Sizes(**(SMOKE if smoke else {})))
    print(text, end="\n\n")
    if arguments.frontier:
        return
    calibration, text = by_class(classifier.calibration, held, wafers.take(split.validation), arguments.alpha, limits)
    print(text)
    if not arguments.left_out and not smoke:
        save_unlike(arguments.checkpoint / UNLIKE, unlike)
        write_text(arguments.checkpoint / CALIBRATION, json.dumps(asdict(calibration), indent=2) + "\n")
        sums = arguments.checkpoint / SUMS
        listed = [line.split()[1] for line in sums.read_text(encoding="utf-8").splitlines()] if sums.exists() else []
        if listed:
            write_sums(arguments.checkpoint, sorted({*listed, UNLIKE}))
        print(f"written to {arguments.checkpoint}: {UNLIKE}, {CALIBRATION}")


def calibrated(
    classifier: "Classifier", arguments: Arguments, wafers: Wafers, run: Path
) -> "tuple[Classifier, tuple[float, ...]]":
    """With temperature and threshold of the test wafers of --folds; and their thresholds by class."""
    from trm_jax.wafer.evaluation.trust.cross_fit import class_limits, of_folds
    from trm_jax.wafer.ship import tested_folds

    pooled = tested_folds(run, wafers)
    fitted = of_folds(pooled, wafers, 0.02, 0.1)
    print(f"of a fold the others decide {fitted.coverage:.1%}, {fitted.errors:.2%} of those wrongly", end="\n\n")
    calibration = replace(classifier.calibration, temperature=fitted.temperature, review_threshold=fitted.threshold)
    return classifier._replace(calibration=calibration), class_limits(pooled, fitted, arguments.alpha)


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
