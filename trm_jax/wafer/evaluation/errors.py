"""Which wafers a classifier gets wrong, how sure it was, and which labels look wrong instead.

Answers are those of one seed after the trained depth, each to a wafer of a lot that its net never saw.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from trm_jax.wafer.evaluation.pooled import Pooled
from trm_jax.wafer.maps.wafers import CLASSES, Wafers

NEIGHBOURS = (("Center", "Donut"), ("Edge-Loc", "Edge-Ring"), ("Loc", "Random"), ("Near-full", "Random"))
"""Pairs of classes without a sharp border between them."""
SURE = 0.8


class LabelIssues(NamedTuple):
    """Labels that out-of-fold answers speak against, (N,) each."""

    issue: np.ndarray
    """bool: the wafer is confidently counted to another class than its label."""
    suggested: np.ndarray
    """Class that it is counted to; the label where there is no issue."""
    doubt: np.ndarray
    """Largest probability of another class minus that of the label (-1 to 1): what issues are ranked by."""


def label_issues(probabilities: np.ndarray, labels: np.ndarray) -> LabelIssues:
    """Confident learning (Northcutt, Jiang and Chuang 2021) on probabilities (N, C) by nets that did not see the label.

    A wafer belongs confidently to a class if its probability there is at least the mean probability of that class
    among the wafers labelled so; of several such classes the most probable counts. Class-wise thresholds make up for
    classes about which the net is less sure in general. Raises ValueError if all labels are the same.
    """
    rows = np.arange(len(labels))
    if len(np.unique(labels)) < 2:
        raise ValueError("labels of one class only: nothing can be said about them")
    threshold = np.full(probabilities.shape[1], np.inf)
    for label in np.unique(labels):
        threshold[label] = probabilities[labels == label, label].mean()
    confident = np.where(probabilities >= threshold, probabilities, -1.0)
    counted = np.where(confident.max(axis=1) >= 0, confident.argmax(axis=1), labels)
    others = probabilities.copy()
    others[rows, labels] = -1
    doubt = others.max(axis=1) - probabilities[rows, labels]
    # Counted elsewhere, but still most probably of its own class: a weak net, not a wrong label.
    issue = (counted != labels) & (doubt > 0)
    return LabelIssues(issue, np.where(issue, counted, labels), doubt)


def error_table(pooled: Pooled, wafers: Wafers, names: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """A row per wrong answer of a seed (its position), the most confident first.

    Columns: wafer (index), row in the source, group (number of the lot or block of lots), split (of ``names``), true,
    predicted, confidence, halt (probability that the answer is right), seeds_wrong, steps (answers after each step, as
    names), label_issue, suggested, doubt, and p_CLASS. Raises ValueError for a seed that does not exist.
    """
    if not 0 <= seed < len(pooled.logits):
        raise ValueError(f"{len(pooled.logits)} seeds (or nets as one) answer, so there is no number {seed}")
    by_seed, title = pooled.probabilities(pooled.depth), np.array(CLASSES)
    issues = label_issues(by_seed.mean(axis=0), pooled.truth)
    probabilities = by_seed[seed]
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != pooled.truth)
    wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    by_step = title[pooled.logits[seed, :, wrong].argmax(axis=-1)]
    table = pd.DataFrame(
        {
            "wafer": pooled.index[wrong],
            "row": wafers.row[pooled.index[wrong]],
            "group": pooled.group[wrong],
            "split": np.array(names)[pooled.fold[wrong]],
            "true": title[pooled.truth[wrong]],
            "predicted": title[predicted[wrong]],
            "confidence": probabilities[wrong].max(axis=1),
            "halt": expit(pooled.halt[seed, pooled.depth - 1, wrong].astype(np.float64)),
            "seeds_wrong": (by_seed.argmax(axis=-1) != pooled.truth)[:, wrong].sum(axis=0),
            "steps": [" > ".join(line) for line in by_step],
            "label_issue": issues.issue[wrong],
            "suggested": title[issues.suggested[wrong]],
            "doubt": issues.doubt[wrong],
        }
    )
    shares = pd.DataFrame(probabilities[wrong], columns=[f"p_{name}" for name in CLASSES])
    return pd.concat([table, shares], axis=1)


def confused_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Pairs of true and predicted class with the number of errors, their share and mean confidence, largest first."""
    grouped = table.groupby(["true", "predicted"], sort=False)["confidence"].agg(["size", "mean"]).reset_index()
    grouped = grouped.rename(columns={"size": "errors", "mean": "confidence"})
    grouped["share"] = grouped["errors"] / max(len(table), 1)
    return grouped.sort_values("errors", ascending=False, kind="stable", ignore_index=True)


