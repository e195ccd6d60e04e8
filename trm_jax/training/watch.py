"""Look at runs while they train: one page with the learning curves of every arm and seed, which refreshes itself.

    python -m trm_jax.training.watch runs/mine                         # writes runs/mine/watch.html until it ends
    python -m trm_jax.training.watch runs/a runs/b --output ab.html    # side by side, with their differing options
    python -m trm_jax.training.watch runs/a --once                     # once

Runs are read only: watching changes nothing in them but the page.
"""

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import tyro

from trm_jax.reporting import markdown
from trm_jax.support.files import write_text
from trm_jax.support.schema import changed_fields, option_at, require
from trm_jax.support.terminal.cli import main
from trm_jax.training.run_directory import STEPS, read_metrics, read_options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VALIDATION = "validation_"


@dataclass(frozen=True)
class Arguments:
    """Write a page about one run or two, again and again."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs: of one training, or of a study with arms."""
    output: Path | None = None
    """HTML file to write; watch.html in the first run if left out."""
    every: float = 10.0
    """Seconds between two looks."""
    once: bool = False
    """Write the page once and end."""


class Arm(NamedTuple):
    """One training as its directory tells it."""

    name: str
    options: dict[str, Any]
    rows: list[dict[str, Any]]
    running: bool
    seconds: float
    """From the first file of the directory to the last row of metrics, compiling and pauses included."""

    @property
    def step(self) -> int:
        """Updates so far."""
        return self.rows[-1]["step"] if self.rows else 0

    @property
    def rate(self) -> float:
        """Updates a second."""
        return self.step / self.seconds if self.seconds > 0 else 0.0

    def validation(self) -> tuple[str, list[dict[str, Any]]]:
        """Name of the first validation score, and the rows that have one."""
        rows = [row for row in self.rows if any(name.startswith(VALIDATION) for name in row)]
        return next((name for name in (rows[0] if rows else {}) if name.startswith(VALIDATION)), ""), rows


def read_arms(run: Path) -> list[Arm]:
    """The trainings in a folder: itself, or those directly below it or in its arms. Raises ValueError without any."""
    places = [run, *sorted(run.glob("*/")), *sorted(run.glob("arms/*/"))]
    arms = [_read_arm(run, place) for place in places if (place / "config.json").is_file()]
    require(bool(arms), f"{run} is no run: no config.json in it, below it or in its arms")
    return arms


def _read_arm(run: Path, place: Path) -> Arm:
    metrics = place / "metrics.jsonl"
    started, latest = (path.stat().st_mtime if path.exists() else 0.0 for path in (place / "environment.json", metrics))
    name = run.name if place == run else place.name
    return Arm(name, read_options(place), read_metrics(place), _locked(place / "lock"), max(0.0, latest - started))


def _locked(path: Path) -> bool:
    """Whether a process trains there now."""
    if not path.exists():
        return False
    number = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(number)
    return False


def status(arm: Arm) -> list[str]:
    """A row of the table: name, state, progress, rate, time left, best validation score of every seed."""
    steps = arm.options["run"]["steps"]
    left = (steps - arm.step) / arm.rate if arm.rate else 0.0
    state = "running" if arm.running else "finished" if arm.step >= steps else "stopped"
    name, rows = arm.validation()
    last = ", ".join(f"{value:.3f}" for value in rows[-1][name]) if rows else ""
    return [
        arm.name,
        state,
        f"{arm.step:,} of {steps:,}",
        f"{arm.rate:.2f}",
        f"{left / 60:.0f} min" if state == "running" and arm.rate else "",
        f"{name.removeprefix(VALIDATION)} {last}".strip(),
    ]


