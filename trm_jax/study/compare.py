"""Runs that were made apart, side by side: what they differ in, and the same report as that of one study."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from trm_jax.study.results.findings import Wording
from trm_jax.study.results.report import write_report
from trm_jax.study.runner import learning_curve
from trm_jax.support.schema import changed_fields, option_at


class Trained(NamedTuple):
    """An arm of a study that has run."""

    name: str
    options: dict[str, Any]
    rows: pd.DataFrame
    curve: pd.DataFrame


def read_arms(runs: Sequence[Path], chosen: Sequence[str]) -> list[Trained]:
    """The arms of studies by RUN/ARM, those that are ``chosen`` by their own names or all. Raises ValueError."""
    found = []
    for run in runs:
        file = run / "results.json"
        if not file.is_file():
            raise ValueError(f"{run} is not the folder of a study that has run: it has no results.json")
        content = json.loads(file.read_text(encoding="utf-8"))
        rows = pd.DataFrame(content["rows"])
        for arm, options in content["arms"].items():
            if not chosen or arm in chosen:
                name = f"{run.name}/{arm}" if len(runs) > 1 else arm
                curve = learning_curve(run / "arms" / arm)
                found.append(Trained(name, options, rows[rows["arm"] == arm].assign(arm=name, study="compare"), curve))
    if len(found) < 2:
        raise ValueError(f"there are {len(found)} arms to compare; name two runs, or a run with several arms")
    return found


def differing(arms: Sequence[Trained]) -> pd.DataFrame:
    """The options in which the arms differ, a column for each."""
    first = arms[0]
    names = sorted({name for arm in arms for name in changed_fields(first.options, arm.options)})
    lines = [[arm.name, *(json.dumps(option_at(arm.options, name)) for name in names)] for arm in arms]
    return pd.DataFrame(lines, columns=["Arm", *names])


def compare(arms: Sequence[Trained], directory: Path) -> None:
    """Write the report of the arms, the first as the reference. Raises ValueError where they share no difficulty."""
    levels = set.intersection(*(set(arm.rows["difficulty"]) for arm in arms))
    if not levels:
        raise ValueError("the runs share no difficulty: they were tested on different samples")
    rows = pd.concat([arm.rows for arm in arms])
    names = differing(arms).columns[1:].tolist()
    other_samples = [name for name in names if name.startswith("task.")]
    warning = "**The arms may have been tested on different samples: their task options differ.**"
    write_report(
        directory,
        rows[rows["difficulty"].isin(levels)],
        {arm.name: arm.curve for arm in arms},
        title=" and ".join(arm.name for arm in arms[:2]) + (" and others" if len(arms) > 2 else ""),
        protocol=[f"Trained apart. They differ in {', '.join(f'`{name}`' for name in names) or 'no option'}."]
        + [warning] * bool(other_samples),
        provenance={"compared": ", ".join(arm.name for arm in arms)},
        wording=Wording("example", "examples"),
        reference=arms[0].name,
    )
