"""Make a checkpoint that ships from a finished arm of a study: the best seed on validation, with a model card.

    python experiments/sudoku_ablation.py --study depth --arms deep --name sudoku-6x6
    python experiments/ship_checkpoint.py --arm runs/sudoku-6x6/arms/deep --output checkpoints/sudoku-6x6

Wafer classifiers have `wafer_ship.py`, which calibrates them too. `export_onnx.py` takes what this writes.
"""

from dataclasses import dataclass
from pathlib import Path

from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure


@dataclass(frozen=True)
class Arguments:
    arm: Path
    """Folder of the arm, such as runs/NAME/arms/ARM."""
    output: Path
    """Checkpoint to write."""
    replace: bool = False
    """Replace an older checkpoint."""


def run(arguments: Arguments) -> None:
    from trm_jax.export.ship import ship  # here: --help needs no jax

    chosen = ship(arguments.arm, arguments.output, arguments.replace)
    score = chosen.test[chosen.config.recursion.N_sup - 1]
    print(f"{arguments.output}: seed {chosen.seed}, {score} of {chosen.tested:,} test {chosen.task.example_name[1]}")


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
