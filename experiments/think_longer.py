"""What happens past the trained depth, with several tries, and with a search? For the arms of a study.

    python experiments/think_longer.py --run runs/depth-seeds                      # steps, rollouts and search
    python experiments/think_longer.py --run runs/maze-depth --options task.sides=[19] --name side-19

Reads the weights that each arm kept (the best on validation, so far if it was stopped) and answers test samples of
the hardest level: after 1, 2, 4, ... supervision steps; of the reference arm also with rollouts, whose noise is chosen
on validation; for Sudoku also with a search that abstains rather than err, beside the same search with blind guesses.
Writes tables, figures, report.md and report.html to RUN/NAME.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from trm_jax.support.files import check_folder, refuse_path
from trm_jax.support.provenance import environment, provenance
from trm_jax.support.schema import parse_options, require
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure


@dataclass(frozen=True)
class Arguments:
    run: Path
    """Folder of the study, with arms/NAME in it."""
    arms: tuple[str, ...] = ()
    """Arms to test; all of its report, or all that have begun, if empty."""
    steps: int = 128
    """Most supervision steps."""
    rollouts: int = 32
    """Most rollouts of the first arm; 0 for none."""
    rounds: int = 50
    """Rounds after which the search abstains; 0 for no search."""
    samples: int = 200
    """Test samples of each seed."""
    options: tuple[str, ...] = ()
    """Other options of the task for the test, e.g. task.sides=[19]; values as in JSON."""
    name: str = "thinking"
    """Folder for the results, under --run."""


def run(arguments: Arguments) -> None:
    from trm_jax.study.results.thinking import write_thinking
    from trm_jax.study.thinking import by_rollouts, by_search, by_steps, load_arm  # here: --help needs no jax

    for name in ("steps", "samples"):
        require(getattr(arguments, name) >= 1, f"--{name} must be at least 1, got {getattr(arguments, name)}")
    directory = arguments.run / refuse_path(arguments.name, "--name")
    results = arguments.run / "results.json"
    begun = [path.parent.name for path in sorted(arguments.run.glob("arms/*/config.json"))]
    known = list(json.loads(results.read_text())["arms"]) if results.exists() else begun
    require(bool(known), f"{arguments.run} has no arms/NAME/config.json; give the folder of a study")
    unknown = sorted(set(arguments.arms) - set(known))
    require(not unknown, f"no arm {', '.join(unknown)} in {arguments.run}; it has {', '.join(known)}")
    check_folder(directory, "--name")
    options = parse_options(arguments.options)
    arms = [load_arm(arguments.run / "arms" / name, options) for name in arguments.arms or known]
    steps = []
    for arm in arms:
        print(f"{arm.name}: up to {arguments.steps} steps")
        steps.append(by_steps(arm, arguments.steps, arguments.samples))
    first, trained = arms[0], arms[0].config.recursion.N_sup
    rollouts = by_rollouts(first, arguments.rollouts, trained, arguments.samples) if arguments.rollouts else None
    is_sudoku = first.tasks[0].name == "sudoku"
    found = by_search(first, arguments.rounds, trained, arguments.samples) if arguments.rounds and is_sudoku else None
    current = environment()
    sources = provenance(commit=current["commit"], machine=current["machine"])
    write_thinking(directory, arms, steps, rollouts, found, arguments.samples, sources)
    print(f"\nReport: {directory / 'report.html'}")


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
