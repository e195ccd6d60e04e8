"""Table, sentences and files about classifiers tested on the same wafers; everything is computed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from trm_jax.reporting import markdown
from trm_jax.reporting.style import svg
from trm_jax.support.files import write_text
from trm_jax.wafer.evaluation import metrics, score_figures
from trm_jax.wafer.evaluation.metrics import GroupCounts, Interval, Scores
from trm_jax.wafer.maps.maps import CLASSES, Wafers
from trm_jax.wafer.splits import Split

WM811K_LABELLED = 172_950
WM811K_NONE = 147_431
"""Labelled wafers of the public WM-811K, and those of class none among them."""


class Outcome(NamedTuple):
    """A classifier's answers to the test wafers of all splits, in the order of the splits."""

    probabilities: np.ndarray
    parameters: int
    train_seconds: float
    latency_ms: float


def write_report(
    directory: Path,
    tested: Mapping[str, Outcome],
    wafers: Wafers,
    splits: Sequence[Split],
    kind: str,
    provenance: Mapping[str, str],
) -> str:
    """Write results.csv, report.md and figures/ of classifiers by name; returns the table as text."""
    index = np.concatenate([split.test for split in splits])
    truth, group = wafers.label[index], wafers.group[index]
    counts = {name: metrics.count(truth, one.probabilities, group) for name, one in tested.items()}
    draws = metrics.resample(len(np.unique(group)))
    measured = {name: metrics.with_intervals(one, draws) for name, one in counts.items()}
    by_fold = {name: fold_scores(one, wafers, splits) for name, one in tested.items()}
    main, by_class = main_table(tested, measured, by_fold), class_table(measured)
    best = max(measured, key=lambda name: measured[name]["macro_f1"].value)
    figures = {
        "macro_f1": score_figures.macro_f1(measured, wafers.source),
        "f1_by_class": score_figures.f1_by_class(measured, CLASSES, wafers.source),
        "confusion": score_figures.confusion(counts[best].confusion.sum(axis=0), CLASSES, f"{best}, {wafers.source}"),
    }
    (directory / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        write_text(directory / "figures" / f"{name}.svg", svg(figure))
    write_text(directory / "results.csv", long_table(tested, measured, by_fold).to_csv(index=False))
    parts = [
        f"# Wafer classifiers, split by {kind}: {wafers.source}",
        markdown.bullets(protocol(wafers, splits, kind)),
        markdown.table(main.columns, main.to_numpy()),
        "F1 of each class, percent:",
        markdown.table(by_class.columns, by_class.to_numpy()),
        markdown.bullets(findings(counts, draws)),
        "\n\n".join(f"![{name}](figures/{name}.svg)" for name in figures),
        markdown.bullets(f"{key}: `{value}`" for key, value in provenance.items()),
    ]
    write_text(directory / "report.md", "\n\n".join(parts) + "\n")
    return main.to_string(index=False)


def fold_scores(tested: Outcome, wafers: Wafers, splits: Sequence[Split]) -> pd.DataFrame:
    """Accuracy and macro-F1 of each split's test part, a row a split."""
    rows, ends = [], np.cumsum([len(split.test) for split in splits])[:-1]
    for split, probabilities in zip(splits, np.split(tested.probabilities, ends), strict=True):
        counts = metrics.count(wafers.label[split.test], probabilities, wafers.group[split.test])
        scores = metrics.scores(counts.confusion.sum(axis=0))
        rows.append({"split": split.name, "accuracy": float(scores.accuracy), "macro_f1": float(scores.macro_f1)})
    return pd.DataFrame(rows)


def main_table(
    tested: Mapping[str, Outcome], measured: Mapping[str, dict[str, Interval]], by_fold: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """One row a classifier, as shown."""
    return pd.DataFrame(
        [
            {
                "Model": name,
                "Macro-F1, mean of folds": f"{by_fold[name]['macro_f1'].mean():.3f}",
                "Macro-F1, all wafers": ranged(measured[name]["macro_f1"]),
                "Accuracy": ranged(measured[name]["accuracy"]),
                "Balanced accuracy": ranged(measured[name]["balanced_accuracy"]),
                "ECE": ranged(measured[name]["ece"]),
                "Parameters": f"{one.parameters:,}",
                "Training, s a fold": f"{one.train_seconds:.0f}",
                "One map, ms": f"{one.latency_ms:.2f}",
            }
            for name, one in tested.items()
        ]
    )


def class_table(measured: Mapping[str, dict[str, Interval]]) -> pd.DataFrame:
    """F1 of each class in percent with its interval, one row a classifier."""
    return pd.DataFrame(
        [
            {"Model": name}
            | {
                title: f"{100 * one[f'f1_{index}'].value:.0f} ({100 * one[f'f1_{index}'].low:.0f} to "
                f"{100 * one[f'f1_{index}'].high:.0f})"
                for index, title in enumerate(CLASSES)
            }
            for name, one in measured.items()
        ]
    )


def ranged(interval: Interval) -> str:
    """A score and its interval."""
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def long_table(
    tested: Mapping[str, Outcome], measured: Mapping[str, dict[str, Interval]], by_fold: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Every number: columns model, split, score, value, low, high."""
    rows = []
    for name, one in measured.items():
        rows += [{"model": name, "split": "all", "score": score, **found._asdict()} for score, found in one.items()]
        for score in ("parameters", "train_seconds", "latency_ms"):
            rows.append({"model": name, "split": "all", "score": score, "value": getattr(tested[name], score)})
        for row in by_fold[name].to_dict("records"):
            rows += [
                {"model": name, "split": row["split"], "score": score, "value": row[score]}
                for score in ("accuracy", "macro_f1")
            ]
    table = pd.DataFrame(rows)
    names = {f"f1_{index}": f"f1_{title}" for index, title in enumerate(CLASSES)}
    return table.assign(score=table["score"].replace(names))


def protocol(wafers: Wafers, splits: Sequence[Split], kind: str) -> list[str]:
    """What was done, in three sentences."""
    whole = {
        "lot": "no lot has wafers on both sides of a split",
        "random": "wafers of a lot are on both sides of a split, which flatters",
        "official": "the training and test part are those of the file",
    }[kind]
    tested = sum(len(split.test) for split in splits)
    share = np.mean(wafers.label[np.concatenate([split.test for split in splits])] == CLASSES.index("none"))
    return [
        f"{tested:,} labelled wafers in {len(splits)} test parts, mixed as in the data ({share:.0%} none); {whole}.",
        "Weights and stopping are chosen by macro-F1 or loss on validation wafers, about a sixth of those not tested; "
        "the test part chooses nothing.",
        "Intervals are 95 % percentile intervals of 1,000 bootstrap samples of whole lots (or blocks of lots).",
    ]


def findings(counts: Mapping[str, GroupCounts], draws: np.ndarray) -> list[str]:
    """How the best classifier compares with each of the others, and at the class mix of all of WM-811K."""
    by_score = sorted(counts, key=lambda name: -float(metrics.scores(counts[name].confusion.sum(0)).macro_f1))
    best, sentences = by_score[0], []
    for other in by_score[1:]:
        found = metrics.difference(counts[best], counts[other], draws)["macro_f1"]
        sure = "better" if found.low > 0 else "not shown to be better"
        sentences.append(
            f"`{best}` is {sure} than `{other}`: macro-F1 {found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})."
        )
    for name in by_score:
        mixed = at_full_mix(counts[name].confusion.sum(axis=0))
        sentences.append(f"`{name}` {at_full_mix_in_words(mixed)}")
    return sentences


def at_full_mix(confusion: np.ndarray) -> Scores:
    """Scores that a confusion matrix (C, C) means at the share of none in all of WM-811K, with the same errors."""
    none, shares = CLASSES.index("none"), confusion.sum(axis=1)
    rest = (WM811K_LABELLED - WM811K_NONE) / max(shares.sum() - shares[none], 1)
    return metrics.at_mix(confusion, np.where(np.arange(len(shares)) == none, WM811K_NONE, shares * rest))


def at_full_mix_in_words(mixed: Scores) -> str:
    """The end of a sentence about a classifier."""
    return (
        "with the same errors at the share of none in all of WM-811K "
        f"({WM811K_NONE / WM811K_LABELLED:.1%}): accuracy {float(mixed.accuracy):.3f}, "
        f"macro-F1 {float(mixed.macro_f1):.3f}."
    )
