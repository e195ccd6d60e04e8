"""Does more recursion find longer ways through mazes? Arms of a study with several seeds, at equal compute.

    python experiments/maze_depth.py                       # preset cpu
    python experiments/maze_depth.py --preset smoke        # proves in a minute that it runs
    python experiments/maze_depth.py --options task.same_for_seeds=true task.train_file=a.csv task.test_file=b.csv

The last one is for files like those of Maze-Hard. The mazes made here have one way between any two cells, and no test
maze has the walls of a training maze under any symmetry. Arms: deep (the reference), shallow, no_exploration. Written
to runs/NAME; the same command goes on after an interruption. `think_longer.py` tests arms at other sides and depths.
"""

from dataclasses import dataclass
from typing import Literal

from trm_jax.maze.task import Maze
from trm_jax.study.arms import build_arms
from trm_jax.study.maze import PRESETS, STUDIES
from trm_jax.support.files import run_folder
from trm_jax.support.terminal.cli import main
from trm_jax.support.terminal.flags import StudyArguments
from trm_jax.training.processes import configure


@dataclass(frozen=True)
class Arguments(StudyArguments):
    preset: Literal["smoke", "cpu", "official-maze"] = "cpu"
    """Size of all arms: smoke (a minute), cpu (two cores), official-maze (30x30 and the official recipe, for a GPU; on
    mazes of ours unless task.train_file is given)."""


def run(arguments: Arguments) -> None:
    study = STUDIES["depth"]
    common = PRESETS[arguments.preset] | arguments.training.options(arguments.options)
    arms = build_arms(study, Maze(), common, arguments.arms)
    directory = run_folder(arguments.output, arguments.name or f"maze-{arguments.preset}", "a study")
    from trm_jax.study import preview, runner  # here: --help needs no jax

    if not preview.shown(arms, arguments.training):
        runner.run_study(study, arms, directory, smoke=arguments.preset == "smoke")


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
