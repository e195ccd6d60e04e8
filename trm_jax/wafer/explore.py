"""What the wafers of each class look like: counts, examples, mean maps, features and similar classes."""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from trm_jax.reporting.style import svg
from trm_jax.support.files import replacing, write_text
from trm_jax.support.schema import require
from trm_jax.wafer import figures
from trm_jax.wafer.maps.features import NAMES, RADIAL, spatial_features
from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.maps import CLASSES, UNKNOWN, Wafers

Format = Literal["png", "svg"]
Pairs = list[tuple[str, float]]
"""Names of two classes and how similar they are, the most similar first."""
SHOWN = {
    "defect_ratio": "Failing share of all dies (0 to 1)",
    "radial_12": "Failing share of the dies in the outermost ring (0 to 1)",
    "centroid_distance": "Distance of the failing dies' centroid\nfrom the centre (wafer radii)",
    "spatial_entropy": "Entropy of the failing dies over 4x4 blocks\n(1 = spread evenly)",
}
MEASURES = {
    "cosine": "Cosine similarity of mean maps\n(larger = more alike)",
    "distance": "Distance of mean features, in standard\ndeviations within a class\n(smaller = more alike)",
}
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Wafer maps by class</title>
<style>
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
figure { margin: 2rem 0; } img { width: 100%; height: auto; } figcaption, .note { font-size: .9rem; color: #555; }
</style></head><body>
<h1>Wafer maps by class</h1>
<p>Data: {{ source }}.</p>
{% for caption, image in figures %}
<figure><img src="{{ image }}" alt="{{ caption }}"><figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
<p class="note">All numbers: summary.json beside this page.</p>
</body></html>
"""


@dataclass(frozen=True)
class Overview:
    """What the figures are drawn from; dictionaries are by name of the class."""

    source: str
    """What the wafers are."""
    counts: dict[str, int]
    """Wafers of the class."""
    examples: dict[str, list[np.ndarray]]
    """Maps (height, width) chosen at random."""
    means: dict[str, np.ndarray]
    """Mean map (size, size)."""
    features: dict[str, np.ndarray]
    """(wafers, features)."""
    rankings: dict[str, Pairs]
    """The most similar pairs of classes by each of MEASURES."""
    cosine: np.ndarray
    """Similarity of mean maps (classes, classes)."""
    distance: np.ndarray
    """Distance of mean features (classes, classes)."""


def explore(
    wafers: Wafers, limit: int = 0, examples: int = 4, size: int = 32, pairs: int = 8, seed: int = 0
) -> Overview:
    """Count and measure the labelled wafers that are no copies, at most ``limit`` of a class (0: all).

    ``examples`` maps of a class are chosen by the ``seed``; ``size`` is the side of the mean maps, ``pairs`` the length
    of the rankings. Raises ValueError where fewer than two classes have wafers.
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
    cosine, distance = mean_map_cosine(means), feature_distance(features)
    rankings = {
        "cosine": ranking(cosine, list(counts), pairs, highest=True),
        "distance": ranking(distance, list(counts), pairs, highest=False),
    }
    return Overview(wafers.source, counts, maps, means, features, rankings, cosine, distance)


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
    centred = common - common.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1)
    return centred @ centred.T / np.maximum(np.outer(length, length), np.finfo(float).tiny)


