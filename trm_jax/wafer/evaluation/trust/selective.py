"""What of the answers may be decided automatically, and what is noticed as unknown; names as in `pooled`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import softmax

from trm_jax.reporting.interval import Interval
from trm_jax.wafer.evaluation.metrics import share
from trm_jax.wafer.evaluation.pooled import Pooled, lots
from trm_jax.wafer.evaluation.stored import Fold
from trm_jax.wafer.evaluation.trust.calibration import auroc, unknown_scores
from trm_jax.wafer.evaluation.trust.risk_control import guaranteed_threshold
from trm_jax.wafer.maps.wafers import CLASSES, NONE, Wafers

BY_LOT, BY_BLOCK = "guaranteed, by lot", "guaranteed, by block"
"""Rules: what is taken for exchangeable are lots, or the whole groups that the split kept together."""
KNOWN = ("all test wafers", "test wafers labelled with a pattern")
"""What unknown patterns are told from."""


def thresholds(folds: Sequence[Fold], wafers: Wafers, pooled: Pooled, alpha: float, delta: float) -> pd.DataFrame:
    """What each rule decides: a row per rule, split and seed, threshold from validation, result on test.

    Columns rule, split, seed, threshold (NaN: nothing can be decided), coverage, errors (of the decided), wrong
    (decided and wrong, of all).
    """
    rows, probabilities, wrong = [], pooled.probabilities(pooled.depth), pooled.wrong()
    for number, fold in enumerate(folds):
        index, tested = fold.validation.index, pooled.fold == number
        units = {BY_LOT: lots(wafers, index), BY_BLOCK: wafers.group[index]}
        for seed, logits in enumerate(fold.validation.logits[:, pooled.depth - 1]):
            validation = softmax(logits / pooled.temperature[seed, number], axis=1)
            confidence, correct = validation.max(axis=1), validation.argmax(axis=1) == wafers.label[index]
            for rule, unit in units.items():
                threshold = guaranteed_threshold(confidence, correct, unit, alpha, delta)
                limit = np.inf if threshold is None else threshold
                decided, errors = probabilities[seed, tested].max(axis=1) >= limit, wrong[seed, tested]
                rows.append(
                    {
                        "rule": rule,
                        "split": fold.split.name,
                        "seed": seed,
                        "threshold": np.nan if threshold is None else threshold,
                        "coverage": decided.mean(),
                        "errors": errors[decided].mean() if decided.any() else np.nan,
                        "wrong": (errors & decided).mean(),
                    }
                )
    return pd.DataFrame(rows)


def decided_by(rule: str, table: pd.DataFrame, folds: Sequence[Fold], pooled: Pooled) -> np.ndarray:
    """Which wafers a rule decides by the thresholds of a table, (S, N)."""
    limits = table[table["rule"] == rule].pivot(index="seed", columns="split", values="threshold")
    by_fold = limits[[fold.split.name for fold in folds]].fillna(np.inf).to_numpy()
    return pooled.probabilities(pooled.depth).max(axis=-1) >= by_fold[:, pooled.fold]


def shares(decided: np.ndarray, pooled: Pooled, draws: np.ndarray) -> dict[str, Interval]:
    """Share of all wafers that is decided, of the decided that is wrong, and of all that is decided and wrong."""
    every, wrong = np.ones_like(decided), pooled.wrong()
    return {
        "coverage": share(decided, every, pooled.group, draws),
        "errors": share(wrong, decided, pooled.group, draws),
        "wrong": share(wrong & decided, every, pooled.group, draws),
    }


def decided_by_class(decided: np.ndarray, pooled: Pooled, draws: np.ndarray) -> dict[int, dict[str, Interval]]:
    """Of the wafers of each labelled class: share that is decided, and share of those that are named otherwise."""
    by_class, wrong = {}, pooled.wrong()
    for label in np.unique(pooled.truth).tolist():
        labelled = np.broadcast_to(pooled.truth == label, decided.shape)
        by_class[label] = {
            "coverage": share(decided, labelled, pooled.group, draws),
            "errors": share(wrong, decided & labelled, pooled.group, draws),
        }
    return by_class


def design_effect(pooled: Pooled, wafers: Wafers) -> float:
    """How much the errors of a group of lots belong together: the variance of the number of errors counted by group,
    over that counted by lot. It is 1 where the lots of a group are independent; few groups give a rough estimate."""
    rate = pooled.wrong().mean(axis=0)
    excess = rate - rate.mean()
    by_group, by_lot = (
        np.bincount(np.unique(unit, return_inverse=True)[1], excess)
        for unit in (pooled.group, lots(wafers, pooled.index))
    )
    return float((by_group**2).sum() / max((by_lot**2).sum(), 1e-12))


def unknown(folds: Sequence[Fold], pooled: Pooled) -> pd.DataFrame:
    """How well scores tell unknown patterns from test wafers, and from those labelled with a pattern, which is harder:
    a score that only notices that there is a pattern tells them from the wafers without any.

    Columns unknown, known (of KNOWN), score, split, seed, auroc, count (unknown ones).
    """
    rows, patterned = [], pooled.truth != NONE
    for number, fold in enumerate(folds):
        tested = pooled.fold == number
        for name, answers in fold.unknown.items():
            step = min(pooled.depth, answers.logits.shape[1]) - 1
            for seed in range(min(len(answers.logits), len(pooled.logits))):
                new = unknown_scores(answers.logits[seed, step], answers.halt[seed, step])
                for known, mask in zip(KNOWN, (tested, tested & patterned), strict=True):
                    old = unknown_scores(pooled.logits[seed, step, mask], pooled.halt[seed, step, mask])
                    rows += [
                        (name, known, score, fold.split.name, seed, auroc(old[score], new[score]), len(answers.index))
                        for score in new
                    ]
    return pd.DataFrame(rows, columns=["unknown", "known", "score", "split", "seed", "auroc", "count"])


def set_class_apart(folds: Sequence[Fold], wafers: Wafers, label: int) -> list[Fold]:
    """The folds of a run that never trained on a class, its test wafers of that class moved to the unknown ones.

    Raises ValueError if no test wafer has that class.
    """
    changed, name = [], CLASSES[label]
    for fold in folds:
        apart = wafers.label[fold.test.index] == label
        if not apart.any():
            raise ValueError(f"no test wafer of {fold.split.name} is of class {name}")
        unknown = {f"class {name}, never trained on": fold.test.take(apart)}
        changed.append(replace(fold, test=fold.test.take(~apart), unknown=unknown))
    return changed
