"""Wafer maps as a task for the engine: grids on device, balanced drawing, augmentation, and scores on validation."""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from trm_jax.core import predict as evaluate
from trm_jax.core.config import Config
from trm_jax.core.train_step import CUMULATIVE, Augment, Batch
from trm_jax.training.devices import over_seeds, run_mesh, to_host
from trm_jax.wafer.augment import Augmentation, augment_wafers
from trm_jax.wafer.evaluation.metrics import seed_scores
from trm_jax.wafer.evaluation.stored import Predicted
from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.maps import CLASSES, Wafers
from trm_jax.wafer.splits import Split

CHUNK = 512
"""Grids predicted in one call, the last filled up: one program serves parts of every size."""
RESIZED = 16384
"""Maps resized at a time where not all are."""


class WaferTask(NamedTuple):
    """Everything that training on one split needs besides the config."""

    data: Batch
    augment: Augment
    validate: Any
    """Function from weights with a leading axis S to scores after the last supervision step, each (S,)."""


def grids_of(config: Config, wafers: Wafers) -> np.ndarray:
    """Maps as the model takes them, (N, image, image, 2) uint8."""
    return to_grid(wafers, config.model.image, config.wafer.representation)


def some_grids(config: Config, wafers: Wafers, index: np.ndarray) -> np.ndarray:
    """As `grids_of`, but only the maps of ``index``; the rest is zeros that take no memory until they are touched."""
    grids, chosen = np.zeros((len(wafers), config.model.image, config.model.image, 2), np.uint8), np.unique(index)
    for begin in range(0, len(chosen), RESIZED):
        part = chosen[begin : begin + RESIZED]
        grids[part] = grids_of(config, wafers.take(part))
    return grids


def prepare(config: Config, grids: np.ndarray, labels: np.ndarray, split: Split) -> WaferTask:
    """Training and validation part of a split of grids (N, image, image, 2) with labels (N,)."""
    train = labels[split.train]
    data = {
        "inputs": jnp.asarray(grids[split.train]),
        "labels": jnp.asarray(train, jnp.int32),
        CUMULATIVE: jnp.asarray(cumulative(train, config.wafer.balance), jnp.float32),
    }
    options = config.wafer
    augmentation = Augmentation(options.untouched, options.compose, options.noise)
    return WaferTask(data, partial(_augment, augmentation), validator(config, grids, labels, split))


def cumulative(labels: np.ndarray, balance: float) -> np.ndarray:
    """Cumulated probabilities (N,) of drawing each sample, if classes have shares like ``count ** balance``."""
    count = np.bincount(labels, minlength=len(CLASSES))
    weight = count[labels] ** (balance - 1.0)
    return np.cumsum(weight) / weight.sum()


def _augment(options: Augmentation, key, batch: Batch) -> Batch:
    return {**batch, "inputs": augment_wafers(key, batch["inputs"], options)}


def validator(config: Config, grids: np.ndarray, labels: np.ndarray, split: Split):
    """Function from weights with a leading axis S to accuracy and macro-F1 on validation, each (S,)."""
    inputs, truth = grids[split.validation], labels[split.validation]

    def validate(params: Any) -> dict[str, np.ndarray]:
        predicted = predict(config, params, inputs, split.validation).logits[:, -1].argmax(axis=-1)  # (S, N)
        measured = seed_scores(truth, predicted, len(CLASSES))
        return {"macro_f1": measured.macro_f1, "accuracy": measured.accuracy}

    return validate


@cache
def _readings(config: Config):
    """Compiled readings of all seeds."""
    return over_seeds(partial(evaluate.readings, config), run_mesh(config), config.run.seed_axis)


def for_prediction(config: Config, params: Any, labels: np.ndarray, views: int, prior: float) -> tuple[Config, Any]:
    """Config and weights (leading axis S) as they predict: several views, and logits shifted towards common classes.

    Drawing classes more evenly than they come teaches the net too high an opinion of rare ones. The logit of a class
    gets ``prior`` times the logarithm of its share of the training labels (N,): Menon et al. 2021, eq. 9, backwards.
    """
    share = np.maximum(np.bincount(labels, minlength=config.model.classes), 1) / len(labels)
    bias = (prior * np.log(share)).astype(np.float32)
    bias = np.broadcast_to(bias, (len(config.run.seeds), config.model.classes))
    readout = {**params["readout"], "bias": params["readout"].get("bias", 0) + bias}
    changed = config.override(**{"model.views": views, "model.readout_bias": True, "model.forward_only": True})
    return changed, {**params, "readout": readout}


def predict(config: Config, params: Any, grids: np.ndarray, index: np.ndarray, steps: int = 0) -> Predicted:
    """What weights with a leading axis S say of grids (N, ...) after each of ``steps`` supervision steps (0: N_sup).

    ``index`` (N,) names the wafers in the answer.
    """
    answer = _readings(config.override(**{"recursion.N_sup": steps or config.recursion.N_sup}))
    found = []
    for begin in range(0, len(grids), CHUNK):
        part = grids[begin : begin + CHUNK]
        filled = np.pad(part, ((0, CHUNK - len(part)), *((0, 0),) * 3))
        found.append(to_host(answer(params, jnp.asarray(filled))))
    logits, halt, _ = (np.concatenate(parts, axis=2)[:, :, : len(grids)] for parts in zip(*found, strict=True))
    return Predicted(index, logits, halt)


def without(split: Split, labels: np.ndarray, left_out: int) -> Split:
    """The split with no wafer of a class to train on or validate with, so that the class is unknown when tested."""
    train, validation = (part[labels[part] != left_out] for part in (split.train, split.validation))
    return split._replace(train=train, validation=validation)


def one_seed(params: Any, index: int) -> Any:
    """The weights of one seed from a tree with a leading axis S."""
    return jax.tree.map(lambda leaf: np.asarray(leaf[index]), params)
