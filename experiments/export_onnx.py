"""Export a trained model as a package for the edge: ONNX files for every use, checked against JAX, with a report.

    python experiments/export_onnx.py --checkpoint checkpoints/wafer-edge --output runs/wafer-edge-package
    python experiments/export_onnx.py --checkpoint runs/wafer-edge/lot-3/weights-0 --fold 3 --output runs/package
    python experiments/export_onnx.py --preset smoke       # a tiny untrained model, under a minute: proves that it runs

A checkpoint is what `save_weights` wrote, or a folder with it as `weights/`; `calibration.json` beside
the weights gives temperature and review threshold. The package appears when everything in it has passed, or not at
all: a graph whose answers differ from those of JAX is an error. `docs/jetson.md` says what to do with it.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.export import package, report
from trm_jax.export.samples import Samples, puzzles_for, wafers_for
from trm_jax.support.cli import errors_in_one_line
from trm_jax.support.files import replacing_directory, sha256, write_text
from trm_jax.support.schema import require
from trm_jax.training.checkpoint import load_weights, save_weights
from trm_jax.training.processes import configure
from trm_jax.wafer.checkpoint import REFERENCE
from trm_jax.wafer.presets import PRESETS

ROOT = Path(__file__).resolve().parent.parent
SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Arguments:
    """Write a package of ONNX files, with the measurements that say what they are worth."""

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
    precisions: tuple[package.Precision, ...] = ("float16", "int8")
    """Files to make beside those in float32, which share their weights."""
    repeats: int = 400
    """Timed calls of each file."""
    tolerance: float = 1e-4
    """Largest difference between a float32 file and JAX, in logits (relative where they exceed 1) or probabilities."""
    int8_limit: float = 0.05
    """Largest error of the int8 logits in units of their standard deviation; products stay float until it is met."""
    reference: Path | None = None
    """JSON file that drift on the device is measured against; reference.json beside the weights if not given."""


SMOKE: dict[str, Any] = {"calibration": 18, "samples": 45, "repeats": 20}


def weights_of(checkpoint: Path) -> Path:
    """Directory of the weights of a checkpoint."""
    return checkpoint / "weights" if (checkpoint / "weights").is_dir() else checkpoint


def calibration_of(weights: Path) -> dict[str, float] | None:
    """Temperature and review threshold from calibration.json beside the weights; None without it.

    Raises ValueError for a file that says something else.
    """
    path = weights.parent / "calibration.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        temperature, threshold = (float(found[name]) for name in ("temperature", "review_threshold"))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not give temperature and review_threshold: {error!r}") from None
    require(0 < temperature < np.inf, f"{path}: temperature must be positive, got {temperature}")
    require(0 <= threshold <= 1, f"{path}: review_threshold is a probability, got {threshold}")
    return {"temperature": temperature, "review_threshold": threshold}


def reference_of(arguments: Arguments, weights: Path) -> dict[str, Any]:
    """What drift on the device is measured against; empty where nothing is given. Raises ValueError for no JSON."""
    path = arguments.reference or weights.parent / REFERENCE
    if arguments.reference is None and not path.is_file():
        return {}
    require(path.is_file(), f"no reference at {path}; wafer_ship.py writes one beside the weights")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None


@contextlib.contextmanager
def checkpoint_of(arguments: Arguments) -> Iterator[Path]:
    """The weights to export; with the preset smoke a tiny untrained model that is gone afterwards."""
    if arguments.checkpoint is not None:
        yield weights_of(arguments.checkpoint)
        return
    require(arguments.preset == "smoke", "--checkpoint is needed (or --preset smoke)")
    config = Config().override(**PRESETS["smoke"])
    with tempfile.TemporaryDirectory() as folder:
        save_weights(Path(folder) / "weights", model.initialise(config.model, jax.random.key(0)), config)
        yield Path(folder) / "weights"


def samples_of(config: Config, arguments: Arguments) -> Samples:
    """Inputs of the kind that the model takes."""
    counts = (arguments.calibration, arguments.samples)
    require(min(counts) >= 1 and arguments.repeats >= 1, "--calibration, --samples and --repeats must be at least 1")
    if config.model.patch:
        return wafers_for(config, arguments.data, arguments.fold, counts, arguments.preset == "smoke")
    return puzzles_for(config, counts)


def check_output(output: Path) -> None:
    """Refuse to replace a directory that is no package. Raises ValueError."""
    if output.exists() and not (output / SUMS).is_file():
        raise ValueError(f"{output} exists and is no package; choose another --output")


def write_sums(directory: Path) -> None:
    """SHA256SUMS of all files, as `sha256sum --check` reads it."""
    lines = [f"{sha256(path)}  {path.name}\n" for path in sorted(directory.iterdir())]
    write_text(directory / SUMS, "".join(lines))


def run(arguments: Arguments) -> Path:
    """Export, compare, measure and write the package; returns its directory."""
    if arguments.preset == "smoke":
        arguments = Arguments(**{**vars(arguments), **SMOKE})
    output = arguments.output or (ROOT / "runs" / "package-smoke" if arguments.preset == "smoke" else None)
    require(output is not None, "--output is needed")
    assert output is not None
    check_output(output)
    with checkpoint_of(arguments) as weights, replacing_directory(output) as directory:
        config, params = load_weights(weights)
        calibration, reference = calibration_of(weights), reference_of(arguments, weights)
        samples = samples_of(config, arguments)
        untrained = arguments.checkpoint is None
        task = package.Task(config, params, weights, samples, calibration, reference, untrained, arguments.precisions)
        limits = package.Limits(arguments.tolerance, arguments.int8_limit, arguments.repeats)
        found = package.write(task, directory, limits)
        report.write(directory, found)
        write_sums(directory)
    return output


@errors_in_one_line()
def main() -> None:
    """Run the command line."""
    arguments = tyro.cli(Arguments, description=__doc__)
    configure()
    output = run(arguments)
    print((output / "report.md").read_text(encoding="utf-8"))
    print(f"Package: {output}")


if __name__ == "__main__":
    main()
