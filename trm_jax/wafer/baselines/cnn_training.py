"""Training of the small CNN on many splits at once: the splits are an array axis, shared out over the devices."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization
from sklearn.metrics import f1_score
from tqdm import tqdm

from trm_jax.core.sharding import choose
from trm_jax.support.files import replacing
from trm_jax.support.schema import require
from trm_jax.training.devices import over_seeds, seed_mesh
from trm_jax.wafer.augment import Augmentation, augment_wafers
from trm_jax.wafer.baselines.cnn import CNN, CNNConfig
from trm_jax.wafer.splits import Split

PREDICT = 512
"""Grids predicted at a time."""


@dataclass(frozen=True)
class CNNTraining:
    """How the net is trained."""

    steps: int = 3000
    """Optimizer steps."""
    batch: int = 128
    """Grids in a batch."""
    learning_rate: float = 3e-3
    """Peak learning rate; cosine decay to 0."""
    warmup: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 1e-2
    """Decoupled weight decay of matrices."""
    ema: float = 0.99
    """Decay of the moving average of the weights, which is evaluated."""
    balance: float = 0.5
    """Classes are drawn in proportion to (their count) ** balance: 1 for the natural mix, 0 for equal shares."""
    evaluate_every: int = 150
    """Steps between evaluations on validation."""
    patience: int = 10
    """Stop when no split has improved its macro-F1 on validation for so many evaluations."""
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(compose=True))
    """Changes of the grids inside the step."""
    seed: int = 0
    """Seed of weights and data order."""

    def __post_init__(self) -> None:
        require(0 <= self.warmup < self.steps, f"warmup={self.warmup} must be less than steps={self.steps}")
        require(self.steps >= 1 and self.evaluate_every >= 1, "steps and evaluate_every must be at least 1")
        require(0 <= self.balance <= 1, f"balance must be in 0..1, got {self.balance}")


class Samples(NamedTuple):
    """Training grids of one split, sorted by class, so that drawing a class and a member of it is two lookups."""

    order: Any  # (M,) indices of grids, padded at the end
    begin: Any  # (classes,) where a class begins in order
    count: Any  # (classes,)


class State(NamedTuple):
    """What training changes."""

    step: Any
    params: Any
    optimizer: Any
    average: Any


class Fitted(NamedTuple):
    """The best net of every split, by macro-F1 on validation."""

    params: Any  # leading axis: splits
    macro_f1: np.ndarray  # (splits,) on validation
    step: np.ndarray  # (splits,) at which it was found
    seconds: float  # of training all splits, without compiling
    curve: list[dict[str, Any]]  # a row per evaluation


def samples(labels: np.ndarray, splits: Sequence[Split], classes: int) -> Samples:
    """Training indices of all splits, leading axis splits. Raises ValueError for a class without training wafers."""
    longest = max(len(split.train) for split in splits)
    rows = []
    for split in splits:
        count = np.bincount(labels[split.train], minlength=classes)
        require(count.min() > 0, f"split {split.name} has no training wafer of class {count.argmin()}")
        order = split.train[np.argsort(labels[split.train], kind="stable")]
        padded = np.pad(order, (0, longest - len(order)))
        rows.append(Samples(padded.astype(np.int32), np.cumsum(count) - count, count))
    return Samples(*(jnp.asarray(np.stack(values)) for values in zip(*rows, strict=True)))


def optimizer(training: CNNTraining) -> optax.GradientTransformation:
    """Clipped AdamW with warm-up and cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, training.learning_rate, training.warmup, training.steps)
    matrices = partial(jax.tree.map, lambda leaf: leaf.ndim > 1)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=training.weight_decay, mask=matrices)
    )


def start(config: CNNConfig, training: CNNTraining, size: int) -> State:
    """Random weights for grids of this size; the same for every split."""
    params = CNN(config).init(jax.random.key(training.seed), jnp.zeros((1, size, size, 2), jnp.uint8))["params"]
    zeros = jax.tree.map(jnp.zeros_like, params)
    return State(jnp.zeros((), jnp.int32), params, optimizer(training).init(params), zeros)


def draw(training: CNNTraining, drawn_from: Samples, key):
    """Indices of a batch of grids and their classes, each (B,)."""
    class_key, member_key = jax.random.split(key)
    logits = training.balance * jnp.log(drawn_from.count)
    labels = jax.random.categorical(class_key, logits, shape=(training.batch,))
    # The fraction stays under 1, but float32 rounding of its product may not.
    member = (jax.random.uniform(member_key, (training.batch,)) * drawn_from.count[labels]).astype(jnp.int32)
    member = jnp.minimum(member, drawn_from.count[labels] - 1)
    return drawn_from.order[drawn_from.begin[labels] + member], labels


def train_step(config: CNNConfig, training: CNNTraining, state: State, drawn_from: Samples, grids):
    """One optimizer update; returns the new state and the loss."""
    key = jax.random.fold_in(jax.random.key(training.seed + 1), state.step)
    draw_key, augment_key = jax.random.split(key)
    index, labels = draw(training, drawn_from, draw_key)
    batch = augment_wafers(augment_key, grids[index], training.augmentation)

    def loss(params):
        logits = CNN(config).apply({"params": params}, batch)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    value, gradient = jax.value_and_grad(loss)(state.params)
    updates, opt_state = optimizer(training).update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    average = optax.tree.update_moment(params, state.average, training.ema, 1)
    return State(state.step + 1, params, opt_state, average), value


