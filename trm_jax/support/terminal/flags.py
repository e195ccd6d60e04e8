"""What commands that train have in common: flags for the options that matter most, and a look before the work."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from trm_jax.support.files import ROOT
from trm_jax.support.schema import parse_options, require


@dataclass(frozen=True)
class Training:
    """Flags of every command that trains."""

    steps: int | None = None
    """Optimizer steps; short for --options run.steps=N."""
    seeds: int | None = None
    """Number of training seeds 0, 1, ...; short for --options run.seeds=[0,1,...]."""
    width: int | None = None
    """Width of the model; short for --options model.width=N."""
    lr: float | None = None
    """Peak learning rate; short for --options optim.learning_rate=X."""
    batch: int | None = None
    """Samples in a batch; short for --options run.batch=N."""
    minutes: float | None = None
    """Stop at a checkpoint in time, with exit code 75; the same command goes on. Short for --options run.minutes=X."""
    init: str | None = None
    """Checkpoint whose weights training starts from, ours or official; short for --options run.init=PATH."""
    show_config: bool = False
    """Print every option of the run as JSON, and do nothing else."""
    dry_run: bool = False
    """Print steps, parameters, FLOPs and memory of every arm, and train nothing."""

    def options(self, words: Sequence[str]) -> dict[str, Any]:
        """The options that these flags and ``words`` of --options set. Raises ValueError where both set one."""
        require(self.seeds is None or self.seeds >= 1, f"--seeds is a number of seeds, at least 1, got {self.seeds}")
        named = {
            "run.steps": self.steps,
            "run.seeds": None if self.seeds is None else list(range(self.seeds)),
            "model.width": self.width,
            "optim.learning_rate": self.lr,
            "run.batch": self.batch,
            "run.init": self.init,
            "run.minutes": self.minutes,
        }
        flags = {name: value for name, value in named.items() if value is not None}
        given = parse_options(words)
        twice = ", ".join(flags.keys() & given.keys())
        require(not twice, f"--options {twice} is set by a flag too; give one of them")
        return given | flags


TRAINING = Training()


@dataclass(frozen=True)
class StudyArguments:
    """Flags of the commands that train the arms of one study."""

    training: tyro.conf.OmitArgPrefixes[Training] = TRAINING
    name: str = ""
    """Name of the run under --output; that of the study and the preset if empty."""
    arms: tuple[str, ...] = ()
    """Arms to train beside the reference arm; all if empty."""
    options: tuple[str, ...] = ()
    """Options for all arms, e.g. run.steps=1000 task.seed=1; values as in JSON, words without quotes."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""
