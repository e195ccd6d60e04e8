"""Baselines without a net: a constant, the size of the grid alone, and trees on features."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from trm_jax.support.files import replacing
from trm_jax.support.timing import time_interleaved
from trm_jax.wafer.baselines import Rule
from trm_jax.wafer.baselines.features import features
from trm_jax.wafer.baselines.report import BaselineResult
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.splits import Split

Inputs = Callable[[Wafers], np.ndarray]
Labelled = tuple[np.ndarray, np.ndarray]
TIMED = 30
"""Repetitions behind the time for one map."""


def grid_size(wafers: Wafers) -> np.ndarray:
    """Height and width of the maps, (N, 2) float32."""
    return np.stack([wafers.height, wafers.width], axis=1).astype(np.float32)


INPUTS: dict[Rule, Inputs] = {
    "constant": grid_size,
    "grid_size": grid_size,
    "decision_tree": features,
    "boosting": features,
}
"""What each rule decides by."""


def train(rule: Rule, training: Labelled, validation: Labelled, seed: int = 0) -> Any:
    """A scikit-learn classifier fitted to (inputs, labels). Only boosting uses validation, to decide when to stop."""
    if rule == "constant":
        return DummyClassifier(strategy="prior").fit(*training)
    if rule == "grid_size":
        forest = RandomForestClassifier(n_estimators=100, min_samples_leaf=5, random_state=seed, n_jobs=-1)
        return forest.fit(*training)
    if rule == "decision_tree":
        return DecisionTreeClassifier(max_depth=10, random_state=seed).fit(*training)
    # Without this damping the rare classes make the loss on validation rise from the first step on.
    boosting = HistGradientBoostingClassifier(
        max_iter=300, l2_regularization=10.0, min_samples_leaf=50, early_stopping=True, n_iter_no_change=15,
        random_state=seed,
    )  # fmt: skip
    return boosting.fit(*training, X_val=validation[0], y_val=validation[1])


def probabilities(model: Any, inputs: np.ndarray) -> np.ndarray:
    """Class probabilities (N, classes) float32; 0 for a class the model was not trained on."""
    shares = np.zeros((len(inputs), len(CLASSES)), np.float32)
    shares[:, model.classes_] = model.predict_proba(inputs)
    return shares


def count_nodes(model: Any) -> int:
    """Size of a rule as its number of tree nodes."""
    if isinstance(model, DummyClassifier):
        return 0
    if isinstance(model, DecisionTreeClassifier):
        return model.tree_.node_count
    if isinstance(model, RandomForestClassifier):
        return sum(tree.tree_.node_count for tree in model.estimators_)
    return sum(len(tree.nodes) for step in model._predictors for tree in step)


def cross_validate(
    rule: Rule, wafers: Wafers, splits: Sequence[Split], inputs: np.ndarray, seed: int
) -> BaselineResult:
    """Train a rule on every split and test it there; ``inputs`` (N, F) are those of all wafers."""
    tested, nodes, seconds = [], [], []
    for split in splits:
        start = time.perf_counter()
        training, validation = ((inputs[part], wafers.label[part]) for part in (split.train, split.validation))
        model = train(rule, training, validation, seed)
        seconds.append(time.perf_counter() - start)
        nodes.append(count_nodes(model))
        tested.append(probabilities(model, inputs[split.test]))
    single = wafers.take(splits[0].test[:1])
    calls = {"map": lambda: probabilities(model, INPUTS[rule](single))}
    latency = 1e3 * float(np.median(time_interleaved(calls, TIMED, seconds=0)["map"]))
    return BaselineResult(np.concatenate(tested), int(np.mean(nodes)), float(np.mean(seconds)), latency)


def outcome(
    path: Path, rule: Rule, wafers: Wafers, splits: list[Split], inputs: Callable[[], np.ndarray], seed: int
) -> BaselineResult:
    """Answers of a rule to all test wafers: those of an earlier run in ``path``, else those of a rule trained now."""
    if path.exists():
        with np.load(path, allow_pickle=False) as arrays:
            return BaselineResult(
                arrays["probabilities"], *(arrays[name].item() for name in BaselineResult._fields[1:])
            )
    tested = cross_validate(rule, wafers, splits, inputs(), seed)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **tested._asdict())
    return tested
