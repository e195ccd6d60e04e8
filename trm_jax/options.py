"""All options of all runs, as the code declares them: for `trm options` and docs/configuration.md."""

from typing import Any

from trm_jax.core.config import LossConfig, OptimConfig, RecursionConfig, RunConfig
from trm_jax.core.model_config import ModelConfig
from trm_jax.maze.task import Maze
from trm_jax.reporting.markdown import table
from trm_jax.sequences.task import Sequences
from trm_jax.study.sudoku import PRESETS as SUDOKU
from trm_jax.study.sudoku import STUDIES
from trm_jax.sudoku.task import Sudoku
from trm_jax.support.terminal.describe import Option, options_of
from trm_jax.wafer.presets import PRESETS as WAFER
from trm_jax.wafer.several.masks import WaferMasks
from trm_jax.wafer.several.patterns import WaferPatterns
from trm_jax.wafer.task import WaferTask

SECTIONS: dict[str, tuple[type[Any], str]] = {
    "The model": (ModelConfig, "model."),
    "The recursion": (RecursionConfig, "recursion."),
    "The loss": (LossConfig, "loss."),
    "The optimizer": (OptimConfig, "optim."),
    "The run": (RunConfig, "run."),
    "Sudoku": (Sudoku, "task."),
    "Mazes": (Maze, "task."),
    "Wafer maps": (WaferTask, "task."),
    "All patterns of a wafer": (WaferPatterns, "task."),
    "The dies of two patterns": (WaferMasks, "task."),
    "Sequences of your own": (Sequences, "task."),
}
HEAD = """# Every option

- Five options have a flag of their own: `--steps`, `--seeds`, `--width`, `--lr`, `--batch`.
- All others are set by name, for all arms (`--options recursion.N_sup=5 run.batch=32`) or for one
  (`--arm "wide: model.width=48"`). Values are as in JSON, words without quotes; quote brackets in a shell.
- An unknown name or a value of the wrong type is an error before anything runs. `--show-config` prints what a run would
  use, `--dry-run` what it would cost.

This page is made from the code (`trm options --write docs/configuration.md`), and a test compares them.
"""


def sections() -> dict[str, list[Option]]:
    """The options of every section of a run, and of every task."""
    return {title: options_of(kind, prefix) for title, (kind, prefix) in SECTIONS.items()}


def document() -> str:
    """The page about all of them, with the presets and studies that set some."""
    parts = [HEAD]
    for title, options in sections().items():
        text = " ".join((SECTIONS[title][0].__doc__ or "").split())
        rows = [[f"`{o.name}`", f"`{o.default}`", o.values, o.sentence] for o in options]
        parts.append(f"## {title}\n\n{text}\n\n{table(['Option', 'Default', 'Values', 'Meaning'], rows)}\n")
    parts.append("## Presets and studies\n\nWhat they set; everything else is a default of above.\n")
    presets = {f"`trm study --preset {name}`": options for name, options in SUDOKU.items()}
    presets |= {f"`trm wafer train --preset {name}`": options for name, options in WAFER.items()}
    presets |= {f"`trm study {name}`, all arms": study.base for name, study in STUDIES.items() if study.base}
    rows = [
        [name, ", ".join(f"`{k}={v}`" for k, v in options.items()) or "nothing"] for name, options in presets.items()
    ]
    parts.append(table(["Preset", "Sets"], rows) + "\n")
    return "\n".join(parts)
