"""Which dies make which pattern: labels follow the dies of the two wafers, also when a wafer is turned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trm_jax.core.task import IGNORE, Examples, Prediction
from trm_jax.wafer.generated.mixes import drawn_pairs, mixed_with_classes
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.several.masks import WaferMasks
from trm_jax.wafer.several.mixed import PARTS
from trm_jax.wafer.splits import folds

TASK = WaferMasks(generated=1500, image=24, train_mixes=60, validation_mixes=20, test_mixes=30)
WAFERS, SIDE = synthetic_wafers(1500), 6


def test_a_token_is_of_the_wafer_that_fails_most_in_it_and_counts_where_enough_fails():
    examples = TASK.examples("test")
    grids, labels = examples.arrays["inputs"], examples.arrays["labels"]
    index = folds(WAFERS)[3].test
    pairs = drawn_pairs(WAFERS, index, 30, seed=PARTS.index("test"))
    assert np.isin(pairs, index).all() and len(labels) == 30 and examples.weights is None
    mixes, classes = mixed_with_classes(WAFERS, index, 30, seed=PARTS.index("test"))
    assert np.array_equal(grids, to_grid(mixes, 24))
    assert np.array_equal(np.sort(WAFERS.label[pairs], axis=1), classes)
    found = set()
    for number, (first, second) in enumerate(pairs):
        failing = [to_grid(WAFERS.take(np.array([one])), 24)[0, :, :, 0].astype(float) for one in (first, second)]
        for token in range(SIDE**2):
            row, column = 4 * (token // SIDE), 4 * (token % SIDE)
            dies = grids[number, row : row + 4, column : column + 4, 1]
            shares = [np.minimum(one[row : row + 4, column : column + 4], dies).mean() / 255 for one in failing]
            if max(shares) < 0.25 or shares[0] == shares[1]:
                assert labels[number, token] == IGNORE
            else:
                assert labels[number, token] == WAFERS.label[(first, second)[int(shares[1] > shares[0])]]
                found.add(int(shares[1] > shares[0]))
    assert found == {0, 1} and 0.1 < (labels != IGNORE).mean() < 0.7


def test_every_wafer_has_a_token_that_counts_and_parts_differ():
    parts = [TASK.examples(part).arrays for part in PARTS]
    assert all((part["labels"] != IGNORE).any(axis=1).all() for part in parts)
    assert not np.array_equal(parts[1]["inputs"][:5], parts[2]["inputs"][:5])


def test_labels_turn_with_their_dies():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(CLASSES) + 1, (40, SIDE**2)).astype(np.int32)
    plane = (20 * labels).reshape(40, SIDE, 1, SIDE, 1) * np.ones((1, 1, 4, 1, 4), int)  # no noise in the dies
    labels[labels == len(CLASSES)] = IGNORE
    grids = np.stack([np.zeros((40, 24, 24), int), plane.reshape(40, 24, 24)], axis=-1).astype(np.uint8)
    batch = {"inputs": jnp.asarray(grids), "labels": jnp.asarray(labels)}
    turned = jax.jit(TASK.augment)(jax.random.key(0), batch, {})
    assert turned["inputs"].shape == grids.shape and turned["inputs"].dtype == jnp.uint8
    marks = np.where(turned["labels"] == IGNORE, len(CLASSES), turned["labels"]).reshape(40, SIDE, SIDE)
    np.testing.assert_array_equal(turned["inputs"][:, ::4, ::4, 1], 20 * marks)
    moved = (np.asarray(turned["labels"]) != labels).any(axis=1).mean()
    assert 0.3 < moved < 0.9  # some are left as they are


def test_a_mask_is_right_if_nine_in_ten_of_its_tokens_are():
    labels = np.full((2, 36), IGNORE, np.int32)
    labels[0, :10], labels[1, :20] = 4, 2
    examples = Examples({"inputs": np.zeros((2, 24, 24, 2), np.uint8), "labels": labels})
    answers = np.stack([labels, labels, labels])[:, None]
    answers[1, 0, 0, 0] = 3  # nine of ten
    answers[2, 0, 1, :3] = 3  # 17 of 20
    scores = TASK.score(Prediction(answers, np.zeros((3, 1, 2))), examples)
    assert scores["exact"][:, 0].tolist() == [1.0, 1.0, 0.5]
    np.testing.assert_allclose(scores["cells"][:, 0], [1, 29 / 30, 27 / 30])


def test_a_grid_that_tokens_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"task.patch=5 must divide task.image=36"):
        WaferMasks(patch=5)
