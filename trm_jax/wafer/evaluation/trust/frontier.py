"""What doubting more costs on wafers that are known, and gains on what is not: limits set on some blocks of lots,
measured on others."""

from collections.abc import Mapping

import numpy as np

from trm_jax.reporting import markdown
from trm_jax.wafer.evaluation.trust.calibration import risk_coverage
from trm_jax.wafer.evaluation.trust.risk_control import class_thresholds
from trm_jax.wafer.maps.answers import Thresholds, decide
from trm_jax.wafer.maps.unlike import Unlike
from trm_jax.wafer.maps.wafers import Wafers
from trm_jax.wafer.unknown.fit import with_limits

POINTS = ((0.005, 0.03), (0.01, 0.03), (0.015, 0.03), (0.02, 0.03), (0.03, 0.03), (0.01, 0.05), (0.02, 0.05))
"""Shares of wafers that the score may cost, and error rates of a class."""
PARTS = 5
Asked = tuple[np.ndarray, np.ndarray]
"""Probabilities (N, classes) and features (N, F)."""


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
