"""The report on classifiers tested on the same wafers: results.csv, report.md, report.html and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from trm_jax.reporting import page
from trm_jax.reporting.interval import Interval
from trm_jax.reporting.markdown import table
from trm_jax.support.files import write_text
from trm_jax.wafer.evaluation import figures, metrics
from trm_jax.wafer.evaluation.metrics import GroupCounts
from trm_jax.wafer.evaluation.report import protocol
from trm_jax.wafer.evaluation.results import CLASS_SCORES
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.splits import Split


class BaselineResult(NamedTuple):
    """A classifier's answers to the test wafers of all splits, in the order of the splits."""

    probabilities: np.ndarray
    parameters: int
    train_seconds: float
    latency_ms: float


def write_report(
    directory: Path,
    results: Mapping[str, BaselineResult],
    wafers: Wafers,
    splits: Sequence[Split],
    kind: str,
    provenance: Mapping[str, str],
) -> str:
    """Write all files about classifiers by name; returns the main table as text."""
    index = np.concatenate([split.test for split in splits])
    truth, group = wafers.label[index], wafers.group[index]
    counts = {name: metrics.count(truth, result.probabilities, group) for name, result in results.items()}
    draws = metrics.resample(len(np.unique(group)))
    measured = {name: metrics.with_intervals(of_model, draws) for name, of_model in counts.items()}
    by_fold = {name: fold_scores(result, wafers, splits) for name, result in results.items()}
    main = main_table(results, measured, by_fold)
    best = max(measured, key=lambda name: measured[name]["macro_f1"].value)
    source = wafers.source
    drawn = {
        "macro_f1": figures.macro_f1(measured, source),
        "f1_by_class": figures.f1_by_class(measured, CLASSES, source),
        "confusion": figures.confusion(counts[best].confusion.sum(axis=0), CLASSES, f"{best}, {source}"),
    }
    text = page.template("trm_jax.wafer.baselines", "report.md").render(
        kind=kind,
        source=source,
        protocol=protocol(wafers, splits, kind),
        main=table(main.columns, main.to_numpy()),
        classes=CLASSES,
        measured=measured,
        findings=findings(counts, draws),
        provenance=provenance,
    )
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "results.csv", long_table(results, measured, by_fold).to_csv(index=False))
    page.write_report(directory, text, drawn)
    return main.to_string(index=False)


def fold_scores(result: BaselineResult, wafers: Wafers, splits: Sequence[Split]) -> pd.DataFrame:
    """Accuracy and macro-F1 of each split's test part, a row a split."""
    rows, ends = [], np.cumsum([len(split.test) for split in splits])[:-1]
    for split, probabilities in zip(splits, np.split(result.probabilities, ends), strict=True):
        scores = metrics.seed_scores(wafers.label[split.test], probabilities.argmax(axis=1)[None], len(CLASSES))
        rows.append((split.name, float(scores.accuracy[0]), float(scores.macro_f1[0])))
    return pd.DataFrame(rows, columns=["split", "accuracy", "macro_f1"])


def main_table(
    results: Mapping[str, BaselineResult],
    measured: Mapping[str, Mapping[str, Interval]],
    by_fold: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """One row a classifier, as shown."""
    rows = [
        [name, f"{by_fold[name]['macro_f1'].mean():.3f}"]
        + [str(measured[name][score]) for score in ("macro_f1", "accuracy", "balanced_accuracy", "ece")]
        + [f"{result.parameters:,}", f"{result.train_seconds:.0f}", f"{result.latency_ms:.2f}"]
        for name, result in results.items()
    ]
    columns = ["Model", "Macro-F1, mean of folds", "Macro-F1, all wafers", "Accuracy", "Balanced accuracy", "ECE"]
    return pd.DataFrame(rows, columns=[*columns, "Parameters", "Training, s a fold", "One map, ms"])


def long_table(
    results: Mapping[str, BaselineResult],
    measured: Mapping[str, Mapping[str, Interval]],
    by_fold: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """Every number: columns model, split, score, value, low, high."""
    rows: list[tuple[str, str, str, float, float, float]] = []
    for name, scores in measured.items():
        rows += [(name, "all", score, *interval) for score, interval in scores.items()]
        others = [("all", score, getattr(results[name], score)) for score in BaselineResult._fields[1:]]
        others += by_fold[name].melt("split", var_name="score").itertuples(index=False, name=None)
        rows += [(name, *row, np.nan, np.nan) for row in others]
    frame = pd.DataFrame(rows, columns=["model", "split", "score", "value", "low", "high"])
    return frame.assign(score=frame["score"].replace(CLASS_SCORES))


def findings(counts: Mapping[str, GroupCounts], draws: np.ndarray) -> list[str]:
    """How the best classifier compares with each of the others, and every one at the class mix of all of WM-811K."""
    macro_f1 = {name: float(metrics.scores(of_model.confusion.sum(0)).macro_f1) for name, of_model in counts.items()}
    best, *others = sorted(counts, key=lambda name: -macro_f1[name])
    sentences = []
    for name in others:
        gap = metrics.difference(counts[best], counts[name], draws)["macro_f1"]
        verdict = "better" if gap.low > 0 else "not shown to be better"
        sentences.append(f"`{best}` is {verdict} than `{name}`: macro-F1 {gap:+.3f}.")
    return sentences + [
        f"`{name}` {metrics.at_wm811k_prior_in_words(counts[name].confusion.sum(axis=0))}" for name in (best, *others)
    ]
