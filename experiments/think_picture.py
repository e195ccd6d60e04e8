"""Draw a puzzle being solved, step by step, as an SVG that moves: for a README, with no script in it.

    python experiments/think_picture.py --checkpoint checkpoints/sudoku-6x6 --output docs/think/sudoku.svg
    python experiments/think_picture.py --checkpoint checkpoints/sudoku-4x4 --puzzle "1... ..3. .4.. ...2" \
        --output puzzle.svg

Without a puzzle it takes the test puzzle that is solved after the most steps: the one with most to see, no typical one.
"""

from dataclasses import dataclass
from pathlib import Path

from trm_jax.core.task import task_from_options
from trm_jax.sudoku.puzzles import to_digits
from trm_jax.sudoku.solver import Box
from trm_jax.sudoku.task import Sudoku
from trm_jax.support.files import write_text
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure


@dataclass(frozen=True)
class Arguments:
    """Draw a puzzle being solved."""

    checkpoint: Path
    """Directory of weights trained on Sudoku, or one with weights/ in it."""
    output: Path
    """SVG file to write."""
    puzzle: str = ""
    """Digits row by row, . or 0 for a blank; the slowest of the test puzzles if left out."""
    puzzles: int = 200
    """Test puzzles to choose from."""


def run(arguments: Arguments) -> None:
    """Write the picture."""
    from trm_jax.export.source import read_source  # here: --help needs no jax
    from trm_jax.sudoku.answers import parse_puzzle
    from trm_jax.think.picture import draw, frames, slowest

    source = read_source(arguments.checkpoint)
    task = task_from_options(Sudoku, source.task)
    box = Box(*task.box)
    if arguments.puzzle:
        puzzle = parse_puzzle(arguments.puzzle, box)
    else:
        tested = to_digits(task.examples("test").arrays["inputs"][: arguments.puzzles])
        puzzle = tested[slowest(source.config, source.params, tested, box)]
    shown = frames(source.config, source.params, puzzle, box)
    write_text(arguments.output, draw(shown, box))
    print("\n".join(frame["text"] for frame in shown))


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
