"""What a wafer classifier is worth on test wafers, step by step, and what of it may be decided automatically.

S seeds, K supervision steps, N test wafers of all splits one after another, C classes, F splits. Each wafer is judged
by nets that saw no wafer of its lot; a score is the mean over seeds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import softmax

from trm_jax.wafer.evaluation import confidence, metrics
from trm_jax.wafer.evaluation.metrics import GroupCounts, Interval
from trm_jax.wafer.evaluation.runs import Fold
from trm_jax.wafer.evaluation.stored import Predicted, stopped_at
from trm_jax.wafer.maps.maps import CLASSES, Wafers

LOT = 25
"""Wafers in a full lot."""
HALTS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Halting probabilities above which a wafer stops: 0 stops all after one step, 1 none."""
KNOWN = ("all test wafers", "test wafers labelled with a pattern")
"""What unknown patterns are told from."""
RULES = {
    "guaranteed, by lot": "error rate of the decided, lots as units",
    "guaranteed, by block": "error rate of the decided, whole groups of the split as units",
    "marginal, by lot": "share decided and wrong of all wafers, lots as units",
}


class Answers(NamedTuple):
    """The test wafers of all splits and what the nets of all seeds answered."""

    index: np.ndarray  # type: ignore[assignment]
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


class Check(NamedTuple):
    """A target and whether it is met."""

    name: str
    target: str
    measured: str
    passed: bool
    sure: bool
    """Whether the whole interval meets it."""


def pool(folds: Sequence[Fold], wafers: Wafers) -> Answers:
    """All test wafers together."""
    depth = folds[0].config.recursion.N_sup
    index = np.concatenate([fold.test.index for fold in folds])
    temperature = np.array([temperatures(fold.validation, wafers, depth) for fold in folds]).T
    return Answers(
        index,
        wafers.label[index].astype(np.int64),
        wafers.group[index],
        np.repeat(np.arange(len(folds)), [len(fold.test.index) for fold in folds]),
        np.concatenate([fold.test.logits for fold in folds], axis=2),
        np.concatenate([fold.test.halt for fold in folds], axis=2),
        temperature,
        depth,
    )


def temperatures(validation: Predicted, wafers: Wafers, depth: int) -> list[float]:
    """Temperature of every seed, fitted on its validation wafers."""
    truth = wafers.label[validation.index].astype(np.int64)
    return [confidence.fit_temperature(one, truth) for one in validation.logits[:, depth - 1]]


def lots(wafers: Wafers, index: np.ndarray) -> np.ndarray:
    """Number of the lot of each of these wafers: its group, or 25 consecutive wafers of it where groups are larger."""
    if np.unique(wafers.group, return_counts=True)[1].max() <= LOT:
        return wafers.group[index]
    pairs = np.stack([wafers.group[index].astype(np.int64), wafers.row[index] // LOT])
    return np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1)


def measure(tested: Answers, draws: np.ndarray) -> dict[str, Interval]:
    """Every score at the trained depth; ``ece_tempered`` and ``loss_tempered`` after temperature scaling."""
    raw = metrics.with_intervals(counts(tested, tested.depth, tempered=False), draws)
    tempered = metrics.with_intervals(counts(tested, tested.depth), draws)
    return raw | {f"{name}_tempered": tempered[name] for name in ("ece", "loss")}


def counts(tested: Answers, step: int, tempered: bool = True) -> GroupCounts:
    """Counts of all seeds after a supervision step."""
    return metrics.count(tested.truth, tested.probabilities(step, tempered), tested.group)


def by_step(tested: Answers, draws: np.ndarray) -> pd.DataFrame:
    """Scores after every supervision step; columns step, score, value, low, high, and the gain over the first step."""
    rows, first = [], counts(tested, 1)
    for step in range(1, tested.logits.shape[1] + 1):
        now = counts(tested, step)
        found = metrics.with_intervals(now, draws)
        gains = metrics.difference(now, first, draws)
        found |= {f"{name}_gain": gain for name, gain in gains.items()}
        rows += [{"step": step, "score": name, **interval._asdict()} for name, interval in found.items()]
    return pd.DataFrame(rows)


def share(hits: np.ndarray, of: np.ndarray, group: np.ndarray, draws: np.ndarray) -> Interval:
    """Share of wafers with a property among others, both (S, N): mean over seeds, interval by group; 0 of none is 0."""
    _, where = np.unique(group, return_inverse=True)
    both = np.zeros((len(np.unique(where)), 2, len(hits)))
    np.add.at(both, where, np.stack([hits & of, of]).astype(float).transpose(2, 0, 1))
    total = np.tensordot(np.concatenate([np.ones_like(draws[:1]), draws]), both, axes=1)
    values = (total[:, 0] / np.maximum(total[:, 1], 1)).mean(axis=1)
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))


def thresholds(folds: Sequence[Fold], wafers: Wafers, tested: Answers, alpha: float, delta: float) -> pd.DataFrame:
    """What each rule of RULES decides: a row per rule, split and seed, threshold from validation, result on test.

    Columns rule, split, seed, threshold (NaN: nothing can be decided), coverage, errors (of the decided), wrong
    (decided and wrong, of all).
    """
    rows, answers = [], tested.probabilities(tested.depth)
    for number, fold in enumerate(folds):
        index, here = fold.validation.index, tested.fold == number
        truth, small, large = wafers.label[index], lots(wafers, index), wafers.group[index]
        for seed, logits in enumerate(fold.validation.logits[:, tested.depth - 1]):
            old = softmax(logits / tested.temperature[seed, number], axis=1)
            sure, right = old.max(axis=1), old.argmax(axis=1) == truth
            marginal = confidence.marginal_threshold(sure, right, small, alpha)
            found = {
                "guaranteed, by lot": confidence.guaranteed_threshold(sure, right, small, alpha, delta),
                "guaranteed, by block": confidence.guaranteed_threshold(sure, right, large, alpha, delta),
                # Decided is what is strictly above it.
                "marginal, by lot": None if marginal > 1 else float(np.nextafter(marginal, 2)),
            }
            new = answers[seed, here]
            good = new.argmax(axis=1) == tested.truth[here]
            for rule, threshold in found.items():
                limit = np.inf if threshold is None else threshold
                decided = new.max(axis=1) >= limit
                rows.append(
                    {
                        "rule": rule,
                        "split": fold.split.name,
                        "seed": seed,
                        "threshold": np.nan if threshold is None else threshold,
                        "coverage": decided.mean(),
                        "errors": (~good)[decided].mean() if decided.any() else np.nan,
                        "wrong": (~good & decided).mean(),
                    }
                )
    return pd.DataFrame(rows)


