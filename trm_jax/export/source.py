"""The trained model to export, read from a checkpoint."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trm_jax.core.config import Config
from trm_jax.support.checksums import SUMS, check_sums
from trm_jax.support.files import read_json
from trm_jax.support.schema import require
from trm_jax.training.checkpoint import load_weights, save_weights
from trm_jax.wafer.checkpoint import untrained

CALIBRATION, REFERENCE = "calibration.json", "reference.json"
"""Files beside the weights."""


@dataclass(frozen=True)
class Source:
    """Weights, and what goes with them."""

    config: Config
    params: Any
    task: dict[str, Any]
    """Options of the task, by which the inputs are made."""
    weights: Path
    temperature: float
    review_threshold: float
    calibrated: bool
    """Whether temperature and threshold were fitted; else they are assumed."""
    reference: dict[str, Any]
    """What drift on the device is measured against; empty where nothing is known."""
    untrained: bool
    class_thresholds: tuple[float, ...] = ()
    """The review threshold of each predicted class; empty for one of all classes."""
    dies: tuple[float, float] = (0.0, 1e9)
    """Fewest and most dies of a wafer that it was trained on."""
    puzzle: int | None = None
    """Identifier whose vector is baked into the files; None for a model without a puzzle table."""


def read_source(
    checkpoint: Path, reference: Path | None = None, untrained: bool = False, puzzle: int | None = None
) -> Source:
    """Read weights, or a directory with them as ``weights``, and what lies beside them.

    Of a puzzle table the vector of ``puzzle`` is kept; where there is only one, it may be left out. ``reference`` is
    another file to measure drift against. Raises FileNotFoundError, or ValueError for files that do not hold what they
    should.
    """
    weights = checkpoint / "weights" if (checkpoint / "weights").is_dir() else checkpoint
    config, params, task = load_weights(weights)
    if weights != checkpoint and (checkpoint / SUMS).exists():
        check_sums(checkpoint, [CALIBRATION, REFERENCE])
    config, params, puzzle = with_puzzle(config, params, puzzle)
    path = weights.parent / CALIBRATION
    calibrated = path.is_file()
    values: dict[str, Any] = read_json(path) if calibrated else {"temperature": 1.0, "review_threshold": 0.9}
    try:
        temperature, threshold = float(values["temperature"]), float(values["review_threshold"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not give temperature and review_threshold: {error!r}") from None
    require(0 < temperature < math.inf, f"{path}: temperature must be positive, got {temperature}")
    require(0 <= threshold <= 1, f"{path}: review_threshold is a probability, got {threshold}")
    classes = tuple(values.get("class_thresholds", ()))
    dies = tuple(values.get("dies", (0.0, 1e9)))
    require(len(dies) == 2 and 0 <= dies[0] <= dies[1], f"{path}: dies must be the fewest and the most, got {dies}")
    path = reference or weights.parent / REFERENCE
    require(reference is None or path.is_file(), f"no reference at {path}; wafer_ship.py writes one beside the weights")
    drift = read_json(path) if path.is_file() else {}
    told = (config, params, task, weights, temperature, threshold, calibrated, drift, untrained)
    return Source(*told, classes, dies, puzzle)


def with_puzzle(config: Config, params: Any, puzzle: int | None) -> tuple[Config, Any, int | None]:
    """The model with one puzzle vector, and its identifier; None in a model without a puzzle table.

    Raises ValueError where there are several and none is chosen, or the chosen one does not exist.
    """
    model = config.model
    if not model.prefix_width:
        require(puzzle is None, "--puzzle: the model has no puzzle table")
        return config, params, None
    require(
        puzzle is not None or model.puzzles == 1,
        f"the model has {model.puzzles} puzzle vectors, and files take one: choose it with --puzzle",
    )
    puzzle = puzzle or 0
    require(0 <= puzzle < model.puzzles, f"--puzzle {puzzle}: there are 0 to {model.puzzles - 1}")
    chosen = {**params, "puzzles": params["puzzles"][puzzle : puzzle + 1]}
    return config.override(**{"model.puzzles": 1}), chosen, puzzle


def save_untrained(path: Path) -> None:
    """Write the weights with which the wafer preset smoke begins."""
    classifier = untrained()
    save_weights(path, classifier.params, classifier.config, classifier.task)
