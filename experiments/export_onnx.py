"""Export a trained model as a package for the edge: ONNX files for every use, checked against JAX, with a report.

    python experiments/export_onnx.py --checkpoint checkpoints/wafer-edge --output runs/wafer-edge-package
    python experiments/export_onnx.py --checkpoint runs/wafer-edge/lot-3/weights-0 --fold 3 --output runs/package
    python experiments/export_onnx.py --preset smoke       # a tiny untrained model, under a minute: proves that it runs

A checkpoint is what `save_weights` wrote, or a folder with it as `weights/`; `calibration.json` beside
the weights gives temperature and review threshold. The package appears when everything in it has passed, or not at
all: a graph whose answers differ from those of JAX is an error. `docs/jetson.md` says what to do with it.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trm_jax.export.settings import Settings
from trm_jax.support.files import ROOT
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure

SMOKE: dict[str, Any] = {"calibration": 18, "samples": 45, "repeats": 20}


@dataclass(frozen=True)
class Arguments(Settings):
    checkpoint: Path | None = None
    """Directory of weights, or one with weights/ in it; not needed with --preset smoke."""
    output: Path | None = None
    """The package, a new directory or an older package; runs/package-smoke with --preset smoke."""
    data: Path | None = None
    """Labelled wafers: prepared cache, .npz, .pkl or folder of maps; else $TRM_DATA, ../shared/data, or synthetic."""
    preset: Literal["full", "smoke"] = "full"
    """Size: full, or smoke (untrained, 900 synthetic wafers, few repetitions)."""
    fold: int | None = None
    """The fold that the weights were not trained on, if they are not of all lots."""
    calibration: int = 180
    """Training inputs that set the ranges of int8."""
    samples: int = 3000
    """Held-out inputs to compare the files on."""
    puzzle: int | None = None
    """Puzzle identifier whose vector becomes part of the files, where the model has several."""
    reference: Path | None = None
    """JSON file that drift on the device is measured against; reference.json beside the weights if not given."""


def run(arguments: Arguments) -> None:
    from trm_jax.export import package, report
    from trm_jax.export.samples import samples_for
    from trm_jax.export.source import read_source, save_untrained

    smoke = arguments.preset == "smoke"
    if smoke:
        arguments = replace(arguments, **SMOKE, output=arguments.output or ROOT / "runs/package-smoke")
    output, checkpoint = arguments.output, arguments.checkpoint
    require(checkpoint is not None or smoke, "--checkpoint is needed (or --preset smoke)")
    if output is None:
        raise ValueError("--output is needed")
    package.check_output(output)
    with tempfile.TemporaryDirectory() as folder:
        if checkpoint is None:
            checkpoint = Path(folder) / "weights"
            save_untrained(checkpoint)
        source = read_source(checkpoint, arguments.reference, arguments.checkpoint is None, arguments.puzzle)
        counts = (arguments.calibration, arguments.samples)
        samples = samples_for(source, counts, arguments.data, arguments.fold, smoke)
        print(report.make_package(output, source, samples, arguments))
    print(f"Package: {output}")


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
