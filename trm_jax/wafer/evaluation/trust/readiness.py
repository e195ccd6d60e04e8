"""What a classifier may decide: its automatic answers by predicted class and in the worst block, and unknown maps.

The frontier is what doubting more costs on wafers that are known, and gains on what is not: limits set on some blocks
of lots, measured on others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from trm_jax.reporting import markdown
from trm_jax.wafer.checkpoint import Calibration, Classifier
from trm_jax.wafer.classify import Classified, classify
from trm_jax.wafer.evaluation.trust.calibration import auroc, risk_coverage
from trm_jax.wafer.evaluation.trust.risk_control import block_bound, class_thresholds
from trm_jax.wafer.maps.answers import Thresholds, decide
from trm_jax.wafer.maps.unlike import Unlike
from trm_jax.wafer.maps.wafers import CLASSES, NONE, Wafers
from trm_jax.wafer.unknown.fit import with_limits

POINTS = ((0.005, 0.03), (0.01, 0.03), (0.015, 0.03), (0.02, 0.03), (0.03, 0.03), (0.01, 0.05), (0.02, 0.05))
"""Shares of wafers that the score may cost, and error rates of a class."""
PARTS = 5
Asked = tuple[np.ndarray, np.ndarray]
"""Probabilities (N, classes) and features (N, F)."""


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
    old: Calibration,
    found: Classified,
    held_out: Wafers,
    alpha: float,
    limits: tuple[float, ...] | None = None,
    reviewed: Sequence[str] = (),
) -> tuple[Calibration, str]:
    """The calibration with a threshold for each class, and a line for each about its automatic answers.

    The thresholds are ``limits``, or else those of the held-out wafers; 1 for the classes that are always reviewed.
    """
    assert found.unlike is not None
    like = found.unlike <= 0
    probabilities, truth, block = found.probabilities[like], held_out.label[like], held_out.group[like]
    limits = limits or class_thresholds(probabilities, truth, block, alpha, old.review_threshold)
    limits = tuple(1.0 if name in reviewed else limit for name, limit in zip(CLASSES, limits, strict=True))
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
    curve, share_wrong = risk_coverage(found.confidence, ~mistaken), wrong[decided].mean() if decided.any() else 0.0
    kept = {
        "classes always reviewed": before & (np.array(limits) < 1)[found.prediction],
        "thresholds by class": ~decide(found.probabilities, limits).review,
        "unlike": before & like,
    }
    text = (
        f"Automatic {before.mean():.1%} before, wrong {mistaken[before].mean():.2%}; "
        f"now {decided.sum() / len(held_out):.1%}, wrong {share_wrong:.2%}; at as few errors confidence alone decides "
        f"{curve.coverage[curve.risk <= share_wrong].max(initial=0):.1%}. Each alone: "
        f"{', '.join(f'{name} {mask.mean():.1%}' for name, mask in kept.items())}.\n\n"
    )
    columns = ["Predicted", "Threshold", "Automatic", "wrong", "rate", "bound by blocks", "worst block"]
    calibration = replace(old, class_thresholds=limits)
    return calibration, text + markdown.table(columns, rows)


def automatic(unlike: Unlike, asked: Asked, limits: Thresholds) -> np.ndarray:
    """Which maps are decided, bool (N,)."""
    return ~decide(asked[0], limits).review & (unlike.score(asked[1]) <= 0)


def frontier(
    unlike: Unlike, held: Asked, held_out: Wafers, lowest: float, unknown: Mapping[str, Asked], seed: int = 0
) -> str:
    """Markdown, a line for each of POINTS: limits and thresholds from four fifths of the blocks, decided in the rest.

    ``lowest`` is the threshold of all classes; at as few errors confidence alone would decide the share named beside.
    """
    probabilities, seen = held
    truth, block = held_out.label.astype(np.int64), held_out.group
    blocks, index = np.unique(block, return_inverse=True)
    part = np.random.default_rng(seed).permutation(np.arange(len(blocks)) % PARTS)[index]
    sure, wrong = ~decide(probabilities, lowest).review, probabilities.argmax(axis=1) != truth
    curve = risk_coverage(probabilities.max(axis=1), ~wrong)

    def row(cost: float, alpha: float) -> list[str]:
        decided, shares = np.zeros(len(truth), bool), np.zeros((PARTS, len(unknown)))
        for number in range(PARTS):
            here = part == number
            fitted = with_limits(unlike, seen[~here & sure], cost / sure[~here].mean())
            like = ~here & (fitted.score(seen) <= 0)
            limits = class_thresholds(probabilities[like], truth[like], block[like], alpha, lowest)
            decided[here] = automatic(fitted, held, limits)[here]
            shares[number] = [automatic(fitted, asked, limits).mean() for asked in unknown.values()]
        errors = wrong[decided].mean()
        alone = curve.coverage[curve.risk <= errors].max(initial=0)
        mean = [f"{share:.1%}" for share in shares.mean(axis=0)]
        return [f"{cost:.1%}", f"{alpha:.0%}", f"{decided.mean():.1%}", f"{errors:.2%}", f"{alone:.1%}", *mean]

    columns = ["Cost of unlike", "Rate of a class", "Automatic", "wrong", "Confidence alone, as few wrong", *unknown]
    return markdown.table(columns, [row(*point) for point in POINTS])
