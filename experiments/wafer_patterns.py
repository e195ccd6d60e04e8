"""Does recursion find two patterns on one wafer, and which dies make them? Arms of a study, on one fold of whole lots.

    python experiments/wafer_patterns.py                    # preset cpu: three arms, three seeds, two hours of a core
    python experiments/wafer_patterns.py --question masks   # an hour of a core
    python experiments/wafer_patterns.py --preset smoke     # generated wafers, proves in a minute that it runs
    python experiments/wafer_patterns.py --options task.file=LSWMD.pkl task.fold=0

Patterns: a net that is asked for each of eight patterns by itself, and may find none, one or two: those of two real
wafers laid over each other. Masks: a net that says of every token of such a wafer which of the two its failing dies are
of. Written to runs/NAME; the same command goes on after an interruption.
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
    question: Literal["patterns", "masks"] = "patterns"
    """Which patterns are on a wafer (arms recursive, one_step, no_layers), or which dies are of which (arms recursive,
    six_layers, one_step)."""
    preset: Literal["smoke", "cpu"] = "cpu"
    """Size of all arms: smoke (generated wafers, 20 updates) or cpu (the wafers of the project's data)."""


def run(arguments: Arguments) -> None:
    from trm_jax.study import preview, runner  # here: --help needs no jax
    from trm_jax.wafer.several.masks import WaferMasks
    from trm_jax.wafer.several.patterns import WaferPatterns

    question = arguments.question
    task = {"patterns": WaferPatterns, "masks": WaferMasks}[question]()
    study = STUDIES[question]
    common = PRESETS[arguments.preset][question] | arguments.training.options(arguments.options)
    arms = build_arms(study, task, common, arguments.arms)
    directory = run_folder(arguments.output, arguments.name or f"wafer-{question}-{arguments.preset}", "a study")
    if not preview.shown(arms, arguments.training):
        runner.run_study(study, arms, directory, reuse=False, smoke=arguments.preset == "smoke")


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
