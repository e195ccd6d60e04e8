"""Nets that teach: their mean answers, without their shift, reach the student's training wafers and no others."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.special import softmax
from scripts import script

from trm_jax.core import train_step
from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.training.checkpoint import save_weights
from trm_jax.wafer.folds import taught_by
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.splits import folds
from trm_jax.wafer.task import WaferTask, predict, take_seed, with_prior

WAFERS = synthetic_wafers(1200)
SPLIT = folds(WAFERS)[2]
CONFIG = Config().override(
    **{"model.classes": 9, "model.encoder": {"patch": 4, "image": 12, "widths": (4,)}, "model.grid": (3, 3),
       "model.width": 8, "model.layers": 1, "model.readout": "mean_max", "model.halt_token": "mean",
       "recursion.N_sup": 1, "recursion.T": 1, "recursion.n": 1, "run.seeds": (0, 1), "run.batch": 8}
)  # fmt: skip
TASK = replace(WaferTask(), labels=WAFERS.label, split=SPLIT, grids=WaferTask().grids_of(CONFIG, WAFERS))


def weights(scale: float):
    """Two nets that disagree, with a leading axis S."""
    nets = jax.vmap(lambda key: model.initialise(CONFIG.model, key))(jax.random.split(jax.random.key(7)))
    return jax.tree.map(lambda leaf: scale * leaf, nets)


def saved_run(folder: Path, params, prior: float) -> Path:
    """What `wafer_train.py` keeps of a run with two seeds."""
    (folder / SPLIT.name).mkdir(parents=True)
    about = {"source": WAFERS.source, "wafers": len(WAFERS), "prior": prior}
    (folder / "wafers.json").write_text(json.dumps(about))
    config, shifted = with_prior(CONFIG, params, WAFERS.label[SPLIT.train], prior)
    for seed in (0, 1):
        save_weights(folder / SPLIT.name / f"weights-{seed}", take_seed(shifted, seed), config, TASK)
    return folder


def test_targets_are_the_mean_answers_of_all_nets_without_their_shift(tmp_path):
    runs = [saved_run(tmp_path / "a", weights(3), 0.25), saved_run(tmp_path / "b", weights(1), 2.0)]
    targets = taught_by(runs, WAFERS, SPLIT)
    said = [predict(CONFIG, weights(scale), TASK.grids[SPLIT.train], SPLIT.train).logits[:, 0] for scale in (3, 1)]
    expected = softmax(np.concatenate(said), axis=-1).mean(axis=0)
    np.testing.assert_allclose(targets[SPLIT.train], expected, atol=1e-5)
    assert expected.std(axis=0).max() > 1e-3  # the wafers differ
    others = np.setdiff1d(np.arange(len(WAFERS)), SPLIT.train)
    assert targets.shape == (len(WAFERS), 9) and not targets[others].any()


def test_a_student_learns_what_its_teacher_says_and_not_the_label():
    """With the whole weight on the teacher a net comes to say what it says, of wafers whose labels are others."""
    targets = np.zeros((len(WAFERS), 9), np.float32)
    targets[:, 4], targets[:, 7] = 0.8, 0.2
    config = CONFIG.override(**{"loss.distillation": 1.0, "loss.halt_weight": 0.0, "run.seeds": (0,)})
    taught = replace(TASK, soft_targets=targets)
    assert "soft_targets" not in taught.examples("validation").arrays | TASK.examples("train").arrays
    data = train_step.training_data(taught.examples("train"), 200)
    state = jax.jit(lambda: train_step.init(config, data, 0))()
    trained, _ = jax.jit(lambda state: train_step.train_chunk(config, taught, 200, state, data))(state)
    params = jax.tree.map(lambda leaf: leaf[None], trained.params)
    answers = softmax(predict(config, params, TASK.grids[SPLIT.test], SPLIT.test).logits[0, 0], axis=-1)
    np.testing.assert_allclose(answers.mean(axis=0), targets[0], atol=0.05)


def test_runs_that_cannot_teach_are_refused(tmp_path):
    run = saved_run(tmp_path / "a", weights(1), 0.25)
    with pytest.raises(ValueError, match=r"was trained on .*, not on synthetic.*: it cannot teach"):
        taught_by([run], replace(WAFERS, source="synthetic others"), SPLIT)
    with pytest.raises(ValueError, match=r"lot-0 has no weights: train it on this split before it teaches"):
        taught_by([run], WAFERS, folds(WAFERS)[0])
    missing = script("wafer_train.py", "--preset", "smoke", "--output", tmp_path, "--teachers", run)
    assert missing.returncode == 1 and "loss.distillation=0.5 (or another weight) need each other" in missing.stderr
    options = ("--options", "loss.distillation=0.5")
    absent = script("wafer_train.py", "--preset", "smoke", "--output", tmp_path, "--teachers", tmp_path / "b", *options)
    assert absent.returncode == 1 and str(tmp_path / "b") in absent.stderr and "Traceback" not in absent.stderr
    assert not (tmp_path / "wafer-smoke").exists()  # the same command with other teachers may follow
