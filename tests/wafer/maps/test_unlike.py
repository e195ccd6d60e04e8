"""The score of unknown maps: distances by their definition, limits, and files that are whole."""

from pathlib import Path

import numpy as np
import pytest

from trm_jax.wafer.maps.unlike import HALF, UnlikeTogether, doubted, known, load_unlike, save_unlike
from trm_jax.wafer.unknown.fit import SHRINKAGE, distances, fit_net, with_limits

RNG = np.random.default_rng(0)
LABEL = np.repeat([0, 2, 5], 200)
CENTRES = np.array([[0, 0, 0, 0], [6, 0, 0, 0], [0, 0, 9, 0]], np.float32)
MIXING = np.array([[1, 0.5, 0, 0], [0, 2, 0, 0], [0, 0, 0.3, 0], [0.2, 0, 0, 1]])
KNOWN = (np.repeat(CENTRES, 200, axis=0) + RNG.normal(size=(600, 4)) @ MIXING).astype(np.float32)


def test_the_distance_is_that_of_mahalanobis_to_the_nearest_class() -> None:
    unlike, asked = distances(KNOWN, LABEL), RNG.normal(size=(50, 4)).astype(np.float32) * 8
    means = np.stack([KNOWN[label == LABEL].mean(axis=0) for label in (0, 2, 5)])
    rest = KNOWN - np.repeat(means, 200, axis=0)
    covariance = np.cov(rest.T)
    precision = np.linalg.inv(covariance + np.eye(4) * SHRINKAGE * np.trace(covariance) / 4)
    expected = [min(float((x - m) @ precision @ (x - m)) for m in means) for x in asked]
    np.testing.assert_allclose(unlike.measures(asked)[:, 0], np.log(expected), rtol=1e-3, atol=1e-3)


def test_the_net_tells_what_it_was_shown_and_one_measure_above_its_limit_is_enough() -> None:
    between = (np.array([[3, 0, 4.5, 0]]) + RNG.normal(size=(300, 4)) @ MIXING).astype(np.float32)
    unlike = fit_net(distances(KNOWN, LABEL), KNOWN, between, hidden=8)
    logits = unlike.measures(np.concatenate([KNOWN, between]))[:, 1]
    assert np.mean(logits[:600] < 0) > 0.95 and np.mean(logits[600:] > 0) > 0.9
    limits = np.array([[np.log(30), 1], [0, 1]], np.float32)
    far = np.array([[-60, 0, 0, 0]], np.float32)
    scores = unlike._replace(limits=limits).score(np.concatenate([KNOWN[:1], between[:1], far]))
    assert scores.dtype == np.float32 and scores[0] < 0 < min(scores[1:])


def test_it_is_read_as_it_was_written_and_refused_if_it_is_of_another_model(tmp_path: Path) -> None:
    path, unlike = tmp_path / "unlike.npz", distances(KNOWN, LABEL)
    assert load_unlike(path) is None
    save_unlike(path, unlike)
    read = load_unlike(path, 4)
    assert read is not None
    for old, new in zip(unlike, read, strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match="it takes 4 features, but the model gives 5"):
        load_unlike(path, 5)
    save_unlike(path, unlike._replace(mean=unlike.mean * np.float32("nan")))
    with pytest.raises(ValueError, match="NaN, infinite"):
        load_unlike(path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="is damaged or of another model"):
        load_unlike(path)


def test_the_scores_of_several_nets_are_averaged_and_come_back_from_a_file(tmp_path: Path) -> None:
    between = (np.array([[3, 0, 4.5, 0]]) + RNG.normal(size=(300, 4)) @ MIXING).astype(np.float32)
    nets = [
        fit_net(distances(part, LABEL), part, between, hidden=8, seed=k) for k, part in enumerate((KNOWN, 2 * KNOWN))
    ]
    half = [
        net._replace(**{name: getattr(net, name).astype(np.float16).astype(np.float32) for name in HALF})
        for net in nets
    ]
    together, both = UnlikeTogether(tuple(half)), np.concatenate([KNOWN, 2 * KNOWN], axis=1)
    limited = with_limits(together, both, 0.1)
    scores = limited.score(both)
    assert scores.dtype == np.float32 and 0.07 < np.mean(scores > 0) <= 0.1
    each = [net.measures(part) for net, part in zip(half, (KNOWN, 2 * KNOWN), strict=True)]
    standard = np.mean([(one - one.mean(axis=0)) / one.std(axis=0) for one in each], axis=0)
    above = standard - [np.quantile(standard[:, 0], 0.975), np.quantile(standard[:, 1], 0.925)]
    np.testing.assert_allclose(scores, above.max(axis=1), atol=1e-3)
    save_unlike(tmp_path / "unlike.npz", limited)
    read = load_unlike(tmp_path / "unlike.npz", 8)
    np.testing.assert_array_equal(read.score(both), scores)
    np.testing.assert_array_equal(read.white(both), np.concatenate([half[0].white(KNOWN), half[1].white(2 * KNOWN)], 1))
    with pytest.raises(ValueError, match="it takes 8 features, but the model gives 4"):
        load_unlike(tmp_path / "unlike.npz", 4)
    arrays = dict(np.load(tmp_path / "unlike.npz"))
    for broken in (
        {"mean": arrays["mean"][:1]},
        {"hidden": arrays["hidden"][:, :-1]},
        {"output": arrays["output"] * np.nan},
    ):
        np.savez(tmp_path / "broken.npz", **(arrays | broken))
        with pytest.raises(ValueError, match="is damaged or of another model"):
            load_unlike(tmp_path / "broken.npz")


def test_doubts_of_both_kinds_come_together() -> None:
    doubts = doubted({2: "is half"}, np.array([-1.0, 0.5, 3.0, 0.0]))
    assert doubts == {1: "is unlike the wafers that were trained on", 2: "is half"}
    assert known(np.full(2, -np.inf)) is None and known(np.zeros(2)) is not None
