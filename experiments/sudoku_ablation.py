"""Which part of a Tiny Recursive Model matters? Arms that differ in one thing, several seeds, paired intervals.

    make ablation                                            # study components, preset cpu: 14 minutes, two cores
    python experiments/sudoku_ablation.py --list             # the studies, their arms, and the presets
    python experiments/sudoku_ablation.py --preset smoke     # proves in a minute that it runs
    python experiments/sudoku_ablation.py --study width      # another question
    python experiments/sudoku_ablation.py --arms full --arm "wide: model.width=48" --name wide   # an arm of your own

Puzzles have exactly one solution, and no test solution is a relabelling of a training solution. All arms of a study
share seeds, data order, number of updates and evaluation. Everything is written to runs/NAME; an interrupted run goes
on where it was when the same command is given again. The preset smoke is nearly all compiling, so it compiles for one
device and without optimisation: its programs are slower and round differently than those of the other presets.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from trm_jax.study.arms import build_arms, overview
from trm_jax.study.sudoku import PRESETS, STUDIES
from trm_jax.sudoku.task import Sudoku
from trm_jax.support import xla_flags
from trm_jax.support.files import ROOT, run_folder
from trm_jax.support.schema import did_you_mean, require
from trm_jax.support.terminal.cli import main
from trm_jax.support.terminal.flags import TRAINING, Training
from trm_jax.training.processes import configure


@dataclass(frozen=True)
class Arguments:
    study: str = "components"
    """Question to answer; each names its arms. --list shows them."""
    list: bool = False
    """Print the studies with their arms and the presets with what they set, and do nothing else."""
    preset: Literal["smoke", "cpu", "official-sudoku"] = "cpu"
    """Size of all arms: smoke (a minute), cpu (two cores), official-sudoku (9x9 and the official recipe, for a GPU; on
    puzzles of ours unless task.train_file is given)."""
    training: tyro.conf.OmitArgPrefixes[Training] = TRAINING
    name: str = ""
    """Name of the run under --output; STUDY-PRESET if empty."""
    arms: tuple[str, ...] = ()
    """Arms of the study to train; all if empty."""
    arm: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An arm of your own, "NAME: option=value ...", e.g. "wide: model.width=48"; may be given several times."""
    options: tuple[str, ...] = ()
    """Options for all arms, e.g. task.blanks=[9,9] run.steps=1000; values as in JSON, words without quotes."""
    predicted: tuple[str, ...] = ()
    """Your own ranking of the arms, largest loss first, to compare with what is measured."""
    reuse: bool = True
    """Copy an arm that another run under --output has finished, with the same options, commit and machine."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""


def run(arguments: Arguments) -> None:
    if arguments.list:
        print(overview(STUDIES, PRESETS))
        return
    known = ", ".join(STUDIES)
    require(
        arguments.study in STUDIES,
        f"unknown study {arguments.study}{did_you_mean(arguments.study, STUDIES)}; there are {known}",
    )
    study, smoke = STUDIES[arguments.study], arguments.preset == "smoke"
    common = PRESETS[arguments.preset] | arguments.training.options(arguments.options)
    arms = build_arms(study, Sudoku(), common, arguments.arms, arguments.arm)
    directory = run_folder(arguments.output, arguments.name or f"{arguments.study}-{arguments.preset}", "a study")
    if smoke:  # unless the user's own flags say otherwise
        xla_flags.add(f"{xla_flags.QUICK} {xla_flags.ONE_DEVICE}")
    configure()
    from trm_jax.study import preview, runner  # here, so that --help and a misspelt name need no jax

    if preview.shown(arms, arguments.training):
        return
    runner.run_study(study, arms, directory, arguments.predicted, arguments.reuse, smoke)


if __name__ == "__main__":
    main(Arguments, run, __doc__)
