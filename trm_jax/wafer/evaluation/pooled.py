"""What a wafer classifier is worth on test wafers: step by step, if it stops early, by split and by size of the map.

S seeds, K supervision steps, N test wafers of all splits one after another, C classes, F splits. Each wafer is judged
by nets that saw no wafer of its lot; a score is the mean over seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax

from trm_jax.reporting.interval import Interval
from trm_jax.wafer.evaluation import metrics
from trm_jax.wafer.evaluation.metrics import GroupCounts, share
from trm_jax.wafer.evaluation.stored import Fold, best_update, stopped_at
from trm_jax.wafer.evaluation.trust.calibration import fit_temperature
from trm_jax.wafer.maps.wafers import LOT, NONE, Wafers

HALTS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Halting probabilities above which a wafer stops: 0 stops all after one step, 1 none."""
SHARES_BY_SIZE = {
    "wrong": "Wrong",
    "wrong with a pattern": "Wrong among those labelled with a pattern",
    "coverage": "Decided automatically",
    "errors": "Wrong among the decided",
}
"""The columns of `by_size` that are shares, and their titles."""


@dataclass(frozen=True)
class Pooled:
    """The test wafers of all splits and what the nets of all seeds answered."""

    index: np.ndarray
    """(N,), which wafers of the Wafers object."""
    truth: np.ndarray
    """(N,), class as labelled."""
    group: np.ndarray
    """(N,), lot or block of lots that the split kept whole: what intervals draw."""
    fold: np.ndarray
    """(N,), position of the split in which the wafer was tested."""
    logits: np.ndarray
    """(S, K, N, C)."""
    halt: np.ndarray
    """(S, K, N)."""
    temperature: np.ndarray
    """(S, F), fitted on the validation wafers of the same split and seed at the trained depth."""
    depth: int
    """N_sup that was trained with."""

    def probabilities(self, step: int, tempered: bool = True) -> np.ndarray:
        """(S, N, C) after this supervision step, counted from 1."""
        scale = self.temperature[:, self.fold, None] if tempered else 1.0
        return softmax(self.logits[:, step - 1] / scale, axis=-1)

    def wrong(self) -> np.ndarray:
        """(S, N), which answers after the trained depth are wrong."""
        return self.probabilities(self.depth).argmax(axis=-1) != self.truth

    def counts(self, step: int, tempered: bool = True) -> GroupCounts:
        """Counts of all seeds after a supervision step."""
        return metrics.count(self.truth, self.probabilities(step, tempered), self.group)


def pool(folds: Sequence[Fold], wafers: Wafers) -> Pooled:
    """All test wafers together."""
    depth = folds[0].config.recursion.N_sup
    index = np.concatenate([fold.test.index for fold in folds])
    temperatures = [
        [
            fit_temperature(logits, wafers.label[fold.validation.index])
            for logits in fold.validation.logits[:, depth - 1]
        ]
        for fold in folds
    ]
    return Pooled(
        index=index,
        truth=wafers.label[index].astype(np.int64),
        group=wafers.group[index],
        fold=np.repeat(np.arange(len(folds)), [len(fold.test.index) for fold in folds]),
        logits=np.concatenate([fold.test.logits for fold in folds], axis=2),
        halt=np.concatenate([fold.test.halt for fold in folds], axis=2),
        temperature=np.array(temperatures).T,
        depth=depth,
    )


