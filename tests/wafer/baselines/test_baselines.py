"""Rules and the small CNN: their parts, and that they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from trm_jax.wafer.baselines import cnn_training, rules
from trm_jax.wafer.baselines.cnn import CNN, CNNConfig
from trm_jax.wafer.baselines.cnn_training import CNNTraining
from trm_jax.wafer.maps.maps import CLASSES
from trm_jax.wafer.splits import Split, folds
from trm_jax.wafer.synthetic import synthetic_wafers


def test_the_default_net_has_the_size_of_a_small_baseline():
    params = CNN(CNNConfig()).init(jax.random.key(0), jnp.zeros((1, 26, 26, 2), jnp.uint8))["params"]
    assert 90_000 <= optax.tree.size(params) <= 160_000


def three_class_task():
    """Grids whose class is where their only failing cell lies; two splits."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], (60, 30, 10)))
    grids = np.zeros((100, 8, 8, 2), np.uint8)
    grids[..., 1] = 255
    for grid, label in zip(grids, labels, strict=True):
        grid[3 + (label == 1), 3 + (label == 2), 0] = 255 if label < 3 else 0
        grid[0 if label == 0 else 4, 4, 0] = 255
    index = np.arange(100)
    splits = [Split("a", index[20:], index[:20], index[:20]), Split("b", index[:70], index[70:], index[70:])]
    return grids, labels, splits


def test_the_net_learns_a_toy_task_on_two_splits_and_keeps_its_best_weights():
    grids, labels, splits = three_class_task()
    config = CNNConfig(widths=(8, 8), convolutions=(1, 1), classes=3)
    training = CNNTraining(
        steps=80, batch=32, warmup=5, learning_rate=1e-2, evaluate_every=20, ema=0.8, weight_decay=0.0
    )
    training = CNNTraining(**{**vars(training), "augmentation": type(training.augmentation)(untouched=1.0)})
    fitted = cnn_training.fit(config, training, jnp.asarray(grids), labels, splits)
    assert (fitted.macro_f1 == 1).all() and (fitted.step <= 80).all()
    found = cnn_training.predictor(config, [split.test for split in splits])(fitted.params, jnp.asarray(grids))
    for split, probabilities in zip(splits, found, strict=True):
        assert probabilities.shape == (len(split.test), 3)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(probabilities.argmax(axis=1), labels[split.test])


def test_training_goes_on_where_it_was_interrupted_and_ends_the_same(tmp_path, monkeypatch):
    grids, labels, splits = three_class_task()
    config = CNNConfig(widths=(4,), convolutions=(1,), classes=3)
    training = CNNTraining(steps=40, batch=16, warmup=5, learning_rate=1e-2, evaluate_every=10, ema=0.8)
    whole = cnn_training.fit(config, training, jnp.asarray(grids), labels, splits)
    progress, kept, keep = tmp_path / "progress", [], cnn_training._keep

    def interrupted(path, state, best):
        keep(path, state, best)
        kept.append(best)
        if len(kept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(cnn_training, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cnn_training.fit(config, training, jnp.asarray(grids), labels, splits, progress)
    resumed = cnn_training.fit(config, training, jnp.asarray(grids), labels, splits, progress)
    assert [row["step"] for row in resumed.curve] == [10, 20, 30, 40] and len(kept) == 4
    assert resumed.curve == whole.curve and len(whole.curve[0]["macro_f1"]) == 2
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
    np.testing.assert_array_equal(resumed.step, whole.step)


def test_training_ends_when_no_split_has_become_better_for_as_long_as_its_patience(monkeypatch):
    grids, labels, splits = three_class_task()
    config = CNNConfig(widths=(4,), convolutions=(1,), classes=3)
    training = CNNTraining(steps=80, batch=8, warmup=1, evaluate_every=10, patience=2)
    scores = iter([0.1, 0.5, 0.2, 0.5, 0.3, 0.4, 0.3, 0.5, 0.1, 0.5])  # of two splits, one evaluation after the other
    monkeypatch.setattr(cnn_training, "_macro_f1", lambda *_: next(scores))
    fitted = cnn_training.fit(config, training, jnp.asarray(grids), labels, splits)
    assert fitted.step.tolist() == [30, 10] and fitted.macro_f1.tolist() == [0.3, 0.5]
    assert [row["step"] for row in fitted.curve] == [10, 20, 30, 40, 50], "the fourth and fifth were in vain"


@pytest.mark.parametrize(("balance", "shares"), [(1.0, (0.6, 0.3, 0.1)), (0.0, (1 / 3, 1 / 3, 1 / 3))])
def test_batches_have_the_stated_class_mix_and_come_from_the_split(balance, shares):
    _, labels, splits = three_class_task()
    drawn_from = jax.tree.map(lambda leaf: leaf[0], cnn_training.samples(labels, splits, 3))
    training = CNNTraining(batch=6000, balance=balance)
    index, classes = cnn_training.draw(training, drawn_from, jax.random.key(0))
    np.testing.assert_array_equal(labels[np.asarray(index)], classes)
    assert set(np.asarray(index).tolist()) == set(splits[0].train.tolist())
    np.testing.assert_allclose(np.bincount(classes, minlength=3) / 6000, shares, atol=0.03)


def test_a_class_without_training_wafers_is_named():
    _, labels, splits = three_class_task()
    with pytest.raises(ValueError, match="split a has no training wafer of class 3"):
        cnn_training.samples(labels, splits, 4)


@pytest.mark.parametrize("rule", list(rules.INPUTS))
def test_rules_give_probabilities_and_trees_beat_the_constant(rule):
    wafers = synthetic_wafers(1200)
    split = folds(wafers)[0]
    values, labels = rules.INPUTS[rule](wafers), wafers.label
    model = rules.train(rule, *((values[part], labels[part]) for part in (split.train, split.validation)), seed=0)
    found = rules.probabilities(model, values[split.test], len(CLASSES))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    accuracy = (found.argmax(axis=1) == labels[split.test]).mean()
    constant = np.bincount(labels[split.test]).max() / len(split.test)
    if rule in ("decision_tree", "boosting"):
        assert accuracy > constant + 0.1
    else:
        assert accuracy == pytest.approx(constant, abs=0.05)
    assert (rules.count_nodes(model) > 0) == (rule != "constant")
