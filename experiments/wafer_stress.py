"""Maps that are not what the model learned: what is refused, reviewed or decided, and how often real maps are doubted.

    python experiments/wafer_stress.py --checkpoint checkpoints/wafer-edge     # 30 situations of 500 maps: 5 minutes
    python experiments/wafer_stress.py --false-alarms                          # no model needed: 15 seconds
    python experiments/wafer_stress.py --preset smoke                          # generated wafers: proves that it runs

Situations are made from the wafers that validate all-lots training: no lot of theirs was trained on. Printed as
Markdown: the same maps decided by confidence alone, and with the checks.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trm_jax.reporting import markdown
from trm_jax.support.files import ROOT
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure
from trm_jax.wafer.data import load
from trm_jax.wafer.splits import all_lots


@dataclass(frozen=True)
class Arguments:
    checkpoint: Path = ROOT / "checkpoints" / "wafer-edge"
    """Checkpoint whose decisions are measured."""
    data: Path | None = None
    """Labelled wafers: cache, .npz, .pkl or folder; else $TRM_DATA, or ../shared/data."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: 30 generated wafers a situation."""
    count: int = 500
    """Maps of a situation."""
    false_alarms: bool = False
    """Instead: how often real wafers are refused or doubted, in sources of 1 to 500 consecutive ones."""
    seed: int = 0
    """Which maps are drawn."""


def run(arguments: Arguments) -> None:
    from trm_jax.wafer.checkpoint import load_checkpoint  # here: --help needs no jax
    from trm_jax.wafer.evaluation.stress import false_alarms, outcome, situations, table

    require(arguments.count >= 3, f"--count must be at least 3, got {arguments.count}")
    smoke = arguments.preset == "smoke"
    wafers = load(arguments.data, smoke)
    classifier = load_checkpoint(arguments.checkpoint)
    if arguments.false_alarms:
        rows = false_alarms(wafers, (1, 5, 10, 25, 100, 500), classifier.calibration.dies)
        columns = ["Wafers a source", "Sources", "refused", "Wafers in them", "doubted", "share"]
        print(markdown.table(columns, [[*row, f"{row[4] / row[3]:.2%}"] for row in rows]))
        return
    held_out = wafers.take(all_lots(wafers).validation)
    made = situations(held_out, 30 if smoke else arguments.count, arguments.seed)
    before, after = (
        {name: outcome(classifier, one, checked) for name, one in made.items()} for checked in (False, True)
    )
    print(table(before, after))


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
