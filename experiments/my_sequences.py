"""A Tiny Recursive Model on your own sequences: a CSV file with the columns input and target, a row a sequence.

    python experiments/my_sequences.py --data pairs.csv                 # three seeds, minutes on two cores
    python experiments/my_sequences.py --data pairs.csv --arm "one_step: recursion.N_sup=1"   # with a rival
    python experiments/my_sequences.py --preset smoke                   # generated pairs, a minute: proves that it runs
    python experiments/export_onnx.py --checkpoint runs/my-sequences/arms/full/weights-0 --output runs/package

A sequence is written as characters ("3142") or as words between spaces ("red blue red"). Every target has as many
symbols as its input, or every target is one symbol, the class of the whole sequence. Equal inputs are never on both
sides of a split. Everything is written to runs/NAME; an interrupted run goes on when the same command is given again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from trm_jax.support.files import ROOT, run_folder, write_text
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.support.terminal.flags import TRAINING, Training
from trm_jax.training.processes import configure

CPU: dict[str, Any] = {
    "model.mixer": "attention",
    "model.positions": "learned",
    "optim.learning_rate": 3e-3,
    "optim.weight_decay": 0.1,
    "run.steps": 1000,
    "run.seeds": (0, 1, 2),
}
PRESETS: dict[str, dict[str, Any]] = {
    "cpu": CPU,
    "smoke": CPU
    | {
        "model.layers": 1, "recursion.N_sup": 2, "recursion.n": 1, "optim.warmup": 5, "run.steps": 20,
        "run.seeds": (0, 1), "run.batch": 16, "run.chunk": 10, "run.evaluate_every": 10, "run.checkpoint_every": 10,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Arguments:
    data: Path | None = None
    """CSV file with the columns input and target."""
    test: Path | None = None
    """CSV file to test on; without one a tenth of --data is held out."""
    preset: Literal["smoke", "cpu"] = "cpu"
    """Size: smoke (generated pairs, 20 updates) or cpu (two cores)."""
    training: tyro.conf.OmitArgPrefixes[Training] = TRAINING
    arm: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An arm to compare with, "NAME: option=value ...", e.g. "wide: model.width=64"; may be given several times."""
    options: tuple[str, ...] = ()
    """Options for all arms, e.g. model.width=64 run.steps=5000; values as in JSON, words without quotes."""
    name: str = "my-sequences"
    """Name of the run under --output."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""


def write_smoke_pairs(path: Path) -> None:
    """A file of random digits and the same digits reversed."""
    import numpy as np
    import pandas as pd

    digits = np.random.default_rng(0).integers(0, 5, (300, 6)).astype(str)
    pairs = {"input": ["".join(row) for row in digits], "target": ["".join(row[::-1]) for row in digits]}
    write_text(path, pd.DataFrame(pairs).to_csv(index=False))


def run(arguments: Arguments) -> None:
    from trm_jax.sequences.task import Sequences  # here, so that --help needs no jax
    from trm_jax.study import preview
    from trm_jax.study.arms import Study, build_arms
    from trm_jax.study.runner import run_study

    data = arguments.data
    if data is None:
        require(arguments.preset == "smoke", "give --data FILE.csv, or --preset smoke")
        data = arguments.output / "smoke-pairs.csv"
        data.parent.mkdir(parents=True, exist_ok=True)
        write_smoke_pairs(data)
    task = Sequences(file=str(data), test_file=str(arguments.test or ""))
    study = Study(f"What is learned from {data.name}?", {"full": {}})
    directory = run_folder(arguments.output, arguments.name, "a study")
    chosen = arguments.training.options(arguments.options)
    arms = build_arms(study, task, PRESETS[arguments.preset] | chosen, (), arguments.arm)
    if not preview.shown(arms, arguments.training):
        run_study(study, arms, directory, reuse=False, smoke=arguments.preset == "smoke")


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