def decided(table: pd.DataFrame, rule: str, folds: Sequence[Fold], tested: Answers) -> np.ndarray:
    """Which wafers a rule decides, (S, N)."""
    own = table[table["rule"] == rule].pivot(index="seed", columns="split", values="threshold")
    limits = own[[fold.split.name for fold in folds]].fillna(np.inf).to_numpy()
    return tested.probabilities(tested.depth).max(axis=-1) >= limits[:, tested.fold]


def together(tested: Answers, wafers: Wafers) -> float:
    """How much the errors of a group of lots belong together: variance of their number counted by group over that
    counted by lot. 1 where the lots of a group are independent; infinite precision of it needs many groups."""
    wrong = (tested.probabilities(tested.depth).argmax(axis=-1) != tested.truth).mean(axis=0)
    excess = wrong - wrong.mean()
    sums = [
        np.bincount(np.unique(unit, return_inverse=True)[1], excess)
        for unit in (tested.group, lots(wafers, tested.index))
    ]
    return float((sums[0] ** 2).sum() / max((sums[1] ** 2).sum(), 1e-12))


def sets(folds: Sequence[Fold], wafers: Wafers, tested: Answers, alpha: float) -> np.ndarray:
    """Conformal sets of classes of all test wafers, (S, N, C) bool, from the validation wafers of split and seed."""
    new = tested.probabilities(tested.depth)
    found = np.zeros(new.shape, bool)
    for number, fold in enumerate(folds):
        index, here = fold.validation.index, tested.fold == number
        for seed, logits in enumerate(fold.validation.logits[:, tested.depth - 1]):
            old = softmax(logits / tested.temperature[seed, number], axis=1)
            given = wafers.label[index], lots(wafers, index)
            found[seed, here] = confidence.conformal_sets(old, *given, new[seed, here], alpha)
    return found


def adaptive(tested: Answers, draws: np.ndarray) -> pd.DataFrame:
    """Scores if every wafer stops at the first step whose halting probability is above a threshold, or at N_sup.

    Columns halt, steps (mean), accuracy, macro_f1, and their loss or gain against N_sup steps for all, as Intervals.
    """
    rows, full = [], counts(tested, tested.depth)
    classes = tested.logits.shape[-1]
    for limit in HALTS:
        last = stopped_at(tested.halt[:, : tested.depth], limit)
        answers = np.take_along_axis(tested.logits, last[:, None, :, None], axis=1)[:, 0].argmax(axis=-1)
        now = metrics.count(tested.truth, np.eye(classes)[answers], tested.group)
        found = metrics.with_intervals(now, draws)
        gains = {f"{name}_gain": gain for name, gain in metrics.difference(now, full, draws).items()}
        rows.append(
            {"halt": limit, "steps": (last + 1).mean(), **{name: found[name] for name in ("accuracy", "macro_f1")}}
            | gains
        )
    return pd.DataFrame(rows)


def unknown(folds: Sequence[Fold], tested: Answers) -> pd.DataFrame:
    """How well scores tell unknown patterns from test wafers, and from those labelled with a pattern, which is harder:
    a score that only notices that something is there tells them from the wafers without any.

    Columns unknown, known (of KNOWN), score, split, seed, auroc, count (unknown ones).
    """
    rows, patterned = [], tested.truth != CLASSES.index("none")
    for number, fold in enumerate(folds):
        here = tested.fold == number
        for name, answers in fold.unknown.items():
            step = min(tested.depth, answers.logits.shape[1]) - 1
            for seed in range(min(len(answers.logits), len(tested.logits))):
                new = confidence.unknown_scores(answers.logits[seed, step], answers.halt[seed, step])
                for known, among in zip(KNOWN, (here, here & patterned), strict=True):
                    old = confidence.unknown_scores(tested.logits[seed, step, among], tested.halt[seed, step, among])
                    rows += [
                        (name, known, score, fold.split.name, seed, area, len(answers.index))
                        for score, area in confidence.unknown_auroc(old, new).items()
                    ]
    return pd.DataFrame(rows, columns=["unknown", "known", "score", "split", "seed", "auroc", "count"])


def left_out(folds: Sequence[Fold], wafers: Wafers, label: int, name: str) -> list[Fold]:
    """The folds of a run that never trained on a class, its test wafers of that class moved to the unknown ones.

    Raises ValueError if no test wafer has that class.
    """
    moved = []
    for fold in folds:
        away = wafers.label[fold.test.index] == label
        if not away.any():
            raise ValueError(f"no test wafer of {fold.split.name} is of class {name}")
        parts = [
            Predicted(fold.test.index[mask], fold.test.logits[:, :, mask], fold.test.halt[:, :, mask])
            for mask in (~away, away)
        ]
        moved.append(fold._replace(test=parts[0], unknown={f"class {name}, never trained on": parts[1]}))
    return moved
