"""One page that runs models where the reader is: no file beside it, no network, no numbers but those of JAX."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from trm_jax.core.network import model
from trm_jax.core.task import task_from_options
from trm_jax.export.source import Source, read_source
from trm_jax.maze import grids
from trm_jax.maze.task import Maze
from trm_jax.reporting.page import template
from trm_jax.sudoku.puzzles import to_digits
from trm_jax.sudoku.solver import Box
from trm_jax.sudoku.task import Sudoku
from trm_jax.support.schema import require
from trm_jax.think.agreement import TOLERANCE, differences
from trm_jax.think.weights import describe, javascript, stylesheet
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.task import WaferTask, encoder_of

LARGEST_BYTES = 3_000_000
CHECKED = 50
"""Inputs on which page and JAX are compared."""
_SCRIPTS = ("matrix", "images", "model", "ui", "sudoku", "maze", "wafer", "main")


@dataclass(frozen=True)
class Entry:
    """One model of a page."""

    task: str
    name: str
    source: Source
    inputs: np.ndarray
    """(N, ...), what the model is compared with JAX on."""
    shown: dict[str, Any]
    """What the page of the task needs besides the model."""
    compared: int = 0
    """Steps after which page and JAX still agree on ``inputs``; 0 before `checked`."""
    difference: float = np.nan
    """Largest difference in those steps."""


def entry_of(checkpoint: Path, examples: int) -> Entry:
    """A checkpoint with so many examples of each difficulty or class. Raises ValueError for a task without a page."""
    source = read_source(checkpoint)
    name = checkpoint.resolve().name
    makers = {Sudoku.name: _sudoku, Maze.name: _maze, WaferTask.name: _wafer}
    task = str(source.task.get("name"))
    require(task in makers, f"{checkpoint} is of the task {task!r}; there are pages for {', '.join(makers)}")
    members = source.config.model.members
    require(members == 1, f"{checkpoint} is {members} nets that answer together; the page computes one")
    inputs, shown = makers[task](source, examples)
    return Entry(task, name, source, inputs[:CHECKED], shown)


def _sudoku(source: Source, examples: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Test puzzles by their number of blanks, hardest last."""
    task = task_from_options(Sudoku, source.task)
    box, tokens = Box(*task.box), task.examples("test").arrays["inputs"]
    digits = to_digits(tokens)
    blanks = (digits == 0).sum(axis=1)
    puzzles = [
        (f"{count} blanks, no. {number}", "".join(str(digit or ".") for digit in digits[index].tolist()))
        for count in np.unique(blanks)
        for number, index in enumerate(np.flatnonzero(blanks == count)[:examples], start=1)
    ]
    return tokens, {"name": f"{box.side}x{box.side}", "box": list(task.box), "puzzles": puzzles}


def _maze(source: Source, examples: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Test mazes of the largest side."""
    tokens = task_from_options(Maze, source.task).examples("test").arrays["inputs"]
    side = source.config.model.grid[0]
    rows = np.array(list("?" + grids.SYMBOLS))[tokens[: 4 * examples].reshape(-1, side, side)]
    return tokens, {"mazes": [(f"no. {i}", ["".join(row) for row in maze]) for i, maze in enumerate(rows, start=1)]}


def _wafer(source: Source, examples: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Generated wafers of every class: the real ones are not ours to give away."""
    wafers = synthetic_wafers(400)
    chosen = wafers.take(np.concatenate([np.flatnonzero(wafers.label == label)[:examples] for label in range(9)]))
    task = task_from_options(WaferTask, source.task)
    require(task.representation == "area", f"the page resizes by area, the model {task.representation!r}")
    return task.grids_of(source.config, wafers), {
        "classes": list(CLASSES),
        "temperature": source.temperature,
        "thresholds": [
            max(source.review_threshold, limit) for limit in source.class_thresholds or (0.0,) * len(CLASSES)
        ],
        "size": encoder_of(source.config).image,
        "maps": named_maps(chosen),
    }


def named_maps(wafers: Wafers) -> list[tuple[str, list[str]]]:
    """Maps as rows of digits, with the class that they were made as."""
    maps = []
    for index in range(len(wafers)):
        ((_, cells),) = wafers.take(np.array([index])).iter_same_shape(max_batch=1)
        maps.append(
            (f"generated: {CLASSES[wafers.label[index]]}", ["".join(map(str, row)) for row in cells[0].tolist()])
        )
    return maps


def checked(entry: Entry) -> Entry:
    """The entry with how far page and JAX agree, at most to twice the trained depth.

    Past the trained depth a net may carry rounding errors on to other answers: there the page warns. Raises
    RuntimeError where they differ by more than the tolerance before.
    """
    config, depth = entry.source.config, entry.source.config.recursion.N_sup
    found = differences(config, entry.source.params, entry.inputs, 2 * depth)
    compared = int(np.logical_and.accumulate(found <= TOLERANCE).sum())
    if compared < depth:
        raise RuntimeError(
            f"{entry.name}: the page differs from JAX by {found[compared]:.1e} after step {compared + 1}, "
            f"more than {TOLERANCE:g}"
        )
    return replace(entry, compared=compared, difference=float(found[:compared].max()))


def _card(entry: Entry) -> str:
    config, params = entry.source.config, entry.source.params
    weights, depth = model.count_parameters(config.model, params), config.recursion.N_sup
    compared = f"equal to JAX on {len(entry.inputs)} inputs up to step {entry.compared}"
    return f"{entry.name}: {weights:,} weights, trained with {depth} supervision steps; {compared}."


def build(entries: Sequence[Entry], title: str) -> str:
    """The page as HTML. Raises ValueError for two mazes or wafers, or a page that is too large."""
    by_task: dict[str, Any] = {}
    for entry in entries:
        description = describe(entry.source.config, entry.source.params) | {"compared": entry.compared}
        described = entry.shown | {"description": description}
        if entry.task == Sudoku.name:
            by_task.setdefault(entry.task, []).append(described)
        else:
            require(entry.task not in by_task, f"a page takes one checkpoint of the task {entry.task}")
            by_task[entry.task] = described
    page = template("trm_jax.think", "think.html").render(
        title=title,
        style=Markup(stylesheet()),
        tolerance=f"{TOLERANCE:g}",
        # No closing tag can stand in a script.
        entries=Markup(json.dumps(by_task, separators=(",", ":")).replace("<", "\\u003c")),
        code=Markup(javascript(*_SCRIPTS)),
        cards=[_card(entry) for entry in entries],
    )
    size = len(page.encode())
    require(size <= LARGEST_BYTES, f"the page has {size:,} bytes, more than {LARGEST_BYTES:,}; take fewer checkpoints")
    return page
