"""Baselines without a net: a constant, the size of the grid alone, and trees on spatial features."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from trm_jax.wafer.maps.features import spatial_features
from trm_jax.wafer.maps.maps import Wafers

Rule = Literal["constant", "grid_size", "decision_tree", "boosting"]


def grid_size(wafers: Wafers) -> np.ndarray:
    """Height and width of the maps, (N, 2) float32."""
    return np.stack([wafers.height, wafers.width], axis=1).astype(np.float32)


def features(wafers: Wafers) -> np.ndarray:
    """Spatial features of the maps, (N, F) float32."""
    return spatial_features(wafers)[0]


INPUTS: dict[Rule, Callable[[Wafers], np.ndarray]] = {
    "constant": grid_size,
    "grid_size": grid_size,
    "decision_tree": features,
    "boosting": features,
}
"""What each rule looks at."""


def classifier(rule: Rule, seed: int = 0) -> Any:
    """An untrained scikit-learn classifier."""
    if rule == "constant":
        return DummyClassifier(strategy="prior")
    if rule == "grid_size":
        return RandomForestClassifier(n_estimators=100, min_samples_leaf=5, random_state=seed, n_jobs=-1)
    if rule == "decision_tree":
        return DecisionTreeClassifier(max_depth=10, random_state=seed)
    # Without this damping the rare classes make the loss on validation rise from the first step on.
    return HistGradientBoostingClassifier(
        max_iter=300, l2_regularization=10.0, min_samples_leaf=50, early_stopping=True, n_iter_no_change=15,
        random_state=seed,
    )  # fmt: skip


Labelled = tuple[np.ndarray, np.ndarray]


def train(rule: Rule, training: Labelled, validation: Labelled, seed: int = 0) -> Any:
    """Fit a rule to (inputs, labels). Only boosting looks at validation: it decides when to stop."""
    model = classifier(rule, seed)
    if rule == "boosting":
        return model.fit(*training, X_val=validation[0], y_val=validation[1])
    return model.fit(*training)


def probabilities(model: Any, values: np.ndarray, classes: int) -> np.ndarray:
    """Class probabilities (N, classes); 0 for a class the model never met."""
    found = np.zeros((len(values), classes))
    found[:, model.classes_] = model.predict_proba(values)
    return found


def count_nodes(model: Any) -> int:
    """Size of a rule as its number of tree nodes."""
    if isinstance(model, DummyClassifier):
        return 0
    if isinstance(model, DecisionTreeClassifier):
        return model.tree_.node_count
    if isinstance(model, RandomForestClassifier):
        return sum(tree.tree_.node_count for tree in model.estimators_)
    return sum(len(tree.nodes) for step in model._predictors for tree in step)
