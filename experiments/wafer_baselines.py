"""How well do simple methods classify wafer maps? The bars that a recursive model must beat, under one protocol.

    python experiments/wafer_baselines.py                       # WM-811K if it is installed, else synthetic wafers
    python experiments/wafer_baselines.py --preset smoke        # synthetic wafers, under a minute: proves that it runs
    python experiments/wafer_baselines.py --split random --name random   # how much the naive split flatters

Every labelled wafer is tested once, by a model that was trained on no wafer of its lot. Boosting stops by its loss on
validation wafers, which are whole lots too; the test part chooses nothing. Predictions are kept in runs/NAME, and a
repeated command trains only what is missing. The baseline with convolutions is `wafer_train.py --preset cnn`.
"""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

from trm_jax.support.files import ROOT, refuse_other_options, run_folder
from trm_jax.support.provenance import provenance
from trm_jax.support.terminal.cli import main
from trm_jax.wafer.baselines import RULES, Rule
from trm_jax.wafer.data import load
from trm_jax.wafer.splits import Kind, folds


@dataclass(frozen=True)
class Arguments:
    data: Path | None = None
    """Prepared cache, .npz, .pkl or folder of maps; else $TRM_DATA, ../shared/data, or synthetic wafers."""
    preset: Literal["smoke", "cpu"] = "cpu"
    """Size: smoke (1,200 synthetic wafers) or cpu (all data, two cores)."""
    models: tuple[Rule, ...] = RULES
    """What to train."""
    split: Kind = "lot"
    """Folds of whole lots, the naive random folds, or the Training/Test flag of the file."""
    folds: int = 4
    """Number of folds."""
    seed: int = 0
    """Seed of the forest, the tree and boosting."""
    name: str = ""
    """Name of the run under --output; baselines-PRESET if empty."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""


def run(arguments: Arguments) -> None:
    from trm_jax.wafer.baselines import rules  # here: --help needs none of the libraries behind them
    from trm_jax.wafer.baselines.report import BaselineResult, write_report

    wafers = load(arguments.data, arguments.preset == "smoke")
    splits = folds(wafers, arguments.folds, arguments.split)
    directory = run_folder(arguments.output, arguments.name or f"baselines-{arguments.preset}", "wafer baselines")
    options = {name: getattr(arguments, name) for name in ("split", "folds", "seed")}
    options = {"source": wafers.source, "wafers": len(wafers), **options}
    refuse_other_options(directory / "options.json", options, "results")
    print(f"{wafers.source}: {sum(len(split.test) for split in splits):,} wafers are tested")
    inputs = cache(lambda extract: extract(wafers))  # the rules that share inputs compute them once
    tested: dict[str, BaselineResult] = {
        rule: rules.outcome(
            directory / f"{rule}.npz", rule, wafers, splits, partial(inputs, rules.INPUTS[rule]), arguments.seed
        )
        for rule in arguments.models
    }
    print(write_report(directory, tested, wafers, splits, arguments.split, provenance()))
    print(f"\nReport: {directory / 'report.md'}")


if __name__ == "__main__":
    main(Arguments, run, __doc__)
