"""What `experiments/wafer_unlike.py` does: fit the score of unlike maps, measure it on unknown ones, and calibrate."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from trm_jax.support.files import ROOT, write_text
from trm_jax.support.schema import require
from trm_jax.wafer.evaluation.trust.risk_control import Promise
from trm_jax.wafer.generated.drawings import UNKNOWNS, drawn
from trm_jax.wafer.generated.mixes import mixed_wafers
from trm_jax.wafer.maps.answers import decide
from trm_jax.wafer.maps.unlike import AnyUnlike
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.splits import Split, all_lots, folds

# What needs jax is imported where it is used: the options are explained without it.
if TYPE_CHECKING:
    from trm_jax.wafer.checkpoint import Classifier
    from trm_jax.wafer.classify import Classified
    from trm_jax.wafer.unknown.fit import Sizes

UNCALIBRATED = 0.835
"""Review threshold of weights that have none: that of the checkpoint that ships."""
PROMISE = Promise()
SMOKE = {"train": 300, "mixes": 60, "drawings": 10, "hidden": 8}


@dataclass(frozen=True)
class UnlikeSettings:
    """Fit the score, measure it, and write it beside the weights."""

    checkpoint: Path = ROOT / "checkpoints" / "wafer-edge"
    """Checkpoint, or weights of a run."""
    data: Path | None = None
    """The wafers that it was trained on: cache, .npz, .pkl or folder; else $TRM_DATA, or ../shared/data."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: generated wafers and a small score, which is not written."""
    cost: float = 0.02
    """Share of the held-out wafers that lose their automatic decision."""
    alpha: float = PROMISE.alpha
    """Error rate of all automatic answers, where --folds calibrates."""
    class_alpha: float = PROMISE.class_alpha
    """Error rate that automatic answers of a predicted class stay under in new blocks of lots; for thresholds by class
    of --folds, or of the held-out wafers where the checkpoint has none."""
    reviewed: tuple[Literal[CLASSES], ...] = PROMISE.reviewed  # type: ignore[valid-type]
    """Classes that are never decided automatically, where thresholds by class are chosen: most of what is no wafer is
    called Random."""
    fold: int | None = None
    """The fold whose weights these are; not needed for weights of all lots."""
    folds: tuple[Path, ...] = ()
    """Runs of wafer_train.py on all folds, of the recipe of the checkpoint, to calibrate it with; of as many seeds as
    nets that answer together."""
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

    @property
    def promise(self) -> Promise:
        """What is promised of automatic answers."""
        return PROMISE._replace(alpha=self.alpha, class_alpha=self.class_alpha, reviewed=self.reviewed)


def unknowns(held_out: Wafers, tested: Wafers, settings: UnlikeSettings) -> dict[str, Wafers]:
    """The class that was left out, or drawings and mixes; none of the kinds that the score was fitted with."""
    if settings.left_out:
        label = CLASSES.index(settings.left_out)
        return {f"{settings.left_out}, never trained on": tested.take(tested.label == label)}
    made = {name: drawn(held_out, draw, settings.count, settings.seed) for name, draw in UNKNOWNS.items()}
    mixes = mixed_wafers(held_out, np.arange(len(held_out)), settings.count, settings.seed)
    return {**made, "two patterns, of held-out lots": mixes}


def choose_split(wafers: Wafers, settings: UnlikeSettings) -> Split:
    """What the weights were trained on, without the class that was left out."""
    from trm_jax.wafer.folds import without

    split = all_lots(wafers) if settings.fold is None else folds(wafers)[settings.fold]
    if not settings.left_out:
        return split
    require(settings.fold is not None, "--left-out needs --fold, whose test wafers are asked about")
    return without(split, wafers.label, CLASSES.index(settings.left_out))


def threshold_of(classifier: "Classifier") -> "Classifier":
    """With the review threshold of what ships, where it has none."""
    if classifier.calibration.review_threshold < 1:
        return classifier
    return classifier._replace(calibration=replace(classifier.calibration, review_threshold=UNCALIBRATED))


def run_lean(settings: UnlikeSettings, wafers: Wafers) -> None:
    """Leave out one pattern after the other, and print a table for each."""
    from trm_jax.wafer.checkpoint import load_checkpoint  # here: --help needs no jax
    from trm_jax.wafer.unknown.lean import SIZES, lean_weights, thinned

    for name in (settings.left_out,) if settings.left_out else [name for name in CLASSES if name != "none"]:
        directory = settings.output / name
        done, now = directory / "report.md", replace(settings, left_out=name, fold=settings.fold or 3)
        if not done.exists():
            split = thinned(choose_split(wafers, now), settings.seed)
            classifier = load_checkpoint(lean_weights(wafers, split, directory, settings.updates))
            write_text(done, f"{settings.updates} updates\n\n{measure(now, wafers, classifier, split, SIZES)[0]}\n")
        print(f"without {name}, {done.read_text(encoding='utf-8')}", flush=True)


def measure(
    settings: UnlikeSettings, wafers: Wafers, classifier: "Classifier", split: Split, sizes: "Sizes"
) -> "tuple[str, AnyUnlike, Classified]":
    """Fit the score: what of unknown maps is noticed, the score, and the answers to the held-out wafers."""
    from trm_jax.wafer.classify import classify
    from trm_jax.wafer.evaluation.trust.readiness import frontier, told_apart
    from trm_jax.wafer.unknown.fit import features_of, fit_unlike, with_limits

    classifier = threshold_of(classifier)
    held_out, tested = wafers.take(split.validation), wafers.take(split.test)
    held, seen = classify(classifier._replace(unlike=None), held_out), features_of(classifier, held_out)
    lowest = classifier.calibration.review_threshold
    automatic = ~decide(held.probabilities, lowest).review
    unlike = fit_unlike(classifier, wafers, split.train, sizes, settings.seed)
    unlike = with_limits(unlike, seen[automatic], settings.cost / max(automatic.mean(), 1e-9))
    classifier, unknown = classifier._replace(unlike=unlike), unknowns(held_out, tested, settings)
    if settings.frontier:
        asked = {
            name: (classify(classifier, maps).probabilities, features_of(classifier, maps))
            for name, maps in unknown.items()
        }
        return frontier(unlike, (held.probabilities, seen), held_out, lowest, asked), unlike, held
    held = held._replace(unlike=unlike.score(seen))
    return told_apart(classifier, unknown, held, held_out.label), unlike, held


def calibrated(classifier: "Classifier", settings: UnlikeSettings, wafers: Wafers) -> "Classifier":
    """With temperature and thresholds of the test wafers of --folds."""
    from trm_jax.wafer.checkpoint import Calibration
    from trm_jax.wafer.evaluation.trust.cross_fit import of_folds
    from trm_jax.wafer.release.ship import tested_folds

    members = classifier.config.model.members
    fitted = of_folds(tested_folds(settings.folds, wafers, members=members), wafers, settings.promise)
    print(fitted.sentence(), end="\n\n")
    require(
        fitted.threshold < 1, f"{settings.folds[0]}: at no confidence is so little wrong that anything may be decided"
    )
    dies = classifier.calibration.dies
    return classifier._replace(calibration=Calibration(fitted.temperature, fitted.threshold, fitted.limits, dies))
