"""The first picture of the README: a board that fills up over the steps of the demo, and a wafer map with its answer.

trm demo
python docs/images/make.py runs/demo
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from trm_jax import WaferClassifier
from trm_jax.core.task import task_from_options
from trm_jax.reporting.style import BAND, BLACK, BLUE, GREY, ORANGE, STYLE, WIDTH, bare, svg
from trm_jax.sudoku.answers import answer, hardest_solved
from trm_jax.sudoku.puzzles import to_digits
from trm_jax.sudoku.solver import Box
from trm_jax.sudoku.task import Sudoku
from trm_jax.support.files import write_text
from trm_jax.training.checkpoint import load_weights
from trm_jax.wafer.maps.wafers import CLASSES

ROOT = Path(__file__).resolve().parents[2]


def boards(axes, run: Path) -> None:
    """The test puzzle with the most wrong cells after the first step among those solved after the last."""
    config, params, options = load_weights(run / "arms" / "recursive" / "weights-0")
    puzzles = to_digits(task_from_options(Sudoku, options).examples("test").arrays["inputs"])
    puzzle = puzzles[hardest_solved(config, params, puzzles, Box(2, 2))]
    shown = [puzzle, *answer(config, params, puzzle[None], Box(2, 2)).digits[:, 0]]
    titles = ["puzzle", *(f"step {step}" for step in range(1, len(shown)))]
    for panel, title, cells in zip(axes, titles, shown, strict=True):
        mistaken = (cells != shown[-1]) & (cells != 0)
        panel.imshow(mistaken.reshape(4, 4), cmap=ListedColormap(["white", "#f9dcc4"]), vmin=0, vmax=1)
        for cell, token in enumerate(cells.tolist()):
            given, digit = puzzle[cell] > 0, str(token or "")
            panel.text(cell % 4, cell // 4, digit, ha="center", va="center", fontsize=10,
                       color=BLACK if given else BLUE, fontweight="bold" if given else "normal")  # fmt: skip
        for line in (-0.5, 1.5, 3.5):
            panel.axhline(line, color=BLACK, lw=1)
            panel.axvline(line, color=BLACK, lw=1)
        panel.set(xticks=[], yticks=[], xlim=(-0.55, 3.55), ylim=(3.55, -0.55))
        panel.set_title(title, fontsize=10)
        bare(panel)


def wafer(map_axes, bar_axes) -> None:
    """An example map and the probabilities of its four most probable classes."""
    cells = np.loadtxt(ROOT / "examples" / "maps" / "scratch.csv", np.uint8, delimiter=",")
    answer = WaferClassifier(ROOT / "checkpoints" / "wafer-edge").predict([cells]).iloc[0]
    map_axes.imshow(cells, cmap=ListedColormap(["white", BAND, ORANGE]), vmin=0, vmax=2)
    map_axes.set(xticks=[], yticks=[])
    map_axes.set_title("wafer map", fontsize=10)
    bare(map_axes)
    best = np.argsort(answer["probabilities"])[-4:]
    bar_axes.barh([CLASSES[index] for index in best], [answer["probabilities"][index] for index in best],
                  color=[GREY] * 3 + [BLUE])  # fmt: skip
    bar_axes.set(xlim=(0, 1), xticks=[0, 0.5, 1], xlabel="probability")
    bar_axes.set_title(f"answer: {answer['prediction']}, {answer['confidence']:.2f}", fontsize=10)


def main() -> None:
    """Draw and write."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        grid = figure.add_gridspec(2, 4)
        boards([figure.add_subplot(grid[0, column]) for column in range(4)], Path(sys.argv[1]))
        wafer(figure.add_subplot(grid[1, :2]), figure.add_subplot(grid[1, 2:]))
        write_text(ROOT / "docs" / "images" / "first.svg", svg(figure))


if __name__ == "__main__":
    main()
