"""Look at wafer maps before training on them: class mix, examples, mean maps, profiles, features, similar classes.

    python experiments/wafer_explore.py                        # the data that is found, else generated wafers
    python experiments/wafer_explore.py --data LSWMD.pkl --output runs/explore-lswmd
    python experiments/wafer_explore.py --preset smoke         # generated wafers: proves that it runs

Writes seven figures, summary.json and a page that holds all figures, index.html, to runs/explore. On 49,626 labelled
wafers of WM-811K (30 seconds on two cores): none is 59 % of them and 262 times as frequent as Near-full; by mean
features Scratch, Loc and none are nearest to each other, and mean maps hardly tell any of the local patterns apart.
"""

import base64
import io
import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from trm_jax.reporting.style import svg
from trm_jax.support.cli import main
from trm_jax.support.files import replacing, write_text
from trm_jax.support.schema import require
from trm_jax.wafer import figures as wafer_plots
from trm_jax.wafer.data import load
from trm_jax.wafer.maps.features import NAMES, RADIAL, spatial_features
from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.maps import CLASSES, UNKNOWN, Wafers
from trm_jax.wafer.presets import SMOKE_WAFERS
from trm_jax.wafer.synthetic import synthetic_wafers

ROOT = Path(__file__).resolve().parent.parent
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
{% for name, entry in figures.items() %}
<figure><img src="{{ entry.data }}" alt="{{ entry.caption }}"><figcaption>{{ entry.caption }}</figcaption></figure>
{% endfor %}
<p class="note">All numbers: summary.json beside this page.</p>
</body></html>
"""


@dataclass(frozen=True)
class Arguments:
    """Draw what the wafers of each class look like."""

    data: Path | None = None
    """Cache, .npz, .pkl or folder of maps; if not given, TRM_DATA, else shared/data beside the project, else
    generated wafers."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: generated wafers, whatever data there is."""
    output: Path | None = None
    """Folder for the figures, where files of the same names are replaced; runs/explore if not given, runs/explore-smoke
    with the preset smoke."""
    limit: int = 0
    """Most wafers of a class to look at, chosen at random; 0 for all. Class counts are always of all."""
    examples: int = 4
    """Example maps of each class, chosen at random."""
    size: int = 32
    """Cells a side of the common grid of the mean maps."""
    pairs: int = 8
    """Most similar pairs of classes to list."""
    seed: int = 0
    """Seed of everything that is chosen at random."""
    figures: Literal["png", "svg"] = "png"
    """Format of the figures."""


@dataclass(frozen=True)
class Look:
    """What the figures are drawn from."""

    counts: dict[str, int]
    examples: dict[str, list[np.ndarray]]
    means: dict[str, np.ndarray]
    features: dict[str, np.ndarray]
    """(wafers, features) of each class."""
    cosine: np.ndarray
    distance: np.ndarray


def look(wafers: Wafers, arguments: Arguments) -> Look:
    """Everything that is counted or computed, for the classes that are there. Raises ValueError for fewer than two."""
    rng = np.random.default_rng(arguments.seed)
    members = {name: np.flatnonzero(wafers.label == index) for index, name in enumerate(CLASSES)}
    members = {name: index for name, index in members.items() if len(index)}
    require(len(members) >= 2, f"{wafers.source}: need labelled wafers of two classes or more, got {len(members)}")
    counts = {name: len(index) for name, index in members.items()}
    if arguments.limit:
        members = {name: np.sort(rng.permutation(index)[: arguments.limit]) for name, index in members.items()}
    examples, means, features = {}, {}, {}
    for name, index in tqdm(members.items(), desc="classes", unit="class", disable=None):
        examples[name] = [wafers.map(int(one)) for one in rng.permutation(index)[: arguments.examples]]
        chosen = wafers.take(index)
        means[name] = mean_map(chosen, arguments.size)
        features[name] = spatial_features(chosen)[0]
    return Look(counts, examples, means, features, mean_map_cosine(means), feature_distance(features))


def mean_map(wafers: Wafers, size: int) -> np.ndarray:
    """Failing share of the dies at each place of a common grid, (size, size); NaN where dies are rare."""
    total = np.zeros((size, size, 2))
    for begin in range(0, len(wafers), 4096):  # grids of all wafers at once could fill the memory
        part = wafers.take(np.arange(begin, min(begin + 4096, len(wafers))))
        total += to_grid(part, size).sum(axis=0, dtype=np.float64)
    failing, dies = total[..., 0], total[..., 1]
    return np.divide(failing, dies, out=np.full_like(dies, np.nan), where=dies > 0.1 * dies.max())


def mean_map_cosine(means: dict[str, np.ndarray]) -> np.ndarray:
    """Cosine similarity of every two mean maps, (classes, classes), each less its own mean.

    That makes it a matter of shape: a share that is high everywhere is alike to nothing.
    """
    maps = np.stack(list(means.values()))
    common = maps[:, ~np.isnan(maps).any(axis=0)]
    centred = common - common.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1)
    return centred @ centred.T / np.maximum(np.outer(length, length), np.finfo(float).tiny)


