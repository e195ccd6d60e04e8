"""Unlike maps in clusters: those that differ in one direction belong together, however much, and lone ones to none."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from trm_jax.wafer.checkpoint import load_checkpoint
from trm_jax.wafer.classify import Classified, classify
from trm_jax.wafer.data import load
from trm_jax.wafer.generated.mixes import mixed_with_classes
from trm_jax.wafer.splits import all_lots
from trm_jax.wafer.unknown.clusters import clusters, of_answers
from trm_jax.wafer.unknown.fit import distances

CHECKPOINTS = Path(__file__).resolve().parents[3] / "checkpoints"
RNG = np.random.default_rng(0)
UNLIKE = distances(RNG.normal(size=(400, 24)).astype(np.float32), np.zeros(400, int))


def pointing(direction: int, count: int) -> np.ndarray:
    """Features that differ from the training wafers in one direction, more or less."""
    found = RNG.normal(size=(count, 24)) * 0.3
    found[:, direction] += RNG.uniform(5, 20, count)
    return found.astype(np.float32)


def test_directions_become_clusters_the_largest_first_and_lone_maps_are_in_none() -> None:
    lone = (RNG.normal(size=(20, 24)) * 9).astype(np.float32)
    found = clusters(UNLIKE, np.concatenate([pointing(7, 12), pointing(11, 60), pointing(3, 30), lone]))
    assert [set(part.tolist()) for part in np.split(found, [12, 72, 102])[:3]] == [{3}, {1}, {2}]
    assert 0 in found[102:] and not (found[102:] == 1).all()


def test_few_maps_are_no_cluster_and_only_unlike_ones_are_asked_about() -> None:
    assert clusters(UNLIKE, pointing(3, 4)).tolist() == [0] * 4 and len(clusters(UNLIKE, pointing(3, 0))) == 0
    score = np.where(np.arange(60) % 2, 1, -1).astype(np.float32)
    strange = np.concatenate([pointing(5, 14), pointing(6, 16)])
    some = Classified(np.ones((60, 9)), np.ones(60), np.ones((60, 3)), score, 1.0, strange)
    found = of_answers(UNLIKE, some)
    assert found is not None and found[::2].tolist() == [0] * 30 and found[1::2].tolist() == [2] * 14 + [1] * 16
    assert of_answers(None, some) is None


@pytest.mark.parametrize("name", ["wafer-edge", "wafer-ensemble"])
def test_no_cluster_of_mixes_swallows_the_others_and_each_is_mostly_of_few_pairs(name: str, data_root: Path) -> None:
    """By the excess of mass 160 and 222 of some 210 maps came into one cluster, whatever their patterns."""
    wafers = load(data_root / "wm811k" / "wm811k_labelled.npz")
    mixes, classes = mixed_with_classes(wafers, all_lots(wafers).validation, 300, seed=4)
    checkpoint = load_checkpoint(CHECKPOINTS / name)
    answered = classify(checkpoint, mixes)
    found = of_answers(checkpoint.unlike, answered)
    assert found is not None and found.max() >= 5 and np.bincount(found)[1:].max() < 60
    inside = found > 0
    assert inside.mean() > 0.25
    assert adjusted_mutual_info_score(classes[inside] @ [10, 1], found[inside]) > 0.3
