"""The format of an exported package: names of its files and metadata inside its models.

The export writes what the device reads, both by this module.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from trm_jax.support.files import one_line
from trm_jax.wafer.maps.answers import Thresholds

STEP, INITIAL, QUESTION = "step.onnx", "initial.npz", "question.onnx"
"""A supervision step, its first states, and the model that makes x of the inputs."""
WEIGHTS = "weights.bin"
"""Weights that the float32 models of a package share."""
_TYPES: dict[str, Any] = {
    "labels": list, "preprocessing": dict, "temperature": (int, float), "review_threshold": (int, float),
    "config": dict, "provenance": dict, "reference": dict,
    "class_thresholds": list, "dies": list,
}  # fmt: skip


class Metadata(NamedTuple):
    """What a model file says about itself, as JSON in its metadata."""

    labels: list[str]
    preprocessing: dict[str, Any]
    temperature: float
    """Logits are divided by it before the softmax, inside the graph."""
    review_threshold: float
    config: dict[str, Any]
    provenance: dict[str, Any]
    reference: dict[str, Any]
    """What the inputs looked like in validation, for drift alarms; {} if unknown."""
    class_thresholds: list[float] = []  # noqa: RUF012
    """Confidence, for each predicted class, below which a wafer is for review; empty for one of all classes."""
    dies: list[float] = [0, 1e9]  # noqa: RUF012
    """Fewest and most dies of the maps that were trained on; what has others is for review."""

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds by which wafers are decided."""
        return tuple(self.class_thresholds) or self.review_threshold


def write_metadata(metadata: Metadata) -> dict[str, str]:
    """The texts that stand in a model file, by name."""
    return {name: json.dumps(value) for name, value in metadata._asdict().items()}


def read_metadata(texts: Mapping[str, str]) -> Metadata:
    """Metadata from the texts in a model file. Raises ValueError for one that is missing or not of its type."""
    missing = [name for name in _TYPES if name not in texts and name not in Metadata._field_defaults]
    if missing:
        raise ValueError(f"no metadata {', '.join(missing)}; export it with experiments/export_onnx.py")
    values = {}
    for name, types in _TYPES.items():
        if name not in texts:
            continue
        try:
            values[name] = json.loads(texts[name])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"metadata {name} is not JSON: {one_line(error)}") from None
        if not isinstance(values[name], types):
            raise ValueError(f"metadata {name} is a {type(values[name]).__name__}")
    metadata = Metadata(**values)
    if not (0 < metadata.temperature < math.inf and 0 <= metadata.review_threshold <= 1):
        raise ValueError(
            f"temperature {metadata.temperature} must be positive, "
            f"review_threshold {metadata.review_threshold} must be 0 to 1"
        )
    numbers = [*metadata.class_thresholds, *metadata.dies]
    sizes = len(metadata.class_thresholds) in (0, len(metadata.labels)), len(metadata.dies) == 2
    if not all(sizes) or not all(isinstance(number, int | float) for number in numbers):
        raise ValueError("class_thresholds must be a number for each label, dies the fewest and the most")
    return metadata
