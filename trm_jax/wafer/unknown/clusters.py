"""Maps that are unlike the training wafers in groups that look alike, so that a person names a group, not a map."""

import numpy as np
from sklearn.cluster import HDBSCAN
from sklearn.decomposition import PCA

from trm_jax.wafer.classify import Classified
from trm_jax.wafer.maps.unlike import AnyUnlike

FEWEST, NEIGHBOURS, DIRECTIONS = 5, 3, 20
"""Maps of a cluster at least, neighbours that make a place dense, and principal directions that are looked at."""


def clusters(unlike: AnyUnlike, features: np.ndarray) -> np.ndarray:
    """Number of the cluster of each map, from 1 for the largest on; 0 for those that no others are like.

    ``features`` (N, F). Compared is the direction in which a map differs from the training wafers, in units of their
    spread within a class: its length says how strong a pattern is, not which.
    """
    count = len(features)
    if count < FEWEST:
        return np.zeros(count, int)
    white = unlike.white(features)
    white /= np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-6)
    seen = PCA(min(DIRECTIONS, count, white.shape[1]), random_state=0).fit_transform(white)
    # The smallest groups that hold together: by its default the method often makes one of nearly all maps.
    found = HDBSCAN(FEWEST, min_samples=NEIGHBOURS, cluster_selection_method="leaf", copy=True).fit_predict(seen)
    sizes = np.bincount(found[found >= 0])
    number = np.empty(len(sizes) + 1, int)
    number[np.argsort(-sizes, kind="stable")] = np.arange(1, len(sizes) + 1)
    number[-1] = 0  # where the library says -1
    return number[found]


def of_answers(unlike: AnyUnlike | None, answered: Classified) -> np.ndarray | None:
    """Cluster of every classified map, 0 for those in none; None for a classifier that does not know what is unlike."""
    if unlike is None or answered.unlike is None:
        return None
    found = np.zeros(len(answered.unlike), int)
    found[answered.unlike > 0] = clusters(unlike, answered.strange)
    return found
