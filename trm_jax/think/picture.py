"""A puzzle being solved as a moving picture: an SVG that shows the answer after each step, with no script in it."""

from typing import Any

import jax
import numpy as np

from trm_jax.core.config import Config
from trm_jax.core.predict import everything, predict
from trm_jax.reporting.page import template
from trm_jax.sudoku.answers import answer, broken_cells
from trm_jax.sudoku.solver import Box

SECONDS = 1.2
"""How long a step is shown."""


def slowest(config: Config, params: Any, puzzles: np.ndarray, box: Box) -> int:
    """Which of the puzzles (N, cells) is solved for good after the most steps; the last of several."""
    holds = answer(config, params, puzzles, box).holds
    lasting = np.flip(np.logical_and.accumulate(np.flip(holds, axis=0)), axis=0)  # from this step to the last
    steps = np.where(lasting.any(axis=0), lasting.argmax(axis=0), -1)
    return int(len(steps) - 1 - np.argmax(steps[::-1]))


def frames(config: Config, params: Any, puzzle: np.ndarray, box: Box) -> list[dict[str, Any]]:
    """What the picture shows before the first step and after each one."""
    output = predict(config, params, puzzle[None].astype(np.int32) + 1, reduce=everything, inference=True)
    shares = np.asarray(jax.nn.softmax(output.logits[:, 0], axis=-1))
    belief = np.asarray(jax.nn.sigmoid(output.q_halt[:, 0]))
    shown = [
        {"cells": [_cell(box, i, digit, 1.0, False) for i, digit in enumerate(puzzle) if digit], "text": "The puzzle"}
    ]
    for step, (share, halt) in enumerate(zip(shares, belief, strict=True), start=1):
        digits = np.maximum(share.argmax(axis=-1) - 1, 0)
        broken = broken_cells(digits, puzzle, box)
        blanks = [i for i in range(box.cells) if not puzzle[i] and digits[i]]
        verdict = f"{int(broken.sum())} cells break the rules" if broken.any() else "the rules hold"
        cells = [_cell(box, i, digits[i], float(share[i].max()), bool(broken[i])) for i in blanks]
        shown.append({"cells": cells, "text": f"Step {step}: {verdict}, belief {halt:.0%}"})
    return shown


def _cell(box: Box, index: int, digit: int, strength: float, broken: bool) -> dict[str, Any]:
    row, column = divmod(index, box.side)
    return {"row": row, "column": column, "digit": int(digit), "strength": round(strength, 2), "broken": broken}


def draw(shown: list[dict[str, Any]], box: Box) -> str:
    """The picture as SVG; where motion is not wanted it stands still at the last step."""
    return template("trm_jax.think", "sudoku.svg").render(shown=shown, box=box, size=360 / box.side, seconds=SECONDS)
