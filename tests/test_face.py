"""The project from Python: the answers are those of the commands and of the model itself."""

import shutil
from pathlib import Path

import jax
import numpy as np
from toys import Toy

import trm_jax
from trm_jax.core.config import Config
from trm_jax.core.network import model as network
from trm_jax.edge.classify import classify
from trm_jax.edge.package import open_model
from trm_jax.sudoku.puzzles import PAD
from trm_jax.sudoku.task import Sudoku
from trm_jax.training.checkpoint import load_weights, save_weights
from trm_jax.wafer.checkpoint import save_checkpoint, untrained
from trm_jax.wafer.maps import source
from trm_jax.wafer.maps.answers import ALWAYS, decide

MAPS = Path(__file__).resolve().parent.parent / "examples" / "maps"
SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints" / "wafer-edge"
TINY = {"model.width": 8, "model.layers": 1, "recursion.N_sup": 2, "recursion.T": 1, "recursion.n": 1}


def test_maps_of_a_folder_and_in_arrays_get_the_same_answers(tmp_path):
    classifier = untrained()
    save_checkpoint(tmp_path / "checkpoint", classifier, "", {})
    face = trm_jax.WaferClassifier(tmp_path / "checkpoint")
    answers = face.predict(MAPS)
    arrays = [np.loadtxt(path, np.uint8, delimiter=",") for path in sorted(MAPS.glob("*.csv"))]
    turned = face.predict(arrays[::-1])
    probabilities = np.stack(answers["probabilities"])
    np.testing.assert_allclose(np.stack(turned["probabilities"])[::-1], probabilities, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert answers["row"].tolist() == [0, 1, 2] and set(answers["decision"]) == {"review"}  # nothing is calibrated
    assert len(np.unique(probabilities.round(6), axis=0)) == 3


def test_the_shipped_classifier_decides_from_python_as_its_package_does_on_a_device(tmp_path):
    maps = shutil.copytree(MAPS, tmp_path / "maps")
    x, y = np.mgrid[-1:1:40j, -1:1:40j]
    fails = np.random.default_rng(0).random((40, 40)) < 0.45
    np.savetxt(maps / "random.csv", np.where(x**2 + y**2 <= 1.01, 1 + fails, 0), "%d", ",")
    answers = trm_jax.WaferClassifier(SHIPPED).predict(maps)
    model, wafers = open_model(SHIPPED / "onnx" / "model.onnx"), source.read(maps).wafers
    np.testing.assert_allclose(answers["unlike"], classify(model, wafers).unlike, atol=2e-3)
    decisions = decide(np.stack(answers["probabilities"]), model.metadata.thresholds)
    assert answers["decision"].tolist() == np.where(decisions.review, "review", "auto").tolist()
    assert answers["reason"].tolist() == [ALWAYS if always else "" for always in decisions.always]
    assert answers["prediction"][decisions.always].tolist() == ["Random"] and "auto" in set(answers["decision"])


def test_a_puzzle_gets_the_digits_of_the_model_step_by_step(tmp_path):
    config = Config().override(**TINY)
    params = network.initialise(config.model, jax.random.key(0))
    save_weights(tmp_path / "weights", params, config, Sudoku())
    puzzle = "1... ..3. .4.. ...2"
    digits = np.array([[int(cell) if cell != "." else 0 for cell in puzzle if cell != " "]])
    logits = np.asarray(network.forward(config, params, digits + PAD + 1).logits)
    expected = (logits.argmax(axis=-1)[:, 0] - PAD - 1).clip(0)
    assert trm_jax.solve(puzzle, tmp_path / "weights") == ["".join(map(str, step)) for step in expected.tolist()]


def test_training_gives_a_row_for_every_seed_and_keeps_the_best_weights(tmp_path):
    inputs = np.random.default_rng(0).integers(1, 6, (9, 16)).astype(np.int32)
    task = Toy({"inputs": inputs, "labels": inputs})
    options = TINY | {"run.steps": 4, "run.chunk": 2, "run.evaluate_every": 2, "run.checkpoint_every": 2}
    options |= {"run.seeds": (3, 5), "run.batch": 4, "optim.warmup": 1, "model.vocabulary": 7, "model.classes": 7}
    rows = trm_jax.train(task, tmp_path / "run", options)
    assert rows["seed"].tolist() == [3, 5] and ((rows["cells"] > 0) & (rows["cells"] <= 1)).all()
    assert load_weights(tmp_path / "run" / "weights-5").config.model.width == 8
