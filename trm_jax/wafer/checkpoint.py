"""A wafer classifier that ships: weights, calibration and model card in one directory."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax

from trm_jax.core.config import Config
from trm_jax.core.network import members, model
from trm_jax.core.task import task_from_options
from trm_jax.reporting.markdown import without_html
from trm_jax.support.checksums import SUMS, check_sums, write_sums
from trm_jax.support.files import read_json, refuse_existing, replacing_directory, restore, write_text
from trm_jax.support.schema import check_types, from_dict, require
from trm_jax.training.checkpoint import load_weights, save_weights
from trm_jax.wafer.maps.answers import Thresholds
from trm_jax.wafer.maps.unlike import UNLIKE, AnyUnlike, load_unlike, save_unlike
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.presets import PRESETS
from trm_jax.wafer.task import WaferTask

WEIGHTS, CALIBRATION, CARD, REFERENCE = "weights", "calibration.json", "model_card.md", "reference.json"


@dataclass(frozen=True)
class Calibration:
    """How logits become a decision."""

    temperature: float = 1.0
    """Logits are divided by it before the softmax."""
    review_threshold: float = 1.0
    """A wafer whose highest probability is below it is flagged for review; 1 flags every wafer."""
    class_thresholds: tuple[float, ...] = ()
    """The same for each predicted class, by which wafers are decided; empty for one threshold of all classes."""
    dies: tuple[float, float] = (0.0, 1e9)
    """Fewest and most dies of the maps that were trained on; a wafer with others is flagged for review."""

    def __post_init__(self) -> None:
        check_types(self)
        require(self.temperature > 0, f"temperature must be positive, got {self.temperature}")
        require(0 <= self.review_threshold <= 1, f"review_threshold is a probability, got {self.review_threshold}")
        valid = len(self.class_thresholds) in (0, len(CLASSES)) and all(0 <= x <= 1 for x in self.class_thresholds)
        require(valid, f"class_thresholds are a probability for each class, got {self.class_thresholds}")

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds by which wafers are decided."""
        return self.class_thresholds or self.review_threshold


class Classifier(NamedTuple):
    """A trained model and how its logits become decisions."""

    config: Config
    params: Any
    task: WaferTask
    """Without wafers: how maps become grids."""
    calibration: Calibration
    unlike: AnyUnlike | None = None
    """How unlike maps are to those trained on, if that was fitted."""


def untrained() -> Classifier:
    """What the preset smoke begins with: it answers at random, and proves that everything around it runs."""
    config = Config().override(**PRESETS["smoke"])
    return Classifier(config, model.initialise(config.model, jax.random.key(0)), WaferTask(), Calibration())


def joined(nets: Sequence[Classifier]) -> Classifier:
    """Nets of one recipe as a single classifier, which answers with the mean of their probabilities.

    Calibrated as the first, and without a score of unlike maps, which looks at all of them. Raises ValueError for
    fewer than two nets, and where they differ in more than their weights.
    """
    first, count = nets[0], len(nets)
    require(count > 1 and first.config.model.members == 1, f"{count} nets of one member each cannot answer together")
    same = all(
        (net.config.model, net.config.recursion, net.task) == (first.config.model, first.config.recursion, first.task)
        for net in nets
    )
    require(same, "nets that are to answer together differ in model, recursion or task")
    seeds = tuple(dict.fromkeys(seed for net in nets for seed in net.config.run.seeds))
    config = first.config.override(**{"model.members": count, "run.seeds": seeds})
    names = members.names(config.model)
    return first._replace(
        unlike=None, config=config, params=dict(zip(names, [net.params for net in nets], strict=True))
    )


def save_checkpoint(
    directory: Path, classifier: Classifier, card: str, reference: dict[str, Any], replace: bool = False
) -> None:
    """Write a checkpoint, completely or not at all; ``reference`` is what a device compares its wafers with.

    Raises FileExistsError for a directory that exists, unless it may ``replace`` it.
    """
    if not replace:
        refuse_existing(directory)
    with replacing_directory(directory) as temporary:
        save_weights(temporary / WEIGHTS, classifier.params, classifier.config, classifier.task)
        write_text(temporary / CALIBRATION, json.dumps(asdict(classifier.calibration), indent=2) + "\n")
        write_text(temporary / REFERENCE, json.dumps(reference) + "\n")
        write_text(temporary / CARD, without_html(card))
        if classifier.unlike is not None:
            save_unlike(temporary / UNLIKE, classifier.unlike)
        write_sums(temporary)


def load_checkpoint(directory: Path) -> Classifier:
    """Read a checkpoint, or weights alone, which are not calibrated. Raises FileNotFoundError or ValueError."""
    restore(directory)
    if not (directory / WEIGHTS).is_dir():
        return load_classifier(directory, Calibration())
    if (directory / SUMS).exists():  # without it the weights give the warning
        check_sums(directory, [CALIBRATION, REFERENCE] + [UNLIKE] * (directory / UNLIKE).exists())
    calibration = from_dict(read_json(directory / CALIBRATION), Calibration)
    classifier = load_classifier(directory / WEIGHTS, calibration)
    return classifier._replace(unlike=load_unlike(directory / UNLIKE))


def load_classifier(weights: Path, calibration: Calibration) -> Classifier:
    """Stored weights with a calibration. Raises FileNotFoundError, or ValueError for weights of another task."""
    config, params, options = load_weights(weights)
    return Classifier(config, params, task_from_options(WaferTask, options), calibration)
