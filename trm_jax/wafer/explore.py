"""What the wafers of each class look like: counts, examples, mean maps, features and similar classes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import cosine_similarity
from tqdm import tqdm

from trm_jax.reporting.page import template, write_report
from trm_jax.support.files import write_text
from trm_jax.support.schema import require
from trm_jax.wafer import figures
from trm_jax.wafer.maps.features import NAMES, RADIAL, spatial_features
from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN, Wafers

SHOWN = {
    "defect_ratio": "Failing share of all dies (0 to 1)",
    "radial_12": "Failing share of the dies in the outermost ring (0 to 1)",
    "centroid_distance": "Distance of the failing dies' centroid\nfrom the centre (wafer radii)",
    "spatial_entropy": "Entropy of the failing dies over 4x4 blocks\n(1 = spread evenly)",
}


@dataclass(frozen=True)
class Overview:
    """What the figures are drawn from; dictionaries are by name of the class."""

    source: str
    counts: dict[str, int]
    examples: dict[str, list[np.ndarray]]
    """Maps (height, width) chosen at random."""
    means: dict[str, np.ndarray]
    """Mean map (size, size)."""
    features: dict[str, np.ndarray]
    """(wafers, features)."""
    cosine: np.ndarray
    """Similarity of mean maps (classes, classes)."""
    distance: np.ndarray
    """Distance of mean features (classes, classes)."""


def explore(wafers: Wafers, limit: int = 0, examples: int = 4, size: int = 32, seed: int = 0) -> Overview:
    """Count and measure the labelled wafers that are no copies, at most ``limit`` of a class (0: all).

    ``examples`` maps of a class are chosen by the ``seed``; ``size`` is the side of the mean maps. Raises ValueError
    where fewer than two classes have wafers.
    """
    wafers = wafers.take((wafers.label != UNKNOWN) & wafers.clean)
    rng = np.random.default_rng(seed)
    members = {name: np.flatnonzero(wafers.label == index) for index, name in enumerate(CLASSES)}
    members = {name: index for name, index in members.items() if len(index)}
    require(len(members) >= 2, f"{wafers.source}: need labelled wafers of two classes or more, got {len(members)}")
    counts = {name: len(index) for name, index in members.items()}
    if limit:
        members = {name: np.sort(rng.permutation(index)[:limit]) for name, index in members.items()}
    maps, means, features = {}, {}, {}
    for name, index in tqdm(members.items(), desc="classes", unit="class", disable=None):
        maps[name] = [wafers.map(int(member)) for member in rng.permutation(index)[:examples]]
        means[name] = mean_map(wafers.take(index), size)
        features[name] = spatial_features(wafers.take(index))[0]
    similar = mean_map_cosine(means), feature_distance(features)
    return Overview(wafers.source, counts, maps, means, features, *similar)


def mean_map(wafers: Wafers, size: int) -> np.ndarray:
    """Failing share of the dies at each place of a common grid, (size, size); NaN where dies are rare."""
    total = np.zeros((size, size, 2))
    for begin in range(0, len(wafers), 4096):  # grids of all wafers at once could fill the memory
        part = wafers.take(np.arange(begin, min(begin + 4096, len(wafers))))
        total += to_grid(part, size).sum(axis=0, dtype=np.float64)
    failing, dies = total[..., 0], total[..., 1]
    return np.divide(failing, dies, out=np.full_like(dies, np.nan), where=dies > 0.1 * dies.max())


def mean_map_cosine(means: Mapping[str, np.ndarray]) -> np.ndarray:
    """Cosine similarity of every two mean maps, (classes, classes).

    The mean of each map is subtracted first, so that the shape counts and not the level.
    """
    maps = np.stack(list(means.values()))
    common = maps[:, ~np.isnan(maps).any(axis=0)]
    return cosine_similarity(common - common.mean(axis=1, keepdims=True))


def feature_distance(features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Root mean square, over the features, of the distance of the class means, (classes, classes).

    Each feature is measured in its standard deviation within a class (pooled, every class with the same weight).
    """
    means = np.stack([values.mean(axis=0) for values in features.values()]).astype(np.float64)
    within = np.sqrt(np.mean([values.var(axis=0) for values in features.values()], axis=0))
    scaled = means / np.where(within > 0, within, 1)
    return cdist(scaled, scaled) / np.sqrt(scaled.shape[1])


def ranking(values: np.ndarray, classes: list[str], count: int, highest: bool) -> list[tuple[str, float]]:
    """The ``count`` pairs of classes with the ``highest`` or lowest of the values (classes, classes), best first."""
    pairs = [(f"{classes[i]}, {classes[j]}", float(values[i, j])) for i, j in combinations(range(len(classes)), 2)]
    return sorted(pairs, key=lambda pair: pair[1], reverse=highest)[:count]


def draw(overview: Overview) -> dict[str, Figure]:
    """Every figure by name."""
    classes, source = list(overview.counts), overview.source
    features = {
        label: {name: values[:, NAMES.index(feature)] for name, values in overview.features.items()}
        for feature, label in SHOWN.items()
    }
    profiles = {name: values[:, RADIAL] for name, values in overview.features.items()}
    return {
        "class_counts": figures.class_counts(overview.counts, source),
        "examples": figures.example_maps(overview.examples, source),
        "mean_maps": figures.mean_maps(overview.means, source),
        "radial_profiles": figures.radial_profiles(profiles, "none" if "none" in classes else classes[-1], source),
        "features": figures.feature_distributions(features, source),
        "similarity": figures.class_similarity(overview.cosine, overview.distance, classes, source),
    }


def write(directory: Path, wafers: Wafers, overview: Overview, pairs: int) -> None:
    """Write the figures, a report with the most similar ``pairs`` of classes, and all numbers as ``summary.json``.

    ``wafers`` are all, also those that `explore` left out.
    """
    classes = list(overview.counts)
    rankings = {
        "cosine": ranking(overview.cosine, classes, pairs, highest=True),
        "distance": ranking(overview.distance, classes, pairs, highest=False),
    }
    rows = [
        (alike, f"{cosine:.2f}", near, f"{distance:.2f}")
        for (alike, cosine), (near, distance) in zip(*rankings.values(), strict=True)
    ]
    text = template("trm_jax.wafer", "explore.md").render(source=wafers.source, counts=overview.counts, pairs=rows)
    write_report(directory, text, draw(overview))
    write_text(directory / "summary.json", json.dumps(_summary(wafers, overview, rankings), indent=1))


def _summary(wafers: Wafers, overview: Overview, rankings: Mapping[str, Any]) -> dict[str, Any]:
    counts = overview.counts.values()
    return {
        "source": wafers.source,
        "wafers": len(wafers),
        "unlabelled": int((wafers.label == UNKNOWN).sum()),
        "labelled copies or contradictions left out": int((~wafers.clean & (wafers.label != UNKNOWN)).sum()),
        "classes": overview.counts,
        "imbalance": round(max(counts) / min(counts), 1),
        "looked at": {name: len(values) for name, values in overview.features.items()},
        "feature means": {
            name: dict(zip(NAMES, values.mean(axis=0).round(4).tolist(), strict=True))
            for name, values in overview.features.items()
        },
        "most similar": rankings,
    }
