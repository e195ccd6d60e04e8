"""The report of a study: results.csv, report.md, a self-contained report.html, and its figures.

Everything in it is computed from the result rows and the learning curves: numbers and decisions by `statistics`,
sentences by `findings`, figures by `figures`. The template holds what is true of every study.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trm_jax.reporting import page
from trm_jax.study.results import figures, findings, tables
from trm_jax.study.results.findings import Wording
from trm_jax.study.results.published import Paper
from trm_jax.study.statistics import RESAMPLES, Comparison, compare_arms
from trm_jax.support.files import write_text

IDENTITY = ("study", "arm", "seed", "difficulty")
SCORES = ("exact", "cells", "best_exact")
MEASURES = ("parameters", "layer_applications", "flops", "train_seconds")


@dataclass(frozen=True)
class Frame:
    """What all sections of a report share."""

    reference: str
    predicted: Sequence[str]
    resolution: float
    wording: Wording
    paper: Paper | None


@dataclass(frozen=True)
class Section:
    """All that is said about the arms at one difficulty; sentences are Markdown."""

    title: str
    headline: str
    reference: list[str]
    effects: list[str]
    checkpoints: list[str]
    ranking: list[str]
    comparisons: list[Comparison]
    tables: dict[str, pd.DataFrame]


def write_report(
    directory: Path,
    rows: pd.DataFrame,
    curves: Mapping[str, pd.DataFrame],
    *,
    title: str,
    protocol: Sequence[str],
    provenance: Mapping[str, str],
    wording: Wording,
    reference: str = "full",
    predicted: Sequence[str] = (),
    resolution: float = 1e-3,
    paper: Paper | None = None,
    smoke: bool = False,
) -> None:
    """Write results.csv, report.md, report.html and figures/*.svg into ``directory``, each file whole or not at all.

    ``rows`` has a row per difficulty (text that names a section, such as "8 blanks"), arm and seed of a study, with the
    columns of IDENTITY, SCORES and MEASURES, and ``valid`` where a task knows it; each section has its own family of
    tests. ``curves`` gives for each arm a table with columns ``step, seed, validation_exact`` and, if known, ``loss``.
    ``protocol`` are sentences about what was done, ``predicted`` the order of arms that somebody expected, the largest
    impact first. ``resolution`` is the smallest difference that a score can show: 1 / test examples. ``smoke`` says
    that the numbers mean nothing: nothing is concluded from them.
    Raises ValueError for missing columns, a score that is not from 0 to 1, an arm and seed that occur twice, a section
    without the reference arm, or a predicted arm that is not compared.
    """
    frame = Frame(reference, predicted, resolution, wording, paper)
    rows = _checked(rows, frame)
    levels = sorted(rows["difficulty"].unique(), key=lambda text: [int(n) for n in re.findall(r"\d+", text)])
    groups = {level: rows[rows["difficulty"] == level] for level in levels}
    sections = [_section(group, frame, level) for level, group in groups.items()]
    drawn = _figures(rows, groups, sections, curves, frame)
    text = page.template("trm_jax.study.results", "report.md").render(
        title=title,
        sections=[] if smoke else sections,
        figures=list(drawn),
        overview=tables.overview_table({s.title: (groups[s.title], s.comparisons) for s in sections}, wording),
        confounds=findings.confounds(rows, reference),
        cost=tables.cost_table(rows, wording),
        protocol=protocol,
        provenance=provenance,
        resamples=RESAMPLES,
        has_valid="valid" in rows,
        smoke=smoke,
        **vars(frame),
    )
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "results.csv", rows.to_csv(index=False))
    page.write_report(directory, text, drawn)


def _checked(rows: pd.DataFrame, frame: Frame) -> pd.DataFrame:
    """The rows with ``difficulty`` as text, or a ValueError that says what is wrong with them."""
    missing = [name for name in IDENTITY + SCORES + MEASURES if name not in rows.columns]
    if missing:
        raise ValueError(f"results lack the columns {', '.join(missing)}")
    if rows.empty:
        raise ValueError("there are no results to report")
    rows = rows.assign(difficulty=rows["difficulty"].astype(str))
    names = [name for name in ("valid", *SCORES) if name in rows]
    scores = rows[names].to_numpy(float)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"scores must be numbers from 0 to 1: {', '.join(names)}")
    if not np.isfinite(rows[list(MEASURES)].to_numpy(float)).all():
        raise ValueError(f"measures must be numbers: {', '.join(MEASURES)}")
    twice = rows[rows.duplicated(list(IDENTITY))]
    if len(twice):
        arm, seed = twice.iloc[0]["arm"], twice.iloc[0]["seed"]
        raise ValueError(f"seed {seed} of arm {arm!r} occurs more than once")
    unknown = [arm for arm in frame.predicted if arm == frame.reference or arm not in set(rows["arm"])]
    if unknown:
        listed = ", ".join(unknown)
        raise ValueError(f"predicted order: {listed} is not among the arms compared with {frame.reference!r}")
    return rows


def _section(rows: pd.DataFrame, frame: Frame, title: str) -> Section:
    reference, wording, paper = frame.reference, frame.wording, frame.paper
    compared = _compare(rows, "exact", frame)
    by_impact = sorted(compared.values(), key=lambda comparison: comparison.interval.value)
    family = sum(len(comparison.seeds) > 1 for comparison in by_impact)
    broken = findings.is_broken(rows, reference)
    effects = []
    for comparison in by_impact:
        reported = findings.against_paper(comparison, paper) if paper and not broken else ""
        effects.append(f"{findings.effect(comparison, reference, family)} {reported}".strip())
    shown = {"accuracy": tables.accuracy_table(rows)}
    if by_impact:
        shown["impact"] = tables.impact_table(by_impact)
        shown["ranking"] = tables.ranking_table(by_impact, frame.predicted, paper)
    return Section(
        title=title,
        headline=findings.headline(by_impact, reference),
        reference=findings.reference_state(rows, reference, wording),
        effects=effects,
        checkpoints=findings.best_checkpoints(rows, compared, _compare(rows, "best_exact", frame)),
        ranking=findings.ranking(by_impact, frame.predicted, paper, reference, broken),
        comparisons=by_impact,
        tables=shown,
    )


def _compare(rows: pd.DataFrame, column: str, frame: Frame) -> dict[str, Comparison]:
    scores = {
        str(arm): dict(zip(group["seed"].tolist(), group[column].tolist(), strict=True))
        for arm, group in rows.groupby("arm", sort=False)
    }
    return compare_arms(scores, frame.reference, resolution=frame.resolution)


def _figures(
    rows: pd.DataFrame,
    groups: Mapping[str, pd.DataFrame],
    sections: Sequence[Section],
    curves: Mapping[str, pd.DataFrame],
    frame: Frame,
) -> dict[str, Figure]:
    """Effects, curves, and, where arms differ in it, what they cost; by file name without its ending."""
    reference, drawn = frame.reference, {}
    compared = {section.title: section.comparisons for section in sections if section.comparisons}
    if compared:
        drawn["effects"] = figures.forest(rows, compared, reference)
    if curves:
        drawn["curves"] = figures.learning_curves(curves, reference, frame.wording)
    if rows["flops"].max() > 1.1 * rows["flops"].min():
        drawn["cost"] = figures.cost(groups[sections[-1].title], reference, frame.wording)
    return drawn
