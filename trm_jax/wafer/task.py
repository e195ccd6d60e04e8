"""Wafer maps as a task for the engine: grids, balanced drawing, augmentation, and scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from trm_jax.core.config import Config
from trm_jax.core.model_config import ImageEncoder
from trm_jax.core.predict import everything
from trm_jax.core.task import Batch, Examples, Prediction, Task
from trm_jax.support.schema import check_types, require
from trm_jax.training import predict as engine
from trm_jax.wafer.augment import Augmentation, augment_wafers
from trm_jax.wafer.evaluation.metrics import seed_scores
from trm_jax.wafer.evaluation.stored import Predicted
from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.splits import Split

RESIZED = 16384
"""Maps resized at a time."""
NO_SPLIT = Split("none", *(np.zeros(0, np.int64),) * 3)


@dataclass(frozen=True)
class WaferTask(Task):
    """Nine patterns of failing dies, in maps that are resized to square grids."""

    representation: Literal["nearest", "area", "max"] = "area"
    """How maps are resized: nearest die, failing share of each cell, or any failing die."""
    balance: float = 0.5
    """Classes are drawn in proportion to (their count) ** balance: 1 for the natural mix, 0 for equal shares."""
    untouched: float = 0.3
    """Probability that a grid stays as it is."""
    compose: bool = True
    """Turn, mirror and add noise to the same grid, instead of one of the three."""
    noise: tuple[float, float] = (0.01, 0.02)
    """Smallest and largest share of the passing cells that noise turns into failing ones."""
    grids: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 4, 2), np.uint8), compare=False, repr=False)
    """(N, image, image, 2) uint8, all maps as the model takes them."""
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8), compare=False, repr=False)
    """(N,) index into CLASSES."""
    soft_targets: np.ndarray | None = field(default=None, compare=False, repr=False)
    """(N, classes) float32, what teachers say of every map that trains; None without teachers."""
    split: Split = field(default=NO_SPLIT, compare=False, repr=False)
    """Which of the maps train, validate and test."""

    name: ClassVar[str] = "wafer"
    metric: ClassVar[str] = "macro_f1"
    example_name: ClassVar[tuple[str, str]] = ("wafer", "wafers")

    def __post_init__(self) -> None:
        check_types(self, "task.")
        require(0 <= self.balance <= 1, f"task.balance must be in 0..1, got {self.balance}")
        require(0 <= self.untouched <= 1, f"task.untouched is a probability, got {self.untouched}")
        require(0 <= self.noise[0] <= self.noise[1] <= 1, f"task.noise must be two shares, got {self.noise}")

    def examples(self, part: str) -> Examples:
        """Grids and labels of a part of the split; training grids with balanced sampling weights."""
        index = getattr(self.split, part)
        arrays = {"inputs": self.grids[index], "labels": self.labels[index].astype(np.int32)}
        if part != "train":
            return Examples(arrays)
        if self.soft_targets is not None:
            arrays["soft_targets"] = self.soft_targets[index]
        return Examples(arrays, sampling_weights(arrays["labels"], self.balance)[None])

    def shape(self) -> dict[str, Any]:
        """One answer to a map, of nine classes."""
        return {"model.classes": len(CLASSES)}

    def augment(self, key: Any, batch: Batch, shared: Mapping[str, Any]) -> Batch:
        """Turn, mirror and add noise."""
        options = Augmentation(self.untouched, self.compose, self.noise)
        return {**batch, "inputs": augment_wafers(key, batch["inputs"], options)}

    def score(self, prediction: Prediction, examples: Examples) -> dict[str, np.ndarray]:
        """``macro_f1`` and ``accuracy``."""
        seeds, steps, _ = prediction.classes.shape
        flat = prediction.classes.reshape(seeds * steps, -1)
        measured = seed_scores(examples.arrays["labels"], flat, len(CLASSES))
        return {
            "macro_f1": measured.macro_f1.reshape(seeds, steps),
            "accuracy": measured.accuracy.reshape(seeds, steps),
        }

    def grids_of(self, config: Config, wafers: Wafers, index: np.ndarray | None = None) -> np.ndarray:
        """Maps as the model takes them, (N, image, image, 2) uint8.

        With ``index`` only those maps; the rest is zeros that take no memory until they are touched.
        Raises ValueError for a model that takes tokens.
        """
        image = encoder_of(config).image
        if index is None:
            return to_grid(wafers, image, self.representation)
        grids, chosen = np.zeros((len(wafers), image, image, 2), np.uint8), np.unique(index)
        for begin in range(0, len(chosen), RESIZED):
            part = chosen[begin : begin + RESIZED]
            grids[part] = to_grid(wafers.take(part), image, self.representation)
        return grids


def encoder_of(config: Config) -> ImageEncoder:
    """The encoder of a model that takes images. Raises ValueError for one that takes tokens."""
    if config.model.encoder is None:
        raise ValueError("the checkpoint is of a model that takes tokens, not wafer maps")
    return config.model.encoder


def sampling_weights(labels: np.ndarray, balance: float) -> np.ndarray:
    """Weights (N,) of drawing each sample, if classes have shares like ``count ** balance``."""
    count = np.bincount(labels, minlength=len(CLASSES))
    return count[labels] ** (balance - 1.0)


def prior_shift(labels: np.ndarray, prior: float) -> np.ndarray:
    """What is added to the logit of each class, (classes,) float32: ``prior`` times the logarithm of its share."""
    share = np.maximum(np.bincount(labels, minlength=len(CLASSES)), 1) / len(labels)
    return (prior * np.log(share)).astype(np.float32)


def with_prior(config: Config, params: Any, labels: np.ndarray, prior: float) -> tuple[Config, Any]:
    """Config and weights (leading axis S) whose logits are shifted towards common classes.

    Drawing classes more evenly than they come teaches the net too high an opinion of rare ones. The logit of a class
    gets ``prior`` times the logarithm of its share of the training labels (N,): Menon et al. 2021, eq. 9, backwards.
    """
    bias = np.broadcast_to(prior_shift(labels, prior), (len(config.run.seeds), config.model.classes))
    readout = {**params["readout"], "bias": params["readout"].get("bias", 0) + bias}
    return config.override(**{"model.readout_bias": True}), {**params, "readout": readout}


def predict(config: Config, params: Any, grids: np.ndarray, index: np.ndarray, steps: int = 0) -> Predicted:
    """Logits of weights with a leading axis S for grids (N, ...) after each of ``steps`` supervision steps (0: N_sup).

    ``index`` (N,) names the wafers in the answer.
    """
    output = engine.predict(config, params, grids, steps=steps, reduce=everything, inference=True)
    return Predicted(index, output.logits, output.q_halt)


def take_seed(params: Any, index: int = 0) -> Any:
    """The weights of one seed from a tree with a leading axis S."""
    return jax.tree.map(lambda leaf: np.asarray(leaf[index]), params)
