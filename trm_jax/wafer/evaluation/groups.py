"""Whom a wafer classifier serves well and whom it does not: scores by class, by split and seed, and by size of the map.

S seeds, N test wafers of all splits one after another, as in `wafer_evaluation`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from trm_jax.wafer.evaluation import metrics
from trm_jax.wafer.evaluation.metrics import Interval
from trm_jax.wafer.evaluation.pooled import Answers, share
from trm_jax.wafer.evaluation.runs import Fold, best_update
from trm_jax.wafer.maps.maps import CLASSES, Wafers

SHARES_BY_SIZE = {
    "wrong": "Wrong",
    "wrong with a pattern": "Wrong among those labelled with a pattern",
    "coverage": "Decided automatically",
    "errors": "Wrong among the decided",
}
"""What `by_size` tells."""


def decided_by_class(
    chosen: np.ndarray, wrong: np.ndarray, tested: Answers, draws: np.ndarray
) -> dict[int, dict[str, Interval]]:
    """Of the wafers of each labelled class that is there: share that is decided (``chosen``, (S, N)), and share of
    those that are named otherwise (``wrong``, (S, N))."""
    found = {}
    for label in np.unique(tested.truth).tolist():
        here = np.broadcast_to(tested.truth == label, chosen.shape)
        found[label] = {
            "coverage": share(chosen, here, tested.group, draws),
            "errors": share(wrong, chosen & here, tested.group, draws),
        }
    return found


def by_split(folds: Sequence[Fold], tested: Answers) -> pd.DataFrame:
    """Scores on each split's test wafers; columns split, seed, accuracy, macro_f1, update (whose weights they are: the
    best on validation, as the training recorded it; NaN where it did not)."""
    rows = []
    answers = tested.logits[:, tested.depth - 1].argmax(axis=-1)
    for number, fold in enumerate(folds):
        here = tested.fold == number
        found = metrics.seed_scores(tested.truth[here], answers[:, here], tested.logits.shape[-1])
        for index, seed in enumerate(fold.config.run.seeds):
            update = best_update(fold.curve, index)
            rows.append((fold.split.name, seed, found.accuracy[index], found.macro_f1[index], update or np.nan))
    return pd.DataFrame(rows, columns=["split", "seed", "accuracy", "macro_f1", "update"])


def by_size(chosen: np.ndarray, wrong: np.ndarray, tested: Answers, wafers: Wafers, draws: np.ndarray) -> pd.DataFrame:
    """Errors by size of the map.

    ``chosen`` and ``wrong`` (S, N) say which answers are decided automatically and which are wrong. Up to four rows:
    the test wafers are cut at the quartiles of their size, but not between two of one size. Columns smallest and
    largest (side in dies, the geometric mean of height and width, rounded), wafers, and an Interval for each of
    SHARES_BY_SIZE, None where it is a share of no wafers.
    """
    side = np.rint(np.sqrt(wafers.height[tested.index].astype(float) * wafers.width[tested.index])).astype(int)
    quarter = np.searchsorted(np.quantile(side, [0.25, 0.5, 0.75]), side)
    rows, pattern = [], tested.truth != CLASSES.index("none")
    for number in np.unique(quarter):
        own = quarter == number
        here, patterned = (np.broadcast_to(mask, chosen.shape) for mask in (own, own & pattern))
        shares = {
            "wrong": share(wrong, here, tested.group, draws),
            "wrong with a pattern": share(wrong, patterned, tested.group, draws) if patterned.any() else None,
            "coverage": share(chosen, here, tested.group, draws),
            "errors": share(wrong, chosen & here, tested.group, draws) if (chosen & here).any() else None,
        }
        rows.append({"smallest": side[own].min(), "largest": side[own].max(), "wafers": own.sum(), **shares})
    return pd.DataFrame(rows)