def draw(runs: dict[str, list[Arm]]) -> "Figure":
    """Validation score and loss over the updates: a column for a run, a colour for an arm, a line for a seed."""
    from matplotlib.figure import Figure  # here: training alone draws nothing

    from trm_jax.reporting.style import COLOURS

    figure = Figure(figsize=(5.0 * len(runs), 6.0), layout="constrained")
    axes = figure.subplots(2, len(runs), sharey="row", squeeze=False)
    for column, (name, arms) in enumerate(runs.items()):
        for arm, colour in zip(arms, COLOURS * (1 + len(arms) // len(COLOURS)), strict=False):
            score, rows = arm.validation()
            for line, (key, values) in enumerate(((score, rows), ("loss", arm.rows))):
                curves = np.array([row[key] for row in values]).T if values else np.zeros((0, 0))
                for seed, curve in enumerate(curves):
                    label = arm.name if seed == 0 else None
                    steps = [row["step"] for row in values]
                    axes[line, column].plot(steps, curve, color=colour, lw=1.2, marker=".", ms=4, label=label)
                axes[line, column].set_ylabel(key.replace("_", " "))
        axes[0, column].set_title(name)
        axes[1, column].set(xlabel="updates", yscale="log")
        if any(arm.rows for arm in arms):
            axes[1, column].legend()
    return figure


def page(watched: dict[Path, list[Arm]], refresh: float) -> str:
    """The page as HTML; the browser reads it again after ``refresh`` seconds, never if that is 0."""
    runs = {str(path): arms for path, arms in watched.items()}
    parts = ["# Runs", "Thin lines are seeds. Rates are over the whole time, compiling and pauses included."]
    head = ("Arm", "State", "Updates", "Updates a second", "Time left", "Last validation, by seed")
    for name, arms in runs.items():
        parts += [f"## {name}", markdown.table(head, [status(arm) for arm in arms])]
    parts += _by_step(runs)
    parts += ["![Validation score and loss over the updates](curves.svg)"]
    if len(runs) == 2:
        a, b = (arms[0] for arms in runs.values())
        different = changed_fields(a.options, b.options)
        rows = [(name, option_at(a.options, name), option_at(b.options, name)) for name in different]
        parts += ["## Options that differ (first arms)", markdown.table(("Option", *runs), rows) if rows else "None."]
    from trm_jax.reporting.page import html_page
    from trm_jax.reporting.style import svg

    html = html_page("\n\n".join(parts), {"curves.svg": svg(draw(runs)).encode()})
    tag = f'<meta http-equiv="refresh" content="{refresh:g}">\n' if refresh else ""
    return html.replace("<style>", f"{tag}<style>", 1)


def _by_step(runs: dict[str, list[Arm]]) -> list[str]:
    """The last validation scores of every arm after each supervision step, as a table; nothing where none is known."""
    known = {
        (name, arm.name): np.mean(rows[-1][STEPS], axis=0)
        for name, arms in runs.items()
        for arm in arms
        if (rows := arm.validation()[1]) and STEPS in rows[-1]
    }
    if not known:
        return []
    deepest = max(map(len, known.values()))
    head = ("Run", "Arm", *(str(step) for step in range(1, deepest + 1)))
    table = [
        (*key, *(f"{value:.3f}" for value in values), *[""] * (deepest - len(values))) for key, values in known.items()
    ]
    return ["## Last validation after each supervision step, mean of seeds", markdown.table(head, table)]


def run(arguments: Arguments) -> None:
    """Write the page until nothing trains any more."""
    require(1 <= len(arguments.runs) <= 2, f"give one run or two, got {len(arguments.runs)}")
    require(arguments.every > 0, f"--every must be positive, got {arguments.every:g}")
    paths, output = list(arguments.runs), arguments.output or arguments.runs[0] / "watch.html"
    print(output)
    while True:
        runs = {path: read_arms(path) for path in paths}
        running = not arguments.once and any(arm.running for arms in runs.values() for arm in arms)
        write_text(output, page(runs, arguments.every if running else 0))
        if not running:
            break
        time.sleep(arguments.every)


if __name__ == "__main__":
    main(Arguments, run, __doc__)
