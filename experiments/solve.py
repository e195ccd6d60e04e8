"""Solve Sudoku with a checkpoint: watch one puzzle step by step, or answer a file of them.

    python experiments/solve.py --checkpoint checkpoints/sudoku-4x4 --puzzle "1... ..3. .4.. ...2"
    python experiments/solve.py --checkpoint checkpoints/sudoku-4x4 --puzzles puzzles.csv --output answers.csv
    python experiments/solve.py --checkpoint checkpoints/sudoku-6x6 --puzzles puzzles.csv --output b.csv --rollouts 16

A puzzle is its digits row by row, with . or 0 for a blank. The file has a column `question`; the output has the columns
row, question, answer, solved (the givens and the rules hold) and steps. The answer is the first that keeps the rules,
or else the last: no solution is needed to judge it.
"""

from dataclasses import dataclass
from pathlib import Path

from trm_jax.support.files import check_file
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure


@dataclass(frozen=True)
class Arguments:
    checkpoint: Path
    """Directory of weights trained on Sudoku, or one with weights/ in it."""
    puzzle: str = ""
    """One puzzle, printed step by step."""
    puzzles: Path | None = None
    """CSV file with a column `question`."""
    output: Path | None = None
    """CSV file to write; needed with --puzzles."""
    steps: int = 0
    """Supervision steps, also more than the model was trained on; 0: as many."""
    rollouts: int = 0
    """With --puzzles: tries with noise, of which the first that keeps the rules is taken; 0 for one without."""
    noise: float = 0.3
    """Size of the noise of --rollouts."""
    search: int = 0
    """With --puzzles: rounds of a search that pins the surest cell; it answers what keeps the rules, or nothing."""
    force: bool = False
    """Replace the output if it exists."""


def run(arguments: Arguments) -> bool:
    from trm_jax.core.task import task_from_options  # here: --help needs no jax
    from trm_jax.export.source import read_source
    from trm_jax.sudoku.answers import answer, parse_puzzle, search_for, show, try_often, write_answers
    from trm_jax.sudoku.csv_files import read_questions
    from trm_jax.sudoku.solver import Box
    from trm_jax.sudoku.task import Sudoku

    require(bool(arguments.puzzle) != bool(arguments.puzzles), "give either --puzzle or --puzzles")
    require(arguments.steps >= 0, f"--steps must not be negative, got {arguments.steps}")
    if arguments.output:
        check_file(arguments.output, arguments.force)
    source = read_source(arguments.checkpoint)
    box = Box(*task_from_options(Sudoku, source.task).box)
    if arguments.puzzles is None:
        require(not (arguments.rollouts or arguments.search), "--rollouts and --search need --puzzles")
        return show(source.config, source.params, parse_puzzle(arguments.puzzle, box), box, arguments.steps)
    output = arguments.output
    if output is None:
        raise ValueError("--puzzles needs --output")
    puzzles = read_questions(arguments.puzzles, box)
    require(not (arguments.rollouts and arguments.search), "give either --rollouts or --search")
    asked = source.config, source.params, puzzles, box, arguments.steps
    if arguments.rollouts:
        digits, solved, steps = try_often(*asked, arguments.rollouts, arguments.noise).chosen()
    elif arguments.search:
        digits, solved, steps = search_for(*asked, arguments.search)
    else:
        digits, solved, steps = answer(*asked).chosen()
    write_answers(output, puzzles, digits, solved, steps)
    print(f"{output}: {int(solved.sum()):,} of {len(puzzles):,} solved")
    return True


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