def between_neighbours(table: pd.DataFrame) -> pd.DataFrame:
    """Errors between each two neighbouring classes, either way; columns pair, errors, share."""
    rows = []
    for first, second in NEIGHBOURS:
        forth = (table["true"] == first) & (table["predicted"] == second)
        back = (table["true"] == second) & (table["predicted"] == first)
        count = int((forth | back).sum())
        rows.append({"pair": f"{first} / {second}", "errors": count, "share": count / max(len(table), 1)})
    return pd.DataFrame(rows)


def findings(table: pd.DataFrame, pooled: Pooled, seed: int = 0) -> list[str]:
    """What the errors have in common, computed."""
    count, total = len(table), len(pooled.truth)
    if not count:
        return [f"None of {total:,} wafers is answered wrongly."]
    probabilities = pooled.probabilities(pooled.depth)[seed]
    correct = probabilities.argmax(axis=1) == pooled.truth
    sure = table[table["confidence"] > SURE]
    top = confused_pairs(table).head(3)
    pairs = [
        f"{row.true} taken for {row.predicted} ({row.errors:,}, {row.share:.0%} of all errors)"
        for row in top.itertuples()
    ]
    near = between_neighbours(table)
    between = ", ".join(f"{row.pair} {row.errors:,}" for row in near.itertuples())
    issues = int(table["label_issue"].sum())
    sentences = [
        f"{count:,} of {total:,} wafers are answered wrongly ({count / total:.1%}).",
        f"Most frequent: {'; '.join(pairs)}.",
        f"{len(sure):,} errors ({len(sure) / count:.0%}) are made with a confidence above {SURE:g}.",
        f"{near['errors'].sum():,} errors ({near['share'].sum():.0%}) lie between neighbouring classes: {between}.",
        f"Mean confidence {probabilities[correct].max(axis=1).mean():.3f} where right, "
        f"{table['confidence'].mean():.3f} where wrong.",
        f"{issues:,} errors ({issues / count:.0%}) look like label errors (confident learning, Northcutt et al. 2021, "
        "on answers of nets that did not see the label, mean over seeds): candidates for a second look, not verdicts.",
    ]
    if len(pooled.logits) > 1:
        every = int((table["seeds_wrong"] == len(pooled.logits)).sum())
        sentences.append(
            f"{every:,} of the errors ({every / count:.0%}) are made by every one of {len(pooled.logits)} seeds."
        )
    return sentences


def label_table(pooled: Pooled, wafers: Wafers) -> pd.DataFrame:
    """Likely label errors among all test wafers, the least believable label first; columns wafer, row, group, label,
    suggested, doubt, p_label, p_suggested."""
    probabilities, title = pooled.probabilities(pooled.depth).mean(axis=0), np.array(CLASSES)
    issues = label_issues(probabilities, pooled.truth)
    chosen = np.flatnonzero(issues.issue)
    chosen = chosen[np.argsort(-issues.doubt[chosen], kind="stable")]
    return pd.DataFrame(
        {
            "wafer": pooled.index[chosen],
            "row": wafers.row[pooled.index[chosen]],
            "group": pooled.group[chosen],
            "label": title[pooled.truth[chosen]],
            "suggested": title[issues.suggested[chosen]],
            "doubt": issues.doubt[chosen],
            "p_label": probabilities[chosen, pooled.truth[chosen]],
            "p_suggested": probabilities[chosen, issues.suggested[chosen]],
        }
    )
