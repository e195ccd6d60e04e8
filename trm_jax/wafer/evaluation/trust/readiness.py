"""What a classifier may decide: its automatic answers by predicted class and in the worst block, and unknown maps.

The frontier is what doubting more costs on wafers that are known, and gains on what is not: limits set on some blocks
of lots, measured on others.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from trm_jax.reporting import markdown
from trm_jax.wafer.checkpoint import Calibration, Classifier
from trm_jax.wafer.classify import Classified, classify
from trm_jax.wafer.evaluation.trust.calibration import auroc, risk_coverage
from trm_jax.wafer.evaluation.trust.cross_fit import class_limits
from trm_jax.wafer.evaluation.trust.risk_control import Promise, block_bound, class_thresholds
from trm_jax.wafer.maps.answers import Thresholds, decide
from trm_jax.wafer.maps.unlike import AnyUnlike
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
    promise: Promise,
    limits: tuple[float, ...] = (),
) -> tuple[Calibration, str]:
    """The calibration with a threshold for each class, and a line for each about its automatic answers.

    The thresholds are ``limits``, or else those at which the held-out wafers keep the promise.
    """
    assert found.unlike is not None
    like = found.unlike <= 0
    probabilities, truth, block = found.probabilities[like], held_out.label[like], held_out.group[like]
    limits = limits or class_limits(probabilities, truth, block, old.review_threshold, promise)
    decided = ~decide(probabilities, limits).review
    predicted, wrong = probabilities.argmax(axis=1), probabilities.argmax(axis=1) != truth
    rows = [["all", "", *_errors_by_block(decided, wrong, block)]]
    rows += [
        [name, f"{limits[index]:.3f}", *_errors_by_block(decided & (predicted == index), wrong, block)]
        for index, name in enumerate(CLASSES)
    ]
    columns = ["Predicted", "Threshold", "Automatic", "wrong", "rate", "bound by blocks", "worst block"]
    text = f"{_costs(old, found, held_out, limits)}\n\n{markdown.table(columns, rows)}"
    return replace(old, class_thresholds=limits), text


def _errors_by_block(decided: np.ndarray, wrong: np.ndarray, block: np.ndarray) -> list[object]:
    """Number of decided wafers, and how wrong they are: all, as a rate, as a bound for new blocks, in the worst one."""
    count, errors = (np.bincount(block[mask], minlength=block.max() + 1) for mask in (decided, decided & wrong))
    if not count.any():
        return [0, "", "", "", ""]
    used, worst = np.bincount(block) > 0, int(np.argmax(errors))
    bound = block_bound(count[used], errors[used])
    rate = errors.sum() / count.sum()
    return [count.sum(), errors.sum(), f"{rate:.1%}", f"{bound:.1%}", f"{errors[worst]} of {count[worst]}"]


def _costs(old: Calibration, found: Classified, held_out: Wafers, limits: tuple[float, ...]) -> str:
    """What is decided with one threshold and with all rules, and how much each of the rules costs alone."""
    assert found.unlike is not None
    mistaken, before = found.prediction != held_out.label, ~decide(found.probabilities, old.review_threshold).review
    kept = {
        "classes always reviewed": before & (np.array(limits) < 1)[found.prediction],
        "thresholds by class": ~decide(found.probabilities, limits).review,
        "unlike": before & (found.unlike <= 0),
    }
    now = kept["thresholds by class"] & (found.unlike <= 0)
    curve, wrong = risk_coverage(found.confidence, ~mistaken), mistaken[now].mean() if now.any() else 0.0
    return (
        f"Automatic {before.mean():.1%} before, wrong {mistaken[before].mean():.2%}; "
        f"now {now.mean():.1%}, wrong {wrong:.2%}; at as few errors confidence alone decides "
        f"{curve.coverage[curve.risk <= wrong].max(initial=0):.1%}. Each alone: "
        f"{', '.join(f'{name} {mask.mean():.1%}' for name, mask in kept.items())}."
    )


def automatic(unlike: AnyUnlike, asked: Asked, limits: Thresholds) -> np.ndarray:
    """Which maps are decided, bool (N,)."""
    return ~decide(asked[0], limits).review & (unlike.score(asked[1]) <= 0)


def frontier(
    unlike: AnyUnlike, held: Asked, held_out: Wafers, lowest: float, unknown: Mapping[str, Asked], seed: int = 0
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