def lots(wafers: Wafers, index: np.ndarray) -> np.ndarray:
    """Number of the lot of each of these wafers: its group, or 25 consecutive wafers of it where groups are larger."""
    if np.unique(wafers.group, return_counts=True)[1].max() <= LOT:
        return wafers.group[index]
    pairs = np.stack([wafers.group[index].astype(np.int64), wafers.row[index] // LOT])
    return np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1)


def measure(pooled: Pooled, draws: np.ndarray) -> dict[str, Interval]:
    """Every score at the trained depth; ``ece_tempered`` and ``loss_tempered`` after temperature scaling."""
    raw = metrics.with_intervals(pooled.counts(pooled.depth, tempered=False), draws)
    tempered = metrics.with_intervals(pooled.counts(pooled.depth), draws)
    return raw | {f"{name}_tempered": tempered[name] for name in ("ece", "loss")}


def together(pooled: Pooled, alone: GroupCounts, draws: np.ndarray) -> dict[str, Interval]:
    """Scores of the mean of the seeds' probabilities, as one classifier, and its paired gains over the seeds' mean.

    ``alone`` are the counts of the seeds after the trained depth.
    """
    mean = pooled.probabilities(pooled.depth).mean(axis=0)
    counts = metrics.count(pooled.truth, mean, pooled.group)
    scores = metrics.with_intervals(counts, draws)
    gains = _gains(counts, alone, draws)
    return {name: scores[name] for name in ("accuracy", "macro_f1")} | gains


def by_step(pooled: Pooled, draws: np.ndarray) -> pd.DataFrame:
    """Scores after every supervision step; columns step, score, value, low, high, and the gain over the first step."""
    rows, first = [], pooled.counts(1)
    for step in range(1, pooled.logits.shape[1] + 1):
        counts = pooled.counts(step)
        scores = metrics.with_intervals(counts, draws) | _gains(counts, first, draws)
        rows += [{"step": step, "score": name, **interval._asdict()} for name, interval in scores.items()]
    return pd.DataFrame(rows)


def adaptive(pooled: Pooled, draws: np.ndarray) -> pd.DataFrame:
    """Scores if every wafer stops at the first step whose halting probability is above a threshold, or at N_sup.

    Columns halt, steps (mean), accuracy, macro_f1, and their loss or gain against N_sup steps for all, as Intervals.
    """
    rows, full = [], pooled.counts(pooled.depth)
    for limit in HALTS:
        last = stopped_at(pooled.halt[:, : pooled.depth], limit)
        answers = np.take_along_axis(pooled.logits, last[:, None, :, None], axis=1)[:, 0].argmax(axis=-1)
        counts = metrics.count(pooled.truth, np.eye(pooled.logits.shape[-1])[answers], pooled.group)
        scores = metrics.with_intervals(counts, draws)
        shown = {name: scores[name] for name in ("accuracy", "macro_f1")} | _gains(counts, full, draws)
        rows.append({"halt": limit, "steps": (last + 1).mean(), **shown})
    return pd.DataFrame(rows)


def _gains(counts: GroupCounts, base: GroupCounts, draws: np.ndarray) -> dict[str, Interval]:
    return {f"{name}_gain": gain for name, gain in metrics.difference(counts, base, draws).items()}


def by_split(folds: Sequence[Fold], pooled: Pooled) -> pd.DataFrame:
    """Scores on each split's test wafers; columns split, seed, accuracy, macro_f1, update (whose weights they are: the
    best on validation, as the training recorded it; NaN where it did not, and for several nets as one)."""
    rows = []
    answers = pooled.logits[:, pooled.depth - 1].argmax(axis=-1)
    for number, fold in enumerate(folds):
        tested = pooled.fold == number
        scores = metrics.seed_scores(pooled.truth[tested], answers[:, tested], pooled.logits.shape[-1])
        seeds = fold.config.run.seeds
        alone = fold.config.model.members == 1
        for index, seed in enumerate(seeds if alone else (" + ".join(map(str, seeds)),)):
            update = best_update(fold.curve, index) if alone else None
            rows.append((fold.split.name, seed, scores.accuracy[index], scores.macro_f1[index], update or np.nan))
    return pd.DataFrame(rows, columns=["split", "seed", "accuracy", "macro_f1", "update"])


def by_size(decided: np.ndarray, pooled: Pooled, wafers: Wafers, draws: np.ndarray) -> pd.DataFrame:
    """Errors by size of the map; ``decided`` (S, N) says which answers are decided automatically.

    Up to four rows: the test wafers are cut at the quartiles of their size, but not between two of one size. Columns
    smallest and largest (side in dies, the geometric mean of height and width, rounded), wafers, and an Interval for
    each of SHARES_BY_SIZE, None where it is a share of no wafers.
    """
    side = np.rint(np.sqrt(wafers.height[pooled.index].astype(float) * wafers.width[pooled.index])).astype(int)
    quarter = np.searchsorted(np.quantile(side, [0.25, 0.5, 0.75]), side)
    rows, wrong, pattern = [], pooled.wrong(), pooled.truth != NONE
    for number in np.unique(quarter):
        chosen = quarter == number
        every, patterned = (np.broadcast_to(mask, wrong.shape) for mask in (chosen, chosen & pattern))
        of = {"wrong": every, "wrong with a pattern": patterned, "coverage": every, "errors": decided & every}
        shares = {
            name: share(decided if name == "coverage" else wrong, mask, pooled.group, draws) if mask.any() else None
            for name, mask in of.items()
        }
        rows.append({"smallest": side[chosen].min(), "largest": side[chosen].max(), "wafers": chosen.sum(), **shares})
    return pd.DataFrame(rows)