def feature_distance(features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Root mean square, over the features, of the distance of the class means, (classes, classes).

    Each feature is measured in its standard deviation within a class (pooled, every class with the same weight).
    """
    means = np.stack([values.mean(axis=0) for values in features.values()]).astype(np.float64)
    within = np.sqrt(np.mean([values.var(axis=0) for values in features.values()], axis=0))
    scaled = means / np.where(within > 0, within, 1)
    return np.sqrt(((scaled[:, None] - scaled[None]) ** 2).mean(axis=2))


def ranking(values: np.ndarray, classes: list[str], count: int, highest: bool) -> Pairs:
    """The ``count`` pairs of classes with the ``highest`` or lowest of the values (classes, classes)."""
    pairs = [(f"{classes[i]}, {classes[j]}", float(values[i, j])) for i, j in combinations(range(len(classes)), 2)]
    return sorted(pairs, key=lambda pair: pair[1], reverse=highest)[:count]


def draw(overview: Overview) -> dict[str, tuple[Figure, str]]:
    """Every figure by name, with its caption."""
    classes, source = list(overview.counts), overview.source
    counts, reference = sorted(overview.counts.values()), "none" if "none" in classes else classes[-1]
    shown = {
        label: {name: values[:, NAMES.index(feature)] for name, values in overview.features.items()}
        for feature, label in SHOWN.items()
    }
    profiles = {name: values[:, RADIAL] for name, values in overview.features.items()}
    rankings = {MEASURES[name]: pairs for name, pairs in overview.rankings.items()}
    (alike, cosine), (near, distance) = (pairs[0] for pairs in overview.rankings.values())
    similar = f"Most alike: {alike} by mean map ({cosine:.2f}), {near} by features ({distance:.2f})."
    return {
        "class_counts": (
            figures.class_counts(overview.counts, source),
            f"Wafers of each class. The most frequent has {counts[-1]:,}, the rarest {counts[0]:,}.",
        ),
        "examples": (figures.example_maps(overview.examples, source), "Maps of each class, chosen at random."),
        "mean_maps": (figures.mean_maps(overview.means, source), "Failing share of the dies at each place."),
        "radial_profiles": (
            figures.radial_profiles(profiles, reference, source),
            "Failing share in 13 rings of equal width; number of wafers in brackets.",
        ),
        "features": (figures.feature_distributions(shown, source), "Four spatial features by class."),
        "similarity": (figures.class_similarity(overview.cosine, overview.distance, classes, source), similar),
        "similar_pairs": (figures.similar_pairs(rankings, source), similar),
    }


def summary(wafers: Wafers, overview: Overview) -> dict[str, Any]:
    """The numbers behind the figures, for machines; ``wafers`` are all, also those that were left out."""
    return {
        "source": wafers.source,
        "wafers": len(wafers),
        "unlabelled": int((wafers.label == UNKNOWN).sum()),
        "labelled copies or contradictions left out": int((~wafers.clean & (wafers.label != UNKNOWN)).sum()),
        "classes": overview.counts,
        "imbalance": round(max(overview.counts.values()) / min(overview.counts.values()), 1),
        "looked at": {name: len(values) for name, values in overview.features.items()},
        "feature means": {
            name: dict(zip(NAMES, values.mean(axis=0).round(4).tolist(), strict=True))
            for name, values in overview.features.items()
        },
        "most similar": overview.rankings,
    }


def write(directory: Path, wafers: Wafers, overview: Overview, image_format: Format) -> None:
    """Write every figure, ``summary.json`` and a page that holds all figures, ``index.html``."""
    directory.mkdir(parents=True, exist_ok=True)
    images = []
    kind = {"png": "image/png", "svg": "image/svg+xml"}[image_format]
    for name, (figure, caption) in tqdm(draw(overview).items(), desc="figures", disable=None):
        content = picture(figure, image_format)
        with replacing(directory / f"{name}.{image_format}") as temporary:
            temporary.write_bytes(content)
        images.append((caption, f"data:{kind};base64,{base64.b64encode(content).decode()}"))
    write_text(directory / "summary.json", json.dumps(summary(wafers, overview), indent=1))
    page = jinja2.Environment(autoescape=True).from_string(PAGE)
    write_text(directory / "index.html", page.render(source=wafers.source, figures=images))


def picture(figure: Figure, image_format: Format) -> bytes:
    """The figure as the content of a file, the same for the same figure."""
    if image_format == "svg":
        return svg(figure).encode()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
