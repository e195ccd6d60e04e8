"""Which part of a Tiny Recursive Model matters? Arms that differ in one thing, several seeds, paired intervals.

    make ablation                                            # study components, preset cpu: 14 minutes, two cores
    python experiments/sudoku_ablation.py --preset smoke     # proves in a minute that it runs
    python experiments/sudoku_ablation.py --study width      # another question
    python experiments/sudoku_ablation.py --arms full --arm "wide: model.width=48" --name wide   # an arm of your own

Puzzles have exactly one solution, and no test solution is a relabelling of a training solution. All arms of a study
share seeds, data order, number of updates and evaluation. Everything is written to runs/NAME; an interrupted run goes
on where it was when the same command is given again. The preset smoke is nearly all compiling, so it compiles for one
device and without optimisation: its programs are slower and round differently than those of the other presets.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from trm_jax.study.runner import build_arms, run_study
from trm_jax.study.sudoku import PRESETS, STUDIES
from trm_jax.sudoku.task import Sudoku
from trm_jax.support.cli import main
from trm_jax.support.schema import parse_options
from trm_jax.training.processes import configure

ROOT = Path(__file__).resolve().parent.parent
QUICK_COMPILING = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false "
    "--xla_force_host_platform_device_count=1"
)


@dataclass(frozen=True)
class Arguments:
    """Train the arms of a study; print exact accuracy with 95 % intervals over seeds and write a report."""

    study: Literal[
        "components", "paper", "latent_updates", "width", "supervision", "budget", "data", "depth", "transfer"
    ] = "components"
    """Question to answer; each names its arms (see trm_jax/study/sudoku.py)."""
    preset: Literal["smoke", "cpu", "full"] = "cpu"
    """Size of all arms: smoke (a minute), cpu (two cores), full (9x9 and the official recipe, on puzzles of ours
    unless task.train_file is given, for a GPU; it has nothing to do with the arm of that name)."""
    name: str = ""
    """Name of the run under --output; STUDY-PRESET if empty."""
    arms: tuple[str, ...] = ()
    """Arms of the study to train; all if empty."""
    arm: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An arm of your own, "NAME: option=value ...", e.g. "wide: model.width=48"; may be given several times."""
    options: tuple[str, ...] = ()
    """Options for all arms, e.g. task.blanks=[9,9] run.steps=1000; values as in JSON, words without quotes."""
    init: str = ""
    """Checkpoint whose weights every arm starts from, ours or official."""
    predicted: tuple[str, ...] = ()
    """Your own ranking of the arms, largest loss first, to compare with what is measured."""
    reuse: bool = True
    """Copy an arm that another run under --output has finished, with the same options, commit and machine."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""


def run(arguments: Arguments) -> None:
    """Train what is missing, then write and print the results."""
    study = STUDIES[arguments.study]
    common = PRESETS[arguments.preset] | {"run.init": arguments.init} | parse_options(arguments.options)
    arms = build_arms(study, Sudoku(), common, arguments.arms, arguments.arm)
    directory = arguments.output / (arguments.name or f"{arguments.study}-{arguments.preset}")
    run_study(study, arms, directory, arguments.predicted, arguments.reuse)


def configure_and_run(arguments: Arguments) -> None:
    """The whole command; the preset smoke compiles quickly, unless the user's own flags say otherwise."""
    if arguments.preset == "smoke":
        os.environ["XLA_FLAGS"] = f"{QUICK_COMPILING} {os.environ.get('XLA_FLAGS', '')}"
    configure()
    run(arguments)


if __name__ == "__main__":
    main(Arguments, configure_and_run, __doc__)
