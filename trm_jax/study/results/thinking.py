"""The report of `trm_jax.study.thinking`: tables with intervals over seeds, and two figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from trm_jax.reporting import page
from trm_jax.reporting.markdown import bullets, table
from trm_jax.reporting.style import COLOURS, DASHED, GREY, MARKERS, WIDTH, percent
from trm_jax.study.results.tables import exact_text
from trm_jax.study.statistics import mean_interval
from trm_jax.study.thinking import TrainedArm
from trm_jax.support.files import write_text


def write_thinking(
    directory: Path,
    arms: Sequence[TrainedArm],
    steps: Sequence[pd.DataFrame],
    rollouts: tuple[pd.DataFrame, float] | None,
    search: pd.DataFrame | None,
    samples: int,
    provenance: Mapping[str, str],
) -> None:
    """Write steps.csv, rollouts.csv, search.csv, report.md, report.html and figures into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    by_step = pd.concat(steps)
    trained = {arm.name: arm.config.recursion.N_sup for arm in arms}
    tables = {"steps": by_step}
    figures = {"steps": _curves(by_step, "arm", "steps", "Supervision steps", trained)}
    text = [
        "# Thinking longer than in training",
        "## Steps",
        f"Exact accuracy after so many supervision steps, percent, on the first {samples} test samples of the hardest "
        "level of each seed: mean over seeds and 95 % interval (Student's t). The weights are those that were best on "
        f"validation. Trained with {', '.join(f'{count} (`{name}`)' for name, count in trained.items())}.",
        _wide(by_step, "arm", "steps"),
        "![Exact accuracy by supervision steps, trained and beyond](figures/steps.svg)",
    ]
    if rollouts is not None:
        rows, noise = rollouts
        tables["rollouts"] = rows
        figures["rollouts"] = _curves(rows, "choice", "K", "Rollouts", {})
        text += [
            "## Rollouts",
            f"Exact accuracy of `{arms[0].name}` when one of K answers is chosen, percent. Noise of size {noise:g}, "
            "chosen on validation, is added to y and z before every step; the first rollout has none.",
            _wide(rows, "choice", "K"),
            "![Exact accuracy by number of rollouts](figures/rollouts.svg)",
        ]
    if search is not None:
        tables["search"] = search
        text += [
            "## Search",
            f"Pin the surest cell, let `{arms[0].name}` go on, take back on a contradiction; every answer was checked "
            "by the rules. A blind guess in the model's place is the control: what it solves, the search solves alone.",
            _search_table(search),
        ]
    text += ["## How this was made", bullets(f"{name}: `{value}`" for name, value in provenance.items())]
    for name, rows in tables.items():
        write_text(directory / f"{name}.csv", rows.to_csv(index=False))
    page.write_report(directory, "\n\n".join(text), figures)


def _wide(rows: pd.DataFrame, line: str, column: str) -> str:
    counts = sorted(rows[column].unique())
    lines = [
        [f"`{name}`", *(exact_text(group.loc[group[column] == count, "exact"]) for count in counts)]
        for name, group in rows.groupby(line, sort=False)
    ]
    return table(["", *counts], lines)


def _search_table(rows: pd.DataFrame) -> str:
    names = ["solved", "abstained", "wrong"]
    lines = [
        [guide, *(exact_text(group[name]) for name in names), f"{group['rounds'].mean():.1f}"]
        for guide, group in rows.groupby("guide", sort=False)
    ]
    return table(["Guide", "Solved %", "Abstained %", "Wrong %", "Mean rounds"], lines)


def _curves(rows: pd.DataFrame, line: str, column: str, label: str, trained: Mapping[str, int]) -> Figure:
    """Mean over seeds with its interval as a band; a dashed line where an arm's training ended."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for (name, group), colour, marker in zip(rows.groupby(line, sort=False), COLOURS, MARKERS, strict=False):
        counts = sorted(group[column].unique())
        means = [mean_interval(group.loc[group[column] == count, "exact"]).clipped for count in counts]
        value, low, high = zip(*means, strict=True)
        axes.fill_between(counts, low, high, color=colour, alpha=0.15, lw=0)
        depth = f" ({trained[str(name)]})" if name in trained else ""
        axes.plot(counts, value, marker=marker, ms=4, lw=1.5, color=colour, label=f"{name}{depth}".replace("_", " "))
    for count in sorted(set(trained.values())):
        axes.axvline(count, color=GREY, lw=1, ls=DASHED)
    axes.set_xscale("log", base=2)
    ticks = sorted(rows[column].unique())
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set(xlabel=label, ylabel="Solved exactly (%)", ylim=(0, 1))
    percent(axes.yaxis)
    figure.legend(loc="outside lower center", ncols=2, title="In brackets: steps in training" if trained else None)
    return figure
