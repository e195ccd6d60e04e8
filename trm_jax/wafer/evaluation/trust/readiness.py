"""What a classifier may decide: its automatic answers by predicted class and in the worst block, and unknown maps."""

from dataclasses import replace

import numpy as np

from trm_jax.reporting import markdown
from trm_jax.wafer.checkpoint import Calibration, Classifier
from trm_jax.wafer.classify import Classified, classify
from trm_jax.wafer.evaluation.trust.calibration import auroc, risk_coverage
from trm_jax.wafer.evaluation.trust.risk_control import block_bound, class_thresholds
from trm_jax.wafer.maps.answers import decide
from trm_jax.wafer.maps.wafers import CLASSES, Wafers

NONE = CLASSES.index("none")


def told_apart(classifier: Classifier, unknown: dict[str, Wafers], held: Classified, label: np.ndarray) -> str:
    """A line for held-out wafers, and for each kind of unknown ones."""
    patterned = label != NONE
    assert held.unlike is not None
    reference = [(1 - held.confidence)[patterned], held.unlike[patterned]]

    def row(name: str, confidence: np.ndarray, unlike: np.ndarray) -> list[object]:
        against = [f"{auroc(old, new):.3f}" for old, new in zip(reference, (1 - confidence, unlike), strict=True)]
        before = confidence >= classifier.calibration.review_threshold
        return [name, len(unlike), *against, f"{before.mean():.1%}", f"{(before & (unlike <= 0)).mean():.1%}"]

    rows = [row("held-out wafers", held.confidence, held.unlike)]
    rows += [row("held-out wafers with a pattern", held.confidence[patterned], held.unlike[patterned])]
    for name, wafers in unknown.items():
        found = classify(classifier, wafers)
        assert found.unlike is not None
        rows.append(row(name, found.confidence, found.unlike))
    return markdown.table(["Maps", "Number", "AUROC of confidence", "of unlike", "Automatic before", "after"], rows)


def by_class(
    old: Calibration, found: Classified, held_out: Wafers, alpha: float, limits: tuple[float, ...] | None = None
) -> tuple[Calibration, str]:
    """The calibration with a threshold for each class, and a line for each about its automatic answers.

    The thresholds are ``limits``, or else those of the held-out wafers.
    """
    assert found.unlike is not None
    like = found.unlike <= 0
    probabilities, truth, block = found.probabilities[like], held_out.label[like], held_out.group[like]
    limits = limits or class_thresholds(probabilities, truth, block, alpha, old.review_threshold)
    decided = ~decide(probabilities, limits).review
    predicted, wrong = probabilities.argmax(axis=1), probabilities.argmax(axis=1) != truth
    rows = []
    for name in ("all", *CLASSES):
        mask = decided if name == "all" else decided & (predicted == CLASSES.index(name))
        count, errors = (np.bincount(block[chosen], minlength=block.max() + 1) for chosen in (mask, mask & wrong))
        used = np.bincount(block) > 0
        worst = int(np.argmax(errors))
        shown: list[object] = [name, "" if name == "all" else f"{limits[CLASSES.index(name)]:.3f}", count.sum()]
        if count.any():
            bound = block_bound(count[used], errors[used])
            shown += [
                errors.sum(),
                f"{errors.sum() / count.sum():.1%}",
                f"{bound:.1%}",
                f"{errors[worst]} of {count[worst]}",
            ]
        rows.append(shown + [""] * (7 - len(shown)))
    mistaken, before = found.prediction != held_out.label, ~decide(found.probabilities, old.review_threshold).review
    curve, errors = risk_coverage(found.confidence, ~mistaken), wrong[decided].mean()
    kept = {
        "classes always reviewed": before & (np.array(limits) < 1)[found.prediction],
        "thresholds by class": ~decide(found.probabilities, limits).review,
        "unlike": before & like,
    }
    text = (
        f"Automatic {before.mean():.1%} before, wrong {mistaken[before].mean():.2%}; "
        f"now {decided.sum() / len(held_out):.1%}, wrong {errors:.2%}; at as few errors confidence alone decides "
        f"{curve.coverage[curve.risk <= errors].max(initial=0):.1%}. Each alone: "
        f"{', '.join(f'{name} {mask.mean():.1%}' for name, mask in kept.items())}.\n\n"
    )
    columns = ["Predicted", "Threshold", "Automatic", "wrong", "rate", "bound by blocks", "worst block"]
    calibration = replace(old, class_thresholds=limits)
    return calibration, text + markdown.table(columns, rows)
