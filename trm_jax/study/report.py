"""The report of a study: results.csv, report.md, a self-contained report.html, and its figures.

Everything in it is computed from the result rows and the learning curves: numbers and decisions by
`statistics`, sentences by `findings`, figures by `figures`. The templates hold what is true
of every study.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from trm_jax.reporting.style import svg
from trm_jax.study import figures, findings
from trm_jax.study.statistics import Comparison, compare_arms
from trm_jax.study.tables import Table, accuracy_table, cost_table, impact_table, overview_table, ranking_table
from trm_jax.support.files import write_text

IDENTITY = ("study", "arm", "seed", "blanks")
SCORES = ("exact", "valid", "cells", "best_exact")
MEASURES = ("parameters", "layer_applications", "flops", "train_seconds")
CURVES = {
    "validation_exact": "Learning curves on validation puzzles. Thin lines are seeds, the band reaches from the lowest "
    "to the highest, the dashed line is the mean of the reference arm.",
    "loss": "Training loss, drawn in the same way.",
}


class Picture(NamedTuple):
    """A figure as it stands in the report."""

    file: str
    svg: str
    caption: str

    @property
    def data(self) -> str:
        """The figure as a data URI, so that a page needs no other file."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


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
    compared: list[Comparison]
    tables: dict[str, Table]
    pictures: dict[str, Picture]


def write_report(
    directory: Path,
    rows: pd.DataFrame,
    curves: Mapping[str, pd.DataFrame],
    *,
    reference: str = "full",
    title: str,
    protocol: Sequence[str],
    provenance: Mapping[str, str],
    predicted: Sequence[str] | None = None,
    resolution: float = 1e-3,
) -> None:
    """Write results.csv, report.md, report.html and figures/*.svg into ``directory``, each file whole or not at all.

    ``rows`` has a row per study, difficulty (column ``blanks``), arm and seed; each study and difficulty is a section
    with its own family of tests. ``curves`` gives for each arm a table with columns ``step, seed, validation_exact``
    and, if known, ``loss``; with a column ``blanks`` the curves stand in the sections, else once for all of them.
    ``protocol`` are sentences about what was done, ``provenance`` what made the numbers (command, commit, machine).
    ``predicted`` is the order of arms that somebody expected, the largest impact first. ``resolution`` is the smallest
    difference that a score can show: 1 / test puzzles.
    Raises ValueError for missing columns, a score that is no number or outside 0 to 1, an arm and seed that occur
    twice, a section without the reference arm, or a predicted arm that is not compared.
    """
    rows = _checked(rows, reference, predicted)
    groups = _groups(rows)
    sections = [_section(group, curves, reference, name, predicted, resolution) for name, group in groups.items()]
    overview = {
        name: (group, section.compared) for (name, group), section in zip(groups.items(), sections, strict=True)
    }
    shared = {} if _by_difficulty(curves) else _curve_pictures(curves, reference, "")
    context = {
        "title": title,
        "sections": sections,
        "overview": overview_table(overview, reference),
        "curves": shared,
        "protocol": list(protocol),
        "provenance": dict(provenance),
        "reference": reference,
        "method": findings.method(resolution),
    }
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    write_text(directory / "results.csv", rows.to_csv(index=False))
    for picture in [picture for section in sections for picture in section.pictures.values()] + list(shared.values()):
        write_text(directory / "figures" / picture.file, picture.svg)
    for name in ("report.md", "report.html"):
        text = _environment().get_template(name).render(context)
        write_text(directory / name, re.sub(r"\n{3,}", "\n\n", text))


def _checked(rows: pd.DataFrame, reference: str, predicted: Sequence[str] | None) -> pd.DataFrame:
    """The rows with ``blanks`` as text, or a ValueError that says what is wrong with them."""
    missing = [name for name in IDENTITY + SCORES + MEASURES if name not in rows.columns]
    if missing:
        raise ValueError(f"results lack the columns {', '.join(missing)}")
    if rows.empty:
        raise ValueError("there are no results to report")
    rows = rows.assign(blanks=rows["blanks"].astype(str))
    scores = rows[list(SCORES)].to_numpy(float)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"scores must be numbers from 0 to 1: {', '.join(SCORES)}")
    if not np.isfinite(rows[list(MEASURES)].to_numpy(float)).all():
        raise ValueError(f"measures must be numbers: {', '.join(MEASURES)}")
    twice = rows[rows.duplicated(list(IDENTITY))]
    if len(twice):
        arm, seed = twice.iloc[0]["arm"], twice.iloc[0]["seed"]
        raise ValueError(f"seed {seed} of arm {arm!r} occurs more than once")
    unknown = [arm for arm in predicted or () if arm == reference or arm not in set(rows["arm"])]
    if unknown:
        raise ValueError(f"predicted order: {', '.join(unknown)} is not among the arms compared with {reference!r}")
    return rows


