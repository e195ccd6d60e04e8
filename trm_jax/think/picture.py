"""A puzzle being solved as a moving picture: an SVG that shows the answer after each step, with no script in it."""

from typing import Any

import jax
import numpy as np

from trm_jax.core.config import Config
from trm_jax.core.predict import everything, predict
from trm_jax.maze import grids
from trm_jax.reporting.page import template
from trm_jax.sudoku.answers import broken_cells
from trm_jax.sudoku.solver import Box

SECONDS = 1.2
"""How long a step is shown."""
Frames = list[dict[str, Any]]
"""What the picture shows before the first step and after each one."""


def slowest(holds: np.ndarray) -> int:
    """Which puzzle is solved for good after the most steps, the last of several; ``holds`` (steps, N): solved."""
    lasting = np.flip(np.logical_and.accumulate(np.flip(holds, axis=0)), axis=0)  # from this step to the last
    steps = np.where(lasting.any(axis=0), lasting.argmax(axis=0), -1)
    return int(len(steps) - 1 - np.argmax(steps[::-1]))


def _shares(config: Config, params: Any, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (steps, L, classes) and belief that all is right (steps,) for one input (L,)."""
    output = predict(config, params, tokens[None].astype(np.int32), reduce=everything, inference=True)
    return np.asarray(jax.nn.softmax(output.logits[:, 0], axis=-1)), np.asarray(jax.nn.sigmoid(output.q_halt[:, 0]))


def sudoku_frames(config: Config, params: Any, puzzle: np.ndarray, box: Box) -> Frames:
    """Digits that fill a board; ``puzzle`` (cells,) with 0 for a blank."""
    shown = [
        {"cells": [_cell(box.side, i, str(digit)) for i, digit in enumerate(puzzle) if digit], "text": "The puzzle"}
    ]
    for step, (share, halt) in enumerate(zip(*_shares(config, params, puzzle + 1), strict=True), start=1):
        digits = np.maximum(share.argmax(axis=-1) - 1, 0)
        broken = broken_cells(digits, puzzle, box)
        blanks = [i for i in range(box.cells) if not puzzle[i] and digits[i]]
        verdict = f"{int(broken.sum())} cells break the rules" if broken.any() else "the rules hold"
        cells = [_cell(box.side, i, str(digits[i]), float(share[i].max()), bool(broken[i])) for i in blanks]
        shown.append({"cells": cells, "text": f"Step {step}: {verdict}, belief {halt:.0%}"})
    return shown


def maze_frames(config: Config, params: Any, maze: np.ndarray) -> Frames:
    """A way that grows; ``maze`` (side, side) as tokens, with a way from S to G."""
    solved, tokens, side = grids.solve(maze), maze.reshape(-1), len(maze)
    if solved is None:
        raise ValueError("no way leads from S to G in this maze")
    right = solved.reshape(-1) == grids.PATH
    ends = [_cell(side, int(np.flatnonzero(tokens == token)[0]), grids.SYMBOLS[token - 1])
            for token in (grids.START, grids.GOAL)]  # fmt: skip
    shown = [{"cells": ends, "text": f"The maze: {right.sum()} cells lead from S to G"}]
    for step, share in enumerate(_shares(config, params, tokens)[0], start=1):
        way = (share.argmax(axis=-1) == grids.PATH) & (tokens == grids.OPEN)
        told = f"{(way & right).sum()} of {right.sum()} cells right, {(way & ~right).sum()} wrong"
        cells = [_cell(side, i, "", float(share[i, grids.PATH])) for i in np.flatnonzero(way).tolist()]
        shown.append({"cells": cells, "text": f"Step {step}: {told}"})
    return shown


def _cell(side: int, index: int, digit: str, strength: float = 1.0, broken: bool = False) -> dict[str, Any]:
    row, column = divmod(index, side)
    return {"row": row, "column": column, "digit": digit, "strength": round(strength, 2), "broken": broken}


def draw(shown: Frames, board: Box | np.ndarray) -> str:
    """The picture as SVG, of a Sudoku or a maze; where motion is not wanted it stands still at the last step."""
    if isinstance(board, Box):
        what, side, thick, walls = "Sudoku", board.side, (board.rows, board.cols), []
    else:
        what, side = "maze", len(board)
        thick, walls = (side, side), np.argwhere(board == grids.WALL).tolist()
    return template("trm_jax.think", "board.svg").render(
        shown=shown, what=what, side=side, thick=thick, walls=walls, size=360 / side, seconds=SECONDS
    )
