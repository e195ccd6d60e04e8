"""Teach a wafer classifier to doubt: a score for maps unlike its training wafers, and a threshold for each class.

    python experiments/wafer_unlike.py --checkpoint checkpoints/wafer-edge
    python experiments/wafer_unlike.py --checkpoint runs/wafer-2-without-Donut/lot-3/weights-2 --fold 3 --left-out Donut

The second measures a pattern that a run never trained on (`wafer_train.py --leave-out`), once for each pattern. The
score is fitted on training wafers, mixes of two of them, and drawings over them; its limits and the thresholds on the
held-out wafers. Printed: what of unknown maps is still decided automatically, the AUROC against held-out wafers with a
pattern, and how often automatic answers are wrong for each class and in the worst block of lots.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from trm_jax.support.files import write_text
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure
from trm_jax.wafer.data import load
from trm_jax.wafer.maps.answers import decide
from trm_jax.wafer.maps.unlike import UNLIKE, save_unlike
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.splits import Split, all_lots, folds
from trm_jax.wafer.unknown.left_out import UNKNOWNS, drawn
from trm_jax.wafer.unknown.synthetic import mixed_wafers

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
    split = all_lots(wafers) if arguments.fold is None else folds(wafers)[arguments.fold]
    if not arguments.left_out:
        return split
    require(arguments.fold is not None, "--left-out needs --fold, whose test wafers are asked about")
    kept = wafers.label != CLASSES.index(arguments.left_out)
    return split._replace(train=split.train[kept[split.train]], validation=split.validation[kept[split.validation]])


def run(arguments: Arguments) -> None:
    """Fit and print; write where nothing was left out."""
    from trm_jax.wafer.checkpoint import CALIBRATION, load_checkpoint  # here: --help needs no jax
    from trm_jax.wafer.classify import classify
    from trm_jax.wafer.evaluation.trust.readiness import by_class, told_apart
    from trm_jax.wafer.unknown.fit import Sizes, features_of, fit_unlike, with_limits

    smoke = arguments.preset == "smoke"
    arguments = replace(arguments, count=30) if smoke else arguments
    wafers, classifier = load(arguments.data, smoke), load_checkpoint(arguments.checkpoint)
    if classifier.calibration.review_threshold >= 1:
        classifier = classifier._replace(calibration=replace(classifier.calibration, review_threshold=UNCALIBRATED))
    split = choose_split(wafers, arguments)
    held_out, tested = wafers.take(split.validation), wafers.take(split.test)
    held, seen = classify(classifier._replace(unlike=None), held_out), features_of(classifier, held_out)
    automatic = ~decide(held.probabilities, classifier.calibration.review_threshold).review
    unlike = fit_unlike(classifier, wafers, split.train, Sizes(**(SMOKE if smoke else {})), arguments.seed)
    unlike = with_limits(unlike, seen[automatic], arguments.cost / max(automatic.mean(), 1e-9))
    held, classifier = held._replace(unlike=unlike.score(seen)), classifier._replace(unlike=unlike)
    unknown = unknowns(held_out, tested, arguments)
    print(told_apart(classifier, unknown, held, held_out.label), end="\n\n")
    calibration, text = by_class(classifier.calibration, held, held_out, arguments.alpha)
    print(text)
    if not arguments.left_out and not smoke:
        save_unlike(arguments.checkpoint / UNLIKE, unlike)
        write_text(arguments.checkpoint / CALIBRATION, json.dumps(asdict(calibration), indent=2) + "\n")
        print(f"written to {arguments.checkpoint}: {UNLIKE}, {CALIBRATION}")


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
