"""Wafers with none, one and two patterns: labels are what was laid over each other, and parts share no lots."""

import numpy as np
import pytest

from trm_jax.core.config import Config
from trm_jax.core.task import Prediction, check_tokens
from trm_jax.wafer.generated.mixes import PAIRS, mixed_with_classes
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.wafers import CLASSES, FAIL, NONE, PASS
from trm_jax.wafer.several.patterns import PARTS, PATTERNS, WaferPatterns
from trm_jax.wafer.splits import folds

MIXES = {"train_mixes": 60, "validation_mixes": 20, "test_mixes": 30}
TASK = WaferPatterns(generated=1500, image=26, **MIXES)
WAFERS = synthetic_wafers(1500)


def test_a_mix_has_the_failing_dies_of_both_its_wafers_and_is_labelled_with_both_classes():
    chosen = np.arange(0, 1500, 2)
    mixes, pairs = mixed_with_classes(WAFERS, chosen, 40, seed=3)
    assert {tuple(CLASSES[index] for index in pair) for pair in pairs} <= set(PAIRS)
    for number, (one, two) in enumerate(pairs):
        mix, first = mixes.map(number), int(np.flatnonzero(WAFERS.row == mixes.row[number])[0])
        other = two if WAFERS.label[first] == one else one
        assert first in chosen and WAFERS.label[first] in (one, two)
        alike = [i for i in chosen if WAFERS.label[i] == other and WAFERS.map(i).shape == mix.shape]
        assert any(np.array_equal(mix == FAIL, ((WAFERS.map(first) == FAIL) | (WAFERS.map(i) == FAIL)) & (mix >= PASS))
                   for i in alike)  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_its_own_wafers_and_mixes_of_them_alone(part):
    examples, index = TASK.examples(part), getattr(folds(WAFERS)[3], part)
    grids, labels = examples.arrays["inputs"], examples.arrays["labels"]
    count = len(index)
    assert len(labels) == count + MIXES[f"{part}_mixes"] and labels.shape[1] == len(PATTERNS) == 8
    assert np.array_equal(grids[:count], to_grid(WAFERS.take(index), 26))
    single = WAFERS.label[index]
    assert np.array_equal(labels[:count].argmax(axis=1)[single != NONE], single[single != NONE])
    assert np.array_equal(labels[:count].sum(axis=1), single != NONE) and (labels[count:].sum(axis=1) == 2).all()
    assert set(examples.levels[count:]) == {"two"} and set(examples.levels[:count]) == {
        "no",
        "one",
    }
    mixes, pairs = mixed_with_classes(WAFERS, index, MIXES[f"{part}_mixes"], PARTS.index(part))
    assert np.array_equal(grids[count:], to_grid(mixes, 26))
    assert np.array_equal(np.argwhere(labels[count:])[:, 1].reshape(-1, 2), np.sort(pairs, axis=1))


def test_the_share_of_draws_with_two_patterns_is_the_one_that_was_asked_for():
    examples = TASK.examples("train")
    assert TASK.examples("test").weights is None
    weights, two = examples.weights[0], examples.levels == "two"
    assert weights[two].sum() / weights.sum() == pytest.approx(0.4)
    label = examples.arrays["labels"][~two].argmax(axis=1) + 8 * (examples.levels[~two] == "no")
    drawn = np.bincount(label, weights[~two], minlength=9)
    np.testing.assert_allclose(drawn / drawn[0], (np.bincount(label) / np.bincount(label)[0]) ** 0.5)


def test_a_set_is_right_as_a_whole_and_one_who_sees_nothing_is_right_where_nothing_is():
    examples = TASK.examples("test")
    labels = examples.arrays["labels"]
    nothing, near = np.zeros_like(labels), labels.copy()
    near[::2, 0] = 1 - near[::2, 0]
    prediction = Prediction(np.stack([labels, nothing, near])[:, None], np.zeros((3, 1, len(labels))))
    scores = TASK.score(prediction, examples)
    share = np.mean(examples.levels == "no")
    assert scores["exact"][:, 0].tolist() == [1.0, share, pytest.approx(0.5, abs=0.01)]
    assert scores["cells"][:, 0].tolist() == [1.0, 1 - labels.mean(), pytest.approx(1 - 1 / 16, abs=1e-3)]


def test_options_out_of_range_are_refused_by_name():
    for option, value in (("mixed", 1.5), ("fold", 4), ("test_mixes", 0)):
        with pytest.raises(ValueError, match=rf"task.{option} must be"):
            WaferPatterns(**{option: value})


def test_grids_of_another_size_than_the_model_takes_are_refused():
    config = Config().override(**TASK.shape(), **{"model.grid": (13, 13), "model.readout": "pooled"})
    check_tokens(config.model, TASK.examples("test").arrays, "test")
    larger = TASK.examples("test").arrays | {"inputs": np.zeros((2, 52, 52, 2), np.uint8)}
    with pytest.raises(ValueError, match=r"^test: inputs \(2, 52, 52, 2\) are not images of 26 cells a side"):
        check_tokens(config.model, larger, "test")
