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
from trm_jax.sudoku.task import Sudoku
from trm_jax.support.files import write_text
from trm_jax.training.checkpoint import load_weights
from trm_jax.training.predict import predict_one
from trm_jax.wafer.maps.folder import parse_csv
from trm_jax.wafer.maps.wafers import CLASSES

ROOT = Path(__file__).resolve().parents[2]


def boards(axes, run: Path) -> None:
    """The test puzzle with the most wrong cells after the first step among those solved after the last."""
    config, params, options = load_weights(run / "arms" / "recursive" / "weights-0")
    arrays = task_from_options(Sudoku, options).examples("test").arrays
    answers = predict_one(config, params, arrays["inputs"]).classes
    wrong = answers != arrays["labels"]
    counts = wrong.sum(axis=-1)
    hard = int((counts[0] * (counts[-1] == 0)).argmax())
    puzzle, shown = arrays["inputs"][hard], [arrays["inputs"][hard], *answers[:, hard]]
    titles = ["puzzle", *(f"step {step}" for step in range(1, len(shown)))]
    for place, (panel, title, cells) in enumerate(zip(axes, titles, shown, strict=True)):
        mistaken = wrong[place - 1, hard] if place else np.zeros(16, bool)
        panel.imshow(mistaken.reshape(4, 4), cmap=ListedColormap(["white", "#f9dcc4"]), vmin=0, vmax=1)
        for cell, token in enumerate(cells.tolist()):
            given = puzzle[cell] > 1
            digit = str(token - 1) if token > 1 else ""
            panel.text(cell % 4, cell // 4, digit, ha="center", va="center", fontsize=10,
                       color=BLACK if given else BLUE, fontweight="bold" if given else "normal")  # fmt: skip
        for line in (-0.5, 1.5, 3.5):
            panel.axhline(line, color=BLACK, lw=1)
            panel.axvline(line, color=BLACK, lw=1)
        panel.set(xticks=[], yticks=[], xlim=(-0.55, 3.55), ylim=(3.55, -0.55))
        panel.set_title(title, fontsize=10)
        bare(panel)


def wafer(map_axes, bar_axes) -> None:
    """An example map and the probabilities of its five most probable classes."""
    cells = parse_csv((ROOT / "examples" / "maps" / "scratch.csv").read_bytes())
    answer = WaferClassifier(ROOT / "checkpoints" / "wafer-edge").predict([cells]).iloc[0]
    map_axes.imshow(cells, cmap=ListedColormap(["white", BAND, ORANGE]), vmin=0, vmax=2)
    map_axes.set(xticks=[], yticks=[])
    map_axes.set_title("wafer map", fontsize=10)
    bare(map_axes)
    best = np.argsort(answer["probabilities"])[-4:]
    bar_axes.barh([CLASSES[index] for index in best], [answer["probabilities"][index] for index in best],
                  color=[GREY] * 3 + [BLUE])  # fmt: skip
    bar_axes.set(xlim=(0, 1), xticks=[0, 0.5, 1])
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
