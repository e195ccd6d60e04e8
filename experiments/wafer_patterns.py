"""Does recursion find two patterns on one wafer? Arms of a study with several seeds, on one fold of whole lots.

    python experiments/wafer_patterns.py                    # preset cpu: three arms, three seeds, two hours of a core
    python experiments/wafer_patterns.py --preset smoke     # generated wafers, proves in a minute that it runs
    python experiments/wafer_patterns.py --options task.file=LSWMD.pkl task.fold=0

A net that is asked for each of eight patterns by itself, and may find none, one or two: those of two real wafers laid
over each other. Arms: recursive (the reference), one_step, no_layers. Written to runs/NAME; the same
command goes on after an interruption.
"""

from dataclasses import dataclass
from typing import Literal

from trm_jax.study.arms import build_arms
from trm_jax.study.wafers import PRESETS, STUDIES
from trm_jax.support.files import run_folder
from trm_jax.support.terminal.cli import main
from trm_jax.support.terminal.flags import StudyArguments
from trm_jax.training.processes import configure


@dataclass(frozen=True)
class Arguments(StudyArguments):
    preset: Literal["smoke", "cpu"] = "cpu"
    """Size of all arms: smoke (generated wafers, 20 updates) or cpu (the wafers of the project's data)."""


def run(arguments: Arguments) -> None:
    from trm_jax.study import preview, runner  # here: --help needs no jax
    from trm_jax.wafer.several.patterns import WaferPatterns

    study = STUDIES["patterns"]
    common = PRESETS[arguments.preset] | arguments.training.options(arguments.options)
    arms = build_arms(study, WaferPatterns(), common, arguments.arms)
    directory = run_folder(arguments.output, arguments.name or f"wafer-patterns-{arguments.preset}", "a study")
    if not preview.shown(arms, arguments.training):
        runner.run_study(study, arms, directory, reuse=False, smoke=arguments.preset == "smoke")


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
