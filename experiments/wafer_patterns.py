"""Does recursion find two patterns on one wafer? Arms of a study with several seeds, on one fold of whole lots.

    python experiments/wafer_patterns.py                    # preset cpu: three arms, three seeds, two hours of a core
    python experiments/wafer_patterns.py --preset smoke     # generated wafers, proves in a minute that it runs
    python experiments/wafer_patterns.py --options task.file=LSWMD.pkl task.fold=0

A net that is asked for each of eight patterns by itself, and may find none, one or two: those of two real wafers laid
over each other. Written to runs/NAME; the same command goes on after an interruption.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from trm_jax.study.arms import build_arms
from trm_jax.study.wafers import PRESETS, STUDIES
from trm_jax.support.files import ROOT, run_folder
from trm_jax.support.terminal.cli import main
from trm_jax.support.terminal.flags import TRAINING, Training
from trm_jax.training.processes import configure


@dataclass(frozen=True)
class Arguments:
    preset: Literal["smoke", "cpu"] = "cpu"
    """Size of all arms: smoke (generated wafers, 20 updates) or cpu (the wafers of the project's data)."""
    training: tyro.conf.OmitArgPrefixes[Training] = TRAINING
    name: str = ""
    """Name of the run under --output; wafer-patterns-PRESET if empty."""
    arms: tuple[str, ...] = ()
    """Arms to train beside the reference arm: one_step, no_layers; all if empty."""
    options: tuple[str, ...] = ()
    """Options for all arms, e.g. task.fold=0 run.steps=1000; values as in JSON, words without quotes."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""


def run(arguments: Arguments) -> None:
    directory = run_folder(arguments.output, arguments.name or f"wafer-patterns-{arguments.preset}", "a study")
    from trm_jax.study import preview, runner  # here: --help needs no jax
    from trm_jax.wafer.patterns import WaferPatterns

    study = STUDIES["patterns"]
    common = PRESETS[arguments.preset] | arguments.training.options(arguments.options)
    arms = build_arms(study, WaferPatterns(), common, arguments.arms)
    if not preview.shown(arms, arguments.training):
        runner.run_study(study, arms, directory, reuse=False, smoke=arguments.preset == "smoke")


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
