"""Train the recursive wafer classifier, on folds of whole lots or, to ship it, on all lots.

    python experiments/wafer_train.py                       # four folds, two seeds each: the numbers to report
    python experiments/wafer_train.py --folds 3 --name try --options model.width=96   # one fold, another model
    python experiments/wafer_train.py --all-lots --name edge  # the weights that ship: no test part, a sixth validates
    python experiments/wafer_train.py --preset smoke        # synthetic wafers, under a minute: proves that it runs

Macro-F1 on validation, whole lots too, chooses the weights and stops; they and no others are kept as runs/NAME/SPLIT/
weights-SEED and asked about the test wafers, once (test.npz, validation.npz: logits after every supervision step).
Only scores on validation are printed, to compare recipes by; those on test wafers are for `wafer_evaluate.py`.
An interrupted run goes on where it was when the same command is given again.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from trm_jax.core.config import Config
from trm_jax.core.task import override, run_options
from trm_jax.support.files import ROOT, refuse_other_options, run_folder
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.support.terminal.flags import TRAINING, Training
from trm_jax.training.processes import configure
from trm_jax.wafer.data import load
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.presets import PRESETS, PRIOR


@dataclass(frozen=True)
class Arguments:
    data: Path | None = None
    """Prepared cache, .npz, .pkl or folder of maps; else $TRM_DATA, ../shared/data, or synthetic wafers."""
    preset: Literal["smoke", "edge", "plain", "cnn", "paper"] = "edge"
    """Size: smoke (1,200 synthetic wafers), edge (the model that ships), plain (the same without recursion), cnn (a
    smaller one: the baseline), paper (a token for every cell, for a GPU)."""
    training: tyro.conf.OmitArgPrefixes[Training] = TRAINING
    folds: tuple[int, ...] = ()
    """Numbers of the folds to train; all if empty."""
    all_lots: bool = False
    """Train on all lots but a validating sixth, for weights to ship."""
    leave_out: Literal["", *CLASSES] = ""  # type: ignore[valid-type]
    """Class that is neither trained on nor validated with: is it noticed as unknown when it is tested?"""
    options: tuple[str, ...] = ()
    """Options, e.g. model.width=96 run.seeds=[0,1,2]; values as in JSON, words without quotes."""
    teachers: tuple[Path, ...] = ()
    """Runs of this script on the same wafers, whose nets of a split teach it; loss.distillation says how much."""
    views: Literal[1, 2, 4] = 2
    """Mirrored and turned images of each wafer whose answers are averaged, by the weights that are kept too."""
    prior: float = PRIOR
    """How much of the logarithm of a class's share is added to its logit: rare classes are drawn more often."""
    extra_steps: int = 2
    """Supervision steps beyond those trained with that are predicted too."""
    name: str = ""
    """Name of the run under --output; wafer-PRESET if empty."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""


def run(arguments: Arguments) -> None:
    from trm_jax.wafer.folds import (  # here: --help needs no jax
        Answering,
        choose_splits,
        describe,
        teaching_nets,
        train_splits,
    )
    from trm_jax.wafer.task import WaferTask

    flags = arguments.training
    options = PRESETS[arguments.preset] | flags.options(arguments.options)
    task, config = override(WaferTask(), Config(), options)
    if flags.show_config:
        print(json.dumps(run_options(task, config), indent=2))
        return
    taught = bool(arguments.teachers) == (config.loss.distillation > 0)
    require(taught, "--teachers and --options loss.distillation=0.5 (or another weight) need each other")
    require(not (arguments.leave_out and arguments.teachers), "teachers know what --leave-out leaves out")
    wafers = load(arguments.data, arguments.preset == "smoke")
    splits = choose_splits(wafers, arguments.folds, arguments.all_lots, arguments.leave_out)
    directory = run_folder(arguments.output, arguments.name or f"wafer-{arguments.preset}", "a wafer run")
    print(describe(config, wafers, arguments.views))
    if flags.dry_run:
        run = config.run
        print(f"{run.steps:,} steps of {run.batch} wafers, {len(run.seeds)} seeds, {len(splits)} splits")
        return
    for split in splits:
        teaching_nets(arguments.teachers, wafers, split)  # what cannot teach is refused before anything is written
    about = {"source": wafers.source, "wafers": len(wafers), "left out": arguments.leave_out}
    answers: dict[str, Any] = {"views": arguments.views, "prior": arguments.prior}
    if arguments.teachers:
        answers["teachers"] = [path.name for path in arguments.teachers]
    refuse_other_options(directory / "wafers.json", about | answers, "a run")
    answering = Answering(arguments.views, arguments.prior, arguments.extra_steps)
    train_splits(task, config, wafers, splits, answering, directory, arguments.teachers)


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
