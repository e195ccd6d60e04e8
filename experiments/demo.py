"""Three minutes: does a net that thinks in steps beat the same net that answers at once? Then watch it solve a board.

    make demo
    python experiments/demo.py

Two arms with three seeds each learn 4x4 Sudoku with ten blanks: `recursive` applies its two layers 36 times, in three
supervision steps, `at_once` the same two layers four times. Then a puzzle that it has never seen fills up step by
step, and the report has intervals, curves and what each arm costs. The same command again shows it at once.
"""

from dataclasses import dataclass
from pathlib import Path

from trm_jax.study.arms import build_arms
from trm_jax.study.sudoku import STUDIES
from trm_jax.sudoku.task import Sudoku
from trm_jax.support.files import ROOT, run_folder
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure


@dataclass(frozen=True)
class Arguments:
    output: Path = ROOT / "runs"
    """Folder of all runs; the demo writes to demo in it."""


def run(arguments: Arguments) -> None:
    configure()
    from trm_jax.study.runner import run_study  # here, so that --help needs no jax
    from trm_jax.sudoku.answers import answer, hardest_solved
    from trm_jax.sudoku.puzzles import to_digits
    from trm_jax.sudoku.solver import Box
    from trm_jax.training.checkpoint import load_weights

    study = STUDIES["demo"]
    arms = build_arms(study, Sudoku(), {})
    directory = run_folder(arguments.output, "demo", "a study")
    run_study(study, arms, directory)
    puzzles = to_digits(arms["recursive"].task.examples("test").arrays["inputs"])
    config, params, _ = load_weights(directory / "arms" / "recursive" / "weights-0")
    puzzle = puzzles[hardest_solved(config, params, puzzles, Box(2, 2))]
    steps = answer(config, params, puzzle[None], Box(2, 2)).digits[:, 0]
    wrong = (steps != steps[-1]).sum(axis=-1).tolist()  # the last answer keeps the rules, and there is one solution
    print(f"\nA puzzle from the test set, and the answer of `recursive` after each of {len(steps)} steps:\n")
    print("".join(f"{title:18}" for title in ("puzzle", *(f"step {n}, {w} wrong" for n, w in enumerate(wrong, 1)))))
    for row in range(4):
        cells = [board[4 * row : 4 * row + 4] for board in (puzzle, *steps)]
        print("".join(f"{' '.join(str(digit or '.') for digit in part):18}" for part in cells))
    print(f"\nOpen {directory / 'report.html'}")


if __name__ == "__main__":
    main(Arguments, run, __doc__)
