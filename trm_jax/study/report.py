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
from trm_jax.study import figures, findings, tables
from trm_jax.study.findings import Wording
from trm_jax.study.published import Paper
from trm_jax.study.statistics import RESAMPLES, Comparison, compare_arms
from trm_jax.support.files import write_text

IDENTITY = ("study", "arm", "seed", "difficulty")
SCORES = ("exact", "cells", "best_exact")
MEASURES = ("parameters", "layer_applications", "flops", "train_seconds")
CURVES = ("validation_exact", "loss")


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
    """All that is said about one study at one difficulty; sentences are Markdown."""

    title: str
    headline: str
    reference: list[str]
    effects: list[str]
    confounds: list[str]
    checkpoints: list[str]
    ranking: list[str]
    comparisons: list[Comparison]
    tables: dict[str, pd.DataFrame]
    figures: dict[str, Figure]
    """By file name without its ending."""

    @property
    def slug(self) -> str:
        """The title as the beginning of file names."""
        return _slug(self.title)


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
) -> None:
    """Write results.csv, report.md, report.html and figures/*.svg into ``directory``, each file whole or not at all.

    ``rows`` has a row per study, difficulty (text that names a section, such as "8 blanks"), arm and seed, with the
    columns of IDENTITY, SCORES and MEASURES, and ``valid`` where a task knows it; each section has its own family of
    tests. ``curves`` gives for each arm a table with columns ``step, seed, validation_exact`` and, if known, ``loss``;
    with a column ``difficulty`` the curves stand in the sections, else once for all of them. ``protocol`` are sentences
    about what was done, ``predicted`` the order of arms that somebody expected, the largest impact first.
    ``resolution`` is the smallest difference that a score can show: 1 / test examples.
    Raises ValueError for missing columns, a score that is not from 0 to 1, an arm and seed that occur twice, a section
    without the reference arm, or a predicted arm that is not compared.
    """
    frame = Frame(reference, predicted, resolution, wording, paper)
    rows = _checked(rows, frame)
    groups = _groups(rows)
    sections = [_section(group, curves, frame, name) for name, group in groups.items()]
    overview = {section.title: (groups[section.title], section.comparisons) for section in sections}
    shared = {} if _by_difficulty(curves) else _curves(curves, frame, "")
    text = page.template("trm_jax.study", "report.md").render(
        title=title,
        sections=sections,
        overview=tables.overview_table(overview, wording),
        curves=list(shared),
        protocol=protocol,
        provenance=provenance,
        resamples=RESAMPLES,
        has_valid="valid" in rows,
        **vars(frame),
    )
    drawn = {name: figure for section in sections for name, figure in section.figures.items()} | shared
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


def _groups(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of each study and difficulty by its title: studies as they come, difficulties by their numbers."""
    several = rows["study"].nunique() > 1
    groups = {}
    for study, part in rows.groupby("study", sort=False):
        levels = sorted(part["difficulty"].unique(), key=lambda text: [int(n) for n in re.findall(r"\d+", text)])
        for level in levels:
            groups[f"{study}, {level}" if several else level] = part[part["difficulty"] == level]
    return groups


def _section(rows: pd.DataFrame, curves: Mapping[str, pd.DataFrame], frame: Frame, title: str) -> Section:
    reference, wording, paper = frame.reference, frame.wording, frame.paper
    compared = _compare(rows, "exact", frame)
    by_impact = sorted(compared.values(), key=lambda comparison: comparison.interval.value)
    family = sum(len(comparison.seeds) > 1 for comparison in by_impact)
    broken = findings.is_broken(rows, reference)
    effects = []
    for comparison in by_impact:
        reported = findings.against_paper(comparison, paper) if paper and not broken else ""
        effects.append(f"{findings.effect(comparison, reference, family)} {reported}".strip())
    shown = {"accuracy": tables.accuracy_table(rows), "cost": tables.cost_table(rows, wording)}
    if by_impact:
        shown["impact"] = tables.impact_table(by_impact)
        shown["ranking"] = tables.ranking_table(by_impact, frame.predicted, paper)
    return Section(
        title=title,
        headline=findings.headline(by_impact, reference),
        reference=findings.reference_state(rows, reference, wording),
        effects=effects,
        confounds=findings.confounds(rows, reference),
        checkpoints=findings.best_checkpoints(rows, compared, _compare(rows, "best_exact", frame)),
        ranking=findings.ranking(by_impact, frame.predicted, paper, reference, broken),
        comparisons=by_impact,
        tables=shown,
        figures=_figures(rows, by_impact, frame, _slug(title)) | _section_curves(rows, curves, frame, title),
    )


def _compare(rows: pd.DataFrame, column: str, frame: Frame) -> dict[str, Comparison]:
    scores = {
        str(arm): dict(zip(group["seed"].tolist(), group[column].tolist(), strict=True))
        for arm, group in rows.groupby("arm", sort=False)
    }
    return compare_arms(scores, frame.reference, resolution=frame.resolution)


def _figures(rows: pd.DataFrame, compared: list[Comparison], frame: Frame, slug: str) -> dict[str, Figure]:
    reference, wording = frame.reference, frame.wording
    drawn = {
        f"{slug}-accuracy": figures.accuracy(rows, reference, wording),
        f"{slug}-parameters": figures.cost(rows, "parameters", reference, wording),
        f"{slug}-depth": figures.cost(rows, "layer_applications", reference, wording),
    }
    return drawn | ({f"{slug}-impact": figures.impact(compared, reference)} if compared else {})


def _section_curves(
    rows: pd.DataFrame, curves: Mapping[str, pd.DataFrame], frame: Frame, title: str
) -> dict[str, Figure]:
    """Learning curves of the difficulty of these rows, if the curves tell difficulties apart."""
    if not _by_difficulty(curves):
        return {}
    level = rows["difficulty"].iloc[0]
    chosen = {arm: table[table["difficulty"].astype(str) == level] for arm, table in curves.items()}
    chosen = {arm: table for arm, table in chosen.items() if len(table) and arm in set(rows["arm"])}
    return _curves(chosen, frame, _slug(title) + "-")


def _curves(curves: Mapping[str, pd.DataFrame], frame: Frame, prefix: str) -> dict[str, Figure]:
    drawn = {}
    for column in CURVES:
        known = {arm: table for arm, table in curves.items() if column in table and table[column].notna().any()}
        if known:
            name = prefix + column.replace("_", "-")
            drawn[name] = figures.learning_curves(known, column, frame.reference, frame.wording)
    return drawn


def _by_difficulty(curves: Mapping[str, pd.DataFrame]) -> bool:
    return bool(curves) and all("difficulty" in table for table in curves.values())


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()