def feature_distance(features: dict[str, np.ndarray]) -> np.ndarray:
    """Root mean square, over the features, of the distance of the class means, (classes, classes).

    Each feature is measured in its standard deviation within a class (pooled, every class with the same weight).
    """
    means = np.stack([values.mean(axis=0) for values in features.values()]).astype(np.float64)
    within = np.sqrt(np.mean([values.var(axis=0) for values in features.values()], axis=0))
    scaled = means / np.where(within > 0, within, 1)
    return np.sqrt(((scaled[:, None] - scaled[None]) ** 2).mean(axis=2))


def ranking(values: np.ndarray, classes: list[str], count: int, highest: bool) -> list[tuple[str, float]]:
    """The most similar pairs of classes and how similar they are."""
    pairs = [(f"{classes[i]}, {classes[j]}", float(values[i, j])) for i, j in combinations(range(len(classes)), 2)]
    return sorted(pairs, key=lambda pair: pair[1], reverse=highest)[:count]


def draw(found: Look, rankings: dict[str, list[tuple[str, float]]], source: str) -> dict[str, tuple[Figure, str]]:
    """Every figure by name, with its caption."""
    classes = list(found.counts)
    counts, reference = sorted(found.counts.values()), "none" if "none" in classes else classes[-1]
    shown = {
        label: {name: values[:, NAMES.index(feature)] for name, values in found.features.items()}
        for feature, label in SHOWN.items()
    }
    alike, near = rankings["cosine"][0], rankings["distance"][0]
    best = f"Most alike: {alike[0]} by mean map ({alike[1]:.2f}), {near[0]} by features ({near[1]:.2f})."
    return {
        "class_counts": (
            wafer_plots.class_counts(found.counts, source),
            f"Wafers of each class. The most frequent has {counts[-1]:,}, the rarest {counts[0]:,}.",
        ),
        "examples": (wafer_plots.example_maps(found.examples, source), "Maps of each class, chosen at random."),
        "mean_maps": (wafer_plots.mean_maps(found.means, source), "Failing share of the dies at each place."),
        "radial_profiles": (
            wafer_plots.radial_profiles({name: v[:, RADIAL] for name, v in found.features.items()}, reference, source),
            "Failing share in 13 rings of equal width; number of wafers in brackets.",
        ),
        "features": (wafer_plots.feature_distributions(shown, source), "Four spatial features by class."),
        "similarity": (wafer_plots.class_similarity(found.cosine, found.distance, classes, source), best),
        "similar_pairs": (
            wafer_plots.similar_pairs({MEASURES[name]: pairs for name, pairs in rankings.items()}, source),
            best,
        ),
    }


def summary(wafers: Wafers, found: Look, rankings: dict[str, list[tuple[str, float]]]) -> dict[str, Any]:
    """The numbers behind the figures, for machines."""
    return {
        "source": wafers.source,
        "wafers": len(wafers),
        "unlabelled": int((wafers.label == UNKNOWN).sum()),
        "labelled copies or contradictions left out": int((~wafers.clean & (wafers.label != UNKNOWN)).sum()),
        "classes": found.counts,
        "imbalance": round(max(found.counts.values()) / min(found.counts.values()), 1),
        "looked at": {name: len(values) for name, values in found.features.items()},
        "feature means": {
            name: dict(zip(NAMES, values.mean(axis=0).round(4).tolist(), strict=True))
            for name, values in found.features.items()
        },
        "most similar": rankings,
    }


def run(arguments: Arguments) -> None:
    """Load, compute, draw and write."""
    for name in ("limit", "seed"):
        require(getattr(arguments, name) >= 0, f"--{name} must be 0 or more, got {getattr(arguments, name)}")
    for name in ("examples", "pairs"):
        require(getattr(arguments, name) >= 1, f"--{name} must be 1 or more, got {getattr(arguments, name)}")
    smoke = arguments.preset == "smoke"
    require(not smoke or arguments.data is None, "--preset smoke looks at generated wafers; leave out --data")
    wafers = synthetic_wafers(SMOKE_WAFERS) if smoke else load(arguments.data)
    output = arguments.output or ROOT / "runs" / ("explore-smoke" if smoke else "explore")
    found = look(wafers.take((wafers.label != UNKNOWN) & wafers.clean), arguments)
    classes = list(found.counts)
    rankings = {
        name: ranking(getattr(found, name), classes, arguments.pairs, highest=name == "cosine") for name in MEASURES
    }
    output.mkdir(parents=True, exist_ok=True)
    entries, kind = {}, {"png": "image/png", "svg": "image/svg+xml"}[arguments.figures]
    for name, (figure, caption) in tqdm(draw(found, rankings, wafers.source).items(), desc="figures", disable=None):
        content = picture(figure, arguments.figures)
        with replacing(output / f"{name}.{arguments.figures}") as temporary:
            temporary.write_bytes(content)
        entries[name] = {"data": f"data:{kind};base64,{base64.b64encode(content).decode()}", "caption": caption}
    write_text(output / "summary.json", json.dumps(summary(wafers, found, rankings), indent=1))
    page = jinja2.Environment(autoescape=True).from_string(PAGE)
    write_text(output / "index.html", page.render(source=wafers.source, figures=entries))
    print(f"{sum(found.counts.values()):,} labelled wafers ({wafers.source}): {output / 'index.html'}")


def picture(figure: Figure, kind: str) -> bytes:
    """The figure as a file's content, the same for the same figure."""
    if kind == "svg":
        return svg(figure).encode()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


if __name__ == "__main__":
    main(Arguments, run, __doc__)