def _groups(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of each study and difficulty by its title, studies as they come and difficulties in ascending order."""
    named = rows["study"].nunique() > 1
    groups = {}
    for study, part in rows.groupby("study", sort=False):
        for blanks in sorted(part["blanks"].unique(), key=lambda text: [int(n) for n in re.findall(r"\d+", text)]):
            groups[(f"{study}, " if named else "") + f"{blanks} blanks"] = part[part["blanks"] == blanks]
    return groups


def _section(
    rows: pd.DataFrame,
    curves: Mapping[str, pd.DataFrame],
    reference: str,
    title: str,
    predicted: Sequence[str] | None,
    resolution: float,
) -> Section:
    compared = _compare(rows, "exact", reference, resolution)
    by_impact = sorted(compared.values(), key=lambda comparison: comparison.interval.mean)
    family = sum(len(comparison.seeds) > 1 for comparison in by_impact)
    broken = findings.is_broken(rows, reference)
    effects = []
    for comparison in by_impact:
        paper = "" if broken else findings.against_paper(comparison)
        effects.append(f"{findings.effect(comparison, reference, family)} {paper}".strip())
    tables = {"accuracy": accuracy_table(rows), "cost": cost_table(rows)}
    if by_impact:
        tables["impact"] = impact_table(by_impact, reference)
        tables["ranking"] = ranking_table(by_impact, reference, predicted)
    return Section(
        title=title,
        headline=findings.headline(by_impact, reference),
        reference=findings.reference_state(rows, reference),
        effects=effects,
        confounds=findings.confounds(rows, reference),
        checkpoints=findings.best_checkpoints(rows, compared, _compare(rows, "best_exact", reference, resolution)),
        ranking=findings.ranking(by_impact, predicted, reference, broken),
        compared=by_impact,
        tables=tables,
        pictures=_pictures(rows, by_impact, reference, _slug(title)) | _section_curves(rows, curves, reference, title),
    )


def _compare(rows: pd.DataFrame, column: str, reference: str, resolution: float) -> dict[str, Comparison]:
    scores = {
        str(arm): dict(zip(group["seed"].tolist(), group[column].tolist(), strict=True))
        for arm, group in rows.groupby("arm", sort=False)
    }
    return compare_arms(scores, reference, resolution=resolution)


def _pictures(rows: pd.DataFrame, compared: list[Comparison], reference: str, slug: str) -> dict[str, Picture]:
    drawn: dict[str, tuple[Figure, str]] = {
        "accuracy": (
            figures.accuracy(rows, reference),
            "Exact accuracy of every arm. Small dots are seeds, the line is the 95 % interval of the mean (Student's "
            "t, cut at 0 and 100 %), the diamond is the mean of the best checkpoints.",
        ),
        "parameters": (
            figures.cost(rows, "parameters", reference),
            "Parameters against exact accuracy: seeds, mean and 95 % interval of every arm.",
        ),
        "depth": (
            figures.cost(rows, "layer_applications", reference),
            "Counted effective depth against exact accuracy: seeds, mean and 95 % interval of every arm.",
        ),
    }
    if compared:
        drawn["impact"] = (
            figures.impact(compared, reference),
            f"Difference of every arm to {reference}, seed by seed. The thin line is Student's t interval, the wide "
            "one the bootstrap interval; the mean is filled where a difference was detected.",
        )
    return {name: _picture(f"{slug}-{name}.svg", *entry) for name, entry in drawn.items()}


def _section_curves(
    rows: pd.DataFrame, curves: Mapping[str, pd.DataFrame], reference: str, title: str
) -> dict[str, Picture]:
    """Learning curves of the difficulty of these rows, if the curves tell difficulties apart."""
    if not _by_difficulty(curves):
        return {}
    blanks = rows["blanks"].iloc[0]
    own = {arm: table[table["blanks"].astype(str) == blanks] for arm, table in curves.items()}
    own = {arm: table for arm, table in own.items() if len(table) and arm in set(rows["arm"])}
    return _curve_pictures(own, reference, _slug(title) + "-")


def _curve_pictures(curves: Mapping[str, pd.DataFrame], reference: str, prefix: str) -> dict[str, Picture]:
    made = {}
    for column, caption in CURVES.items():
        known = {arm: table for arm, table in curves.items() if column in table and table[column].notna().any()}
        if known:
            figure = figures.learning_curves(known, column, reference)
            made[column] = _picture(f"{prefix}{column.replace('_', '-')}.svg", figure, caption)
    return made


def _picture(file: str, figure: Figure, caption: str) -> Picture:
    return Picture(file, svg(figure), caption)


def _by_difficulty(curves: Mapping[str, pd.DataFrame]) -> bool:
    return bool(curves) and all("blanks" in table for table in curves.values())


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trm_jax.study", "."),
        autoescape=jinja2.select_autoescape(("html",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable] = {"inline": _inline, "cell": lambda text: text.replace("|", "\\|")}
    environment.filters.update(filters)
    return environment


def _inline(text: str) -> Markup:
    """Markdown's code and strong marks as HTML, names that may break after an underscore; the rest is escaped."""

    def code(match: re.Match[str]) -> str:
        return f"<code>{match[1].replace('_', '_<wbr>')}</code>"

    html = re.sub(r"`([^`]+)`", code, str(escape(text))).replace(" %", "&nbsp;%").replace(" p ", " p&nbsp;")
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html))