def probabilities(config: CNNConfig, params: Any, grids):
    """Class probabilities (B, classes) of grids (B, size, size, 2)."""
    logits: Any = CNN(config).apply({"params": params}, grids)
    return jax.nn.softmax(logits)


def predictor(config: CNNConfig, index: Sequence[np.ndarray]):
    """Function from the weights of every split and all grids to class probabilities at the split's indices.

    It returns a list of arrays (N, classes), one for each split.
    """
    batches = -(-max(len(one) for one in index) // PREDICT)
    padded = np.stack([np.pad(one, (0, batches * PREDICT - len(one))) for one in index]).astype(np.int32)

    def one_split(state, grids):
        params, places = state

        def one_batch(places):
            return probabilities(config, params, grids[places])

        return jax.lax.map(one_batch, places.reshape(batches, PREDICT)).reshape(batches * PREDICT, -1)

    compiled = over_seeds(one_split, seed_mesh(len(index)))

    def predict(params: Any, grids: Any) -> list[np.ndarray]:
        found = np.asarray(compiled((params, padded), grids))
        return [rows[: len(one)] for rows, one in zip(found, index, strict=True)]

    return predict


def fit(
    config: CNNConfig,
    training: CNNTraining,
    grids,
    labels: np.ndarray,
    splits: Sequence[Split],
    progress: Path | None = None,
) -> Fitted:
    """Train a net for every split on grids (N, size, size, 2) uint8 with labels (N,); validation chooses the weights.

    What is done is kept in the file ``progress`` after each evaluation, and taken up from it: the result is the same.
    Raises ValueError for a class without training wafers, RuntimeError for a loss that is no number.
    """
    number = len(splits)
    one = start(config, training, grids.shape[1])
    state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *leaf.shape)), one)
    drawn_from = samples(labels, splits, config.classes)
    predict = predictor(config, [split.validation for split in splits])
    best = Fitted(state.params, np.full(number, -1.0), np.zeros(number, int), 0.0, [])
    if progress and progress.exists():
        state, best = _take_up(progress, state, best)
    chunks: dict[int, Any] = {}
    done = int(np.asarray(state.step)[0])
    with tqdm(total=training.steps, initial=done, desc="CNN", unit="step", file=sys.stderr) as bar:
        while done < training.steps and _waited(best) < training.patience:
            K = min(training.evaluate_every, training.steps - done)
            if K not in chunks:
                chunk = over_seeds(partial(_chunk, config, training, K), seed_mesh(number))
                chunks[K] = chunk.lower((state, drawn_from), grids).compile()
            begun = time.perf_counter()
            state, losses = jax.block_until_ready(chunks[K]((state, drawn_from), grids))
            seconds, done = best.seconds + time.perf_counter() - begun, done + K
            if not np.isfinite(losses).all():
                raise RuntimeError(f"the loss is no number before step {done}; lower the learning rate")
            weights = optax.tree.bias_correction(state.average, training.ema, jnp.asarray(done))
            parts = zip(splits, predict(weights, grids), strict=True)
            scores = np.array([_macro_f1(labels[split.validation], rows) for split, rows in parts])
            row = {"step": done, "loss": np.asarray(losses)[:, -1].tolist(), "macro_f1": scores.tolist()}
            best = _better(best, weights, scores, done)._replace(seconds=seconds, curve=[*best.curve, row])
            if progress:
                _keep(progress, state, best)
            bar.update(K)
            bar.set_postfix(macro_f1=f"{scores.mean():.3f}")
    return best


def _keep(path: Path, state: State, best: Fitted) -> None:
    content = (state, best._replace(curve=[]), json.dumps(best.curve))
    with replacing(path) as temporary:
        temporary.write_bytes(serialization.to_bytes(content))


def _take_up(path: Path, state: State, best: Fitted) -> tuple[State, Fitted]:
    state, found, curve = serialization.from_bytes((state, best, ""), path.read_bytes())
    return state, found._replace(curve=json.loads(curve))


def _waited(best: Fitted) -> int:
    """Evaluations since the last one that was the best of some split."""
    return sum(row["step"] > best.step.max() for row in best.curve)


def _chunk(config: CNNConfig, training: CNNTraining, K: int, job, grids):
    state, drawn_from = job
    step = partial(train_step, config, training)
    return jax.lax.scan(lambda state, _: step(state, drawn_from, grids), state, None, length=K)


def _macro_f1(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return f1_score(truth, probabilities.argmax(axis=1), average="macro", zero_division=0.0)


def _better(best: Fitted, params: Any, scores: np.ndarray, step: int) -> Fitted:
    """Replace what is best of those splits whose score has risen."""
    higher = scores > best.macro_f1
    return best._replace(
        params=choose(higher, params, best.params),
        macro_f1=np.where(higher, scores, best.macro_f1),
        step=np.where(higher, step, best.step),
    )
