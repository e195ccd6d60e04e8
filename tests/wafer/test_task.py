"""Wafers as a task: the class mix that is drawn, scores, and answers of every step; the scripts around it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import script
from toys import Toy, on_device

from trm_jax.core import train_step
from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import override
from trm_jax.training.checkpoint import load_weights
from trm_jax.training.predict import scores
from trm_jax.wafer import task as wafer_task
from trm_jax.wafer.evaluation.stored import load_predicted
from trm_jax.wafer.folds import without
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.presets import PRESETS
from trm_jax.wafer.splits import all_lots
from trm_jax.wafer.task import WaferTask

CONFIG = Config().override(
    **{"model.classes": 9, "model.encoder": {"patch": 4, "image": 12, "widths": (4,)}, "model.grid": (3, 3),
       "model.width": 8, "model.layers": 1, "model.readout": "mean_max", "model.halt_token": "mean",
       "recursion.N_sup": 2, "recursion.T": 1, "recursion.n": 1, "run.seeds": (3, 5), "run.batch": 8}
)  # fmt: skip


forward = jax.jit(model.forward, static_argnums=0)


@pytest.fixture(scope="module")
def wafers():
    return synthetic_wafers(1200)


@pytest.fixture(scope="module")
def grids(wafers):
    return WaferTask().grids_of(CONFIG, wafers)


@pytest.fixture(scope="module")
def task(wafers, grids):
    return WaferTask(grids=grids, labels=wafers.label, split=all_lots(wafers))


def draw(task, batch):
    """Labels of a batch of wafers as training draws them."""
    data = train_step.training_data(task.examples("train"), 100)
    data = data._replace(arrays={"inputs": data.arrays["labels"] + 1, "labels": data.arrays["labels"]})
    config = CONFIG.override(**{"run.batch": batch})
    drawn = train_step.draw_batch(config, Toy({}), data, jax.random.key(0), 0)
    np.testing.assert_array_equal(drawn["inputs"], drawn["labels"] + 1)
    return np.asarray(drawn["labels"])


@pytest.mark.parametrize(("balance", "expected"), [(1.0, None), (0.0, np.full(9, 1 / 9))])
def test_classes_are_drawn_in_the_stated_mix(wafers, task, balance, expected):
    share = np.bincount(draw(dataclasses.replace(task, balance=balance), 20000), minlength=9) / 20000
    natural = np.bincount(wafers.label[task.split.train], minlength=9) / len(task.split.train)
    np.testing.assert_allclose(share, natural if expected is None else expected, atol=0.015)


def test_every_training_wafer_can_be_drawn_by_the_weight_of_its_class():
    labels = np.repeat(np.arange(9), np.arange(1, 10))
    by_class = np.bincount(labels, wafer_task.sampling_weights(labels, 0.5))
    np.testing.assert_allclose(by_class / by_class[0], np.sqrt(np.arange(1, 10)))


def test_a_class_that_is_left_out_is_neither_drawn_nor_validated(wafers, task):
    split = without(all_lots(wafers), wafers.label, 3)
    assert not (wafers.label[np.concatenate([split.train, split.validation])] == 3).any()
    assert not (draw(dataclasses.replace(task, split=split), 500) == 3).any()


def test_grids_are_made_of_the_wafers_that_are_used(wafers, grids, monkeypatch):
    monkeypatch.setattr(wafer_task, "RESIZED", 7)
    index = np.array([5, 900, 3, 3, 41, 77, 1199, 6, 8])
    some = WaferTask().grids_of(CONFIG, wafers, index)
    np.testing.assert_array_equal(some[index], grids[index])
    assert some.shape == grids.shape and not np.delete(some, index, axis=0).any()


def test_options_of_wafers_reach_the_grids_and_the_augmentation(wafers, grids):
    assert (WaferTask(representation="nearest").grids_of(CONFIG, wafers) != grids).any()

    def augmented(**options):
        batch = {"inputs": jnp.asarray(grids[:40]), "labels": jnp.zeros(40, jnp.int32)}
        return np.asarray(WaferTask(**options).augment(jax.random.key(0), batch, {})["inputs"])

    np.testing.assert_array_equal(augmented(untouched=1.0), grids[:40])
    base = augmented(untouched=0.0)
    assert (base != augmented(untouched=0.0, compose=False)).any()
    assert (base != augmented(untouched=0.0, noise=(0.5, 0.6))).any()


def test_a_model_of_tokens_is_refused(wafers):
    with pytest.raises(ValueError, match="takes tokens, not wafer maps"):
        WaferTask().grids_of(Config(), wafers)


def test_scores_and_answers_agree_with_the_forward_pass(wafers, task, grids):
    split = task.split
    params = jax.vmap(lambda seed: model.initialise(CONFIG.model, jax.random.key(seed)))(jnp.arange(2))
    predicted = wafer_task.predict(CONFIG, params, grids[split.validation], split.validation, steps=3)
    assert predicted.logits.shape == (2, 3, len(split.validation), len(CLASSES))
    deep = CONFIG.override(**{"recursion.N_sup": 3})
    output = forward(deep, wafer_task.take_seed(params, 1), jnp.asarray(grids[split.validation]))
    np.testing.assert_allclose(predicted.logits[1], output.logits, atol=1e-4)
    np.testing.assert_allclose(predicted.halt[1], output.q_halt, atol=1e-4)
    measured = scores(task, CONFIG, params, task.examples("validation"))
    right = predicted.logits[:, :2].argmax(-1) == wafers.label[split.validation]
    np.testing.assert_allclose(measured["accuracy"], right.mean(axis=2))
    assert measured["macro_f1"].shape == (2, 2)


@pytest.mark.parametrize("views", [2, 4])
def test_views_answer_with_the_mean_over_the_images_of_a_grid(grids, views):
    params = jax.tree.map(
        lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape),
        model.initialise(CONFIG.model, jax.random.key(0)),
    )
    one = np.moveaxis(grids[:6], 0, -1)  # (size, size, 2, B), so that numpy's own turns apply
    falling = one.swapaxes(0, 1)
    images = [one, np.rot90(falling, 2), np.rot90(one, 2), falling][:views]
    alone = [forward(CONFIG, params, jnp.asarray(np.moveaxis(image, -1, 0))) for image in images]
    several = CONFIG.override(**{"model.encoder.views": views})
    found = forward(several, params, jnp.asarray(grids[:6]))
    for name in ("logits", "q_halt"):
        expected = np.mean([getattr(reading, name) for reading in alone], axis=0)
        np.testing.assert_allclose(getattr(found, name), expected, atol=1e-5)
    assert np.abs(found.logits - alone[0].logits).max() > 1e-2
    # The views are a group: its images of a grid have the same answer.
    for image in images:
        same = forward(several, params, jnp.asarray(np.moveaxis(image, -1, 0)))
        np.testing.assert_allclose(same.logits, found.logits, atol=1e-5)


def test_without_layers_the_stem_and_the_readout_are_all_that_answers(grids):
    """The control that has no net to repeat: a CNN in the same engine."""
    options = {"model.layers": 0, "model.norm": "pre", "model.initial_state": "zero", "recursion.N_sup": 1}
    config = CONFIG.override(**options)
    params = model.initialise(config.model, jax.random.key(0))
    assert config.layer_applications == 0 and "net" not in params
    x = np.asarray(model.embed(config, params, jnp.asarray(grids[:6])))
    y = x / np.sqrt((x**2).mean(axis=-1, keepdims=True))
    expected = np.concatenate([y.mean(axis=1), y.max(axis=1)], axis=-1) @ params["readout"]["kernel"]
    found = forward(config, params, jnp.asarray(grids[:6])).logits[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.std(found, axis=0).min() > 1e-2


def test_the_prior_moves_the_logits_by_the_share_of_each_class(grids):
    params = jax.vmap(lambda key: model.initialise(CONFIG.model, key))(jax.random.split(jax.random.key(0), 2))
    labels = np.repeat(np.arange(9), [500, 100, 100, 100, 50, 50, 50, 50, 0])
    changed, weights = wafer_task.with_prior(CONFIG, params, labels, 0.5)
    index = np.arange(20)
    before = wafer_task.predict(CONFIG, params, grids[:20], index)
    after = wafer_task.predict(changed, weights, grids[:20], index)
    share = np.array([500, 100, 100, 100, 50, 50, 50, 50, 1]) / 1000  # a class without wafers counts as if it had one
    np.testing.assert_allclose(
        after.logits - before.logits, np.broadcast_to(np.log(share) / 2, after.logits.shape), atol=1e-5
    )
    np.testing.assert_allclose(after.halt, before.halt, atol=1e-6)


@pytest.mark.slow
def test_the_preset_for_a_gpu_trains(wafers):
    alone = {"run.seeds": (0,), "run.batch": 1, "run.steps": 6, "optim.warmup": 1}
    task, config = override(WaferTask(untouched=1.0), Config(), PRESETS["paper"] | alone)
    assert (config.model.grid, config.layer_applications) == ((26, 26), 3 * 6 * 2)
    scratch = wafers.take(np.flatnonzero(wafers.label == CLASSES.index("Scratch"))[:1])
    data = on_device({"inputs": task.grids_of(config, scratch), "labels": scratch.label.astype(np.int32)})
    state = train_step.init(config, data, 0)
    trained, metrics = jax.jit(lambda state: train_step.train_chunk(config, task, 6, state, data))(state)
    assert metrics["loss"][-1] < metrics["loss"][0] - 0.5  # one wafer is soon learned by heart
    for before, after in zip(jax.tree.leaves(state.params), jax.tree.leaves(trained.params), strict=True):
        assert (before != after).any()


def test_every_preset_is_a_config_that_wafers_can_train():
    for name, options in PRESETS.items():
        _, config = override(WaferTask(), Config(), options)
        assert config.model.classes == 9 and (config.layer_applications == 0) == (name in ("cnn", "plain"))


def test_training_from_the_command_line_and_again(tmp_path):
    place = ["--preset", "smoke", "--output", tmp_path, "--name", "run", "--extra-steps", 0]
    small = ["model.layers=1", "model.encoder.widths=[]", "run.steps=20", "recursion.N_sup=1",
             "recursion.curriculum_fraction=0"]  # fmt: skip
    options = [*place, "--folds", 1, "--options", *small]
    first = script("wafer_train.py", *options)
    assert first.returncode == 0, first.stderr
    assert "synthetic" in first.stdout and "lot-1 seed 1, validation: accuracy" in first.stdout
    directory = tmp_path / "run" / "lot-1"
    config, params, stored = load_weights(directory / "weights-1")
    assert stored["name"] == "wafer" and stored["representation"] == "area"
    tested, validated = (load_predicted(directory / f"{part}.npz") for part in ("test", "validation"))
    answers = validated.logits[1, config.recursion.N_sup - 1].argmax(axis=-1)
    wafers = synthetic_wafers(1200)
    right = answers == wafers.label[validated.index]
    assert f"accuracy {right.mean():.4f}" in first.stdout.splitlines()[-1]
    inputs = jnp.asarray(WaferTask().grids_of(config, wafers, tested.index)[tested.index])
    again = forward(config, params, inputs)
    np.testing.assert_allclose(tested.logits[1, : config.recursion.N_sup], again.logits, atol=1e-4)
    assert load_predicted(directory / "unknown-mixes.npz").logits.shape[2] == 500
    for name in ("wafer_evaluate.py", "wafer_errors.py"):
        assert script(name, "--preset", "smoke", "--run", tmp_path / "run").returncode == 0
    report = (tmp_path / "run/evaluation/report.md").read_text()
    assert "synthetic" in report.splitlines()[0] and "figures/steps.svg" not in report  # one step: nothing to draw
    assert script("wafer_train.py", *options).stdout == first.stdout
    for changed, message in (
        ([*options, "model.width=24"], "holds a run with other options (model.width)"),
        ([*options, "--leave-out", "Donut"], "holds a run with other options (left out)"),
        ([*options, "--views", 4], "holds a run with other options (views)"),
        ([*place, "--folds", 7, "--options", *small], "there is no fold 7; there are 0 to 3"),
    ):
        refused = script("wafer_train.py", *changed)
        assert refused.returncode == 1 and message in refused.stderr
