"""Draw a Sudoku or a maze being solved, step by step, as an SVG that moves: for a README, with no script in it.

    python experiments/think_picture.py --checkpoint checkpoints/sudoku-6x6 --output docs/think/sudoku.svg
    python experiments/think_picture.py --checkpoint checkpoints/sudoku-4x4 --puzzle "1... ..3. .4.. ...2" \
        --output puzzle.svg
    python experiments/think_picture.py --checkpoint checkpoints/maze --output docs/think/maze.svg

Without a puzzle it takes the test puzzle that is solved after the most steps, or the test maze whose way grows most
slowly: the one with most to see, no typical one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trm_jax.core.task import task_from_options
from trm_jax.maze.task import Maze
from trm_jax.sudoku.puzzles import to_digits
from trm_jax.sudoku.solver import Box
from trm_jax.sudoku.task import Sudoku
from trm_jax.support.files import check_file, write_text
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure

if TYPE_CHECKING:
    from trm_jax.export.source import Source
    from trm_jax.think.picture import Frames


@dataclass(frozen=True)
class Arguments:
    checkpoint: Path
    """Directory of weights trained on Sudoku or mazes, or one with weights/ in it."""
    output: Path
    """SVG file to write."""
    puzzle: str = ""
    """Digits row by row, . or 0 for a blank; the slowest of the test puzzles if left out."""
    puzzles: int = 200
    """Test examples to choose from."""


def run(arguments: Arguments) -> None:
    from trm_jax.export.source import read_source  # here: --help needs no jax
    from trm_jax.think.picture import draw

    check_file(arguments.output, force=True)
    source = read_source(arguments.checkpoint)
    task = str(source.task.get("name"))
    require(
        task in (Sudoku.name, Maze.name), f"{arguments.checkpoint} is of the task {task!r}: neither Sudoku nor mazes"
    )
    shown, board = (_sudoku if task == Sudoku.name else _maze)(arguments, source)
    write_text(arguments.output, draw(shown, board))
    print("\n".join(frame["text"] for frame in shown))


def _sudoku(arguments: Arguments, source: "Source") -> "tuple[Frames, Box]":
    """The asked puzzle, or the slowest."""
    from trm_jax.sudoku.answers import answer, parse_puzzle
    from trm_jax.think.picture import slowest, sudoku_frames

    task = task_from_options(Sudoku, source.task)
    box = Box(*task.box)
    if arguments.puzzle:
        puzzle = parse_puzzle(arguments.puzzle, box)
    else:
        tested = to_digits(task.examples("test").arrays["inputs"][: arguments.puzzles])
        puzzle = tested[slowest(answer(source.config, source.params, tested, box).holds)]
    return sudoku_frames(source.config, source.params, puzzle, box), box


def _maze(arguments: Arguments, source: "Source") -> "tuple[Frames, np.ndarray]":
    """The maze whose way grows most slowly, among those solved after the last step."""
    from trm_jax.core.predict import everything, predict
    from trm_jax.maze.grids import PATH
    from trm_jax.think.picture import maze_frames

    require(not arguments.puzzle, "--puzzle is for Sudoku")
    arrays = task_from_options(Maze, source.task).examples("test").arrays
    inputs, labels = (arrays[name][: arguments.puzzles] for name in ("inputs", "labels"))
    output = predict(source.config, source.params, inputs, reduce=everything, inference=True)
    answers = np.asarray(output.logits).argmax(axis=-1)
    missed = ((labels == PATH) & (answers != PATH)).sum(axis=(0, 2))
    solved = (answers[-1] == labels).all(axis=-1)
    maze = inputs[np.where(solved, missed, -1).argmax()].reshape(source.config.model.grid)
    return maze_frames(source.config, source.params, maze), maze


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
