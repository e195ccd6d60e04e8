"""Checkpoints that ship: what is written, what is refused, and answers to whole files of maps."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import run_options, task_options
from trm_jax.support.checksums import write_sums
from trm_jax.training.checkpoint import save_weights
from trm_jax.wafer import classify
from trm_jax.wafer.checkpoint import Calibration, Classifier, joined, load_checkpoint, save_checkpoint
from trm_jax.wafer.evaluation.results import FULL_MIX
from trm_jax.wafer.evaluation.stored import Predicted, recipe, save_predicted
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.splits import all_lots, folds
from trm_jax.wafer.task import WaferTask

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))
import wafer_predict
import wafer_ship

CONFIG = Config().override(
    **{"model.classes": 9, "model.encoder": {"patch": 4, "image": 12, "widths": (4,)}, "model.grid": (3, 3),
       "model.width": 8, "model.layers": 1, "model.readout": "mean_max", "model.halt_token": "mean",
       "recursion.N_sup": 2, "recursion.T": 1, "recursion.n": 1, "run.seeds": (3, 5)}
)  # fmt: skip
TASK = WaferTask(representation="max", untouched=0.5)


@pytest.fixture(scope="module")
def classifier():
    params = model.initialise(CONFIG.model, jax.random.key(0))
    bias = params["halting"]["bias"] + 5.0  # a halting probability of a half
    kernel = jax.random.normal(jax.random.key(1), params["halting"]["kernel"].shape)
    return Classifier(CONFIG, params | {"halting": {"kernel": kernel, "bias": bias}}, TASK, Calibration(2.0, 0.3))


def test_a_checkpoint_is_read_as_it_was_written(classifier, tmp_path):
    save_checkpoint(tmp_path / "edge", classifier, "# card\n", {"window": 250})
    again = load_checkpoint(tmp_path / "edge")
    assert again.config == classifier.config and again.calibration == classifier.calibration and again.task == TASK
    chex.assert_trees_all_equal(again.params, classifier.params)
    assert (tmp_path / "edge" / "model_card.md").read_text() == "# card\n"
    with pytest.raises(FileExistsError, match="choose another directory"):
        save_checkpoint(tmp_path / "edge", classifier, "", {})
    save_checkpoint(tmp_path / "edge", classifier, "# another\n", {"window": 250}, replace=True)
    assert (tmp_path / "edge" / "model_card.md").read_text() == "# another\n"
    (tmp_path / "edge" / "calibration.json").write_text('{"temperature": 0}')
    with pytest.raises(ValueError, match=r"calibration\.json is not what was written"):
        load_checkpoint(tmp_path / "edge")
    write_sums(tmp_path / "edge")
    with pytest.raises(ValueError, match="temperature must be positive"):
        load_checkpoint(tmp_path / "edge")
    save_weights(tmp_path / "bare", classifier.params, CONFIG, TASK)
    assert load_checkpoint(tmp_path / "bare").calibration == Calibration(1.0, 1.0)  # nothing is promised: all to review


def test_a_checkpoint_that_can_not_be_replaced_stays(classifier, tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "edge", classifier, "# card\n", {})
    rename = Path.rename

    def refused(path, target):
        if path.suffix == ".tmp":
            raise OSError("no space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(tmp_path / "edge", classifier, "# another\n", {}, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["edge"]
    assert (tmp_path / "edge" / "model_card.md").read_text() == "# card\n"


def test_answers_are_those_of_the_forward_pass_at_the_step_of_each_wafer(classifier, monkeypatch):
    monkeypatch.setattr(classify, "CHUNK", 32)
    wafers = synthetic_wafers(70)
    grids = jnp.asarray(TASK.grids_of(CONFIG, wafers))
    reading = jax.jit(model.forward, static_argnums=0)(CONFIG, classifier.params, grids)
    expected = np.asarray(jax.nn.softmax(reading.logits / 2.0))
    full = classify.classify(classifier, wafers, batch=16)
    np.testing.assert_allclose(full.probabilities, expected[1], atol=1e-5)
    assert (full.steps == 2).all() and full.probabilities.shape == (70, 9)
    halt = np.asarray(jax.nn.sigmoid(reading.q_halt[0]))
    threshold = float(np.sort(halt)[34:36].mean())
    early = classify.classify(classifier, wafers, threshold=threshold, batch=16)
    stops = np.where(halt > threshold, 1, 2)
    assert set(stops) == {1, 2}
    np.testing.assert_array_equal(early.steps, stops)
    np.testing.assert_allclose(early.probabilities, expected[stops - 1, np.arange(70)], atol=1e-5)
    stopped = classify.inference_with_halting(classifier, wafers, threshold, batch=16)
    np.testing.assert_array_equal(stopped.prediction, early.probabilities.argmax(axis=1))
    np.testing.assert_array_equal(stopped.confidence, early.probabilities.max(axis=1))
    np.testing.assert_array_equal(stopped.steps, stops)
    np.testing.assert_array_equal(np.isnan(stopped.halt), np.stack([stops < 1, stops < 2], axis=1))
    np.testing.assert_allclose(stopped.halt[:, 0], halt, atol=1e-5)
    assert stopped.seconds > 0 and np.isnan(full.halt).all()
    tokens = dataclasses.replace(Config(), model=Config().model)
    with pytest.raises(ValueError, match="takes tokens"):
        classify.classify(Classifier(tokens, None, TASK, Calibration()), wafers)


@pytest.fixture
def run(monkeypatch):
    """A script with these arguments."""

    def command(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script.__file__, *map(str, arguments)])
        script.main(script.Arguments, script.run, "")

    return command


def trained_run(tmp_path, wafers):
    """A run as wafer_train leaves it, of nets that were told the answers: seed 5 of more of them; and its recipe."""
    split = all_lots(wafers)
    directory = tmp_path / "run" / "all-lots"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(run_options(TASK, CONFIG)))
    options = {"left out": "", "views": 1, "prior": 0.0}
    (tmp_path / "run" / "wafers.json").write_text(json.dumps(options))
    truth = np.eye(9, dtype=np.float32)[wafers.label[split.validation]]
    noise = np.random.default_rng(0).normal(size=(2, 2, *truth.shape)).astype(np.float32)
    logits = truth * np.array([1.0, 4.0], np.float32)[:, None, None, None] + noise
    save_predicted(directory / "validation.npz", Predicted(split.validation, logits, logits[..., 0]))
    for split in folds(dataclasses.replace(wafers, fold=np.full_like(wafers.fold, -1))):  # as the file, which has none
        place = tmp_path / "run" / split.name
        place.mkdir()
        (place / "config.json").write_text((directory / "config.json").read_text())
        for part in ("validation", "test"):
            index = getattr(split, part)
            truth = np.eye(9, dtype=np.float32)[wafers.label[index]]
            noise = np.random.default_rng(1).normal(size=(2, 2, *truth.shape)).astype(np.float32)
            save_predicted(place / f"{part}.npz", Predicted(index, 2 * truth + noise, noise[..., 0]))
    for seed in CONFIG.run.seeds:
        params = model.initialise(CONFIG.model, jax.random.key(seed))
        save_weights(directory / f"weights-{seed}", params, CONFIG, TASK)
    (directory / "metrics.jsonl").write_text('{"step": 20, "loss": [1, 1], "best_step": [10, 20]}\n{"step": 40, "lo')
    options["task"] = json.loads(json.dumps(task_options(TASK)))
    return recipe(CONFIG, options), recipe(CONFIG.override(**{"model.width": 16}), options)


def write_wafers(path, wafers):
    """In the layout of the labelled wafers."""
    arrays = {name: getattr(wafers, name) for name in ("height", "width", "label", "row", "clean")}
    blocks = wafers.group.astype(np.int16)
    np.savez(path, flat=wafers.flat, lot_block=blocks, classes=np.array(CLASSES), **arrays)


def write_evaluation(directory, trained):
    numbers = [("score", "all", "accuracy", 0.9), ("score", "all", "recall_Loc", 0.25),
               ("automatic decisions by class", "Loc", "errors", 0.125),
               (FULL_MIX, "all", "accuracy", 0.97), (FULL_MIX, "all", "macro_f1", 0.875)]  # fmt: skip
    names = ("part", "name", "score", "value", "low", "high")
    evaluated = {"recipe": trained, "wafers": 900, "splits": ["lot-0"], "seeds": 2,
                 "provenance": {"commit": "abc"}, "errors together": 5.16,
                 "rates": {"alpha": 0.02, "delta": 0.1, "sets": 0.05},
                 "numbers": [dict(zip(names, (*row, row[3], row[3]), strict=True)) for row in numbers]}  # fmt: skip
    (directory / "results.json").write_text(json.dumps(evaluated))


@pytest.mark.filterwarnings("ignore:.*no wafer of class")
def test_the_best_seed_ships_with_its_card(tmp_path, monkeypatch, run, capsys):
    monkeypatch.delenv("TRM_DATA", raising=False)
    wafers = synthetic_wafers(900)
    write_wafers(tmp_path / "wafers.npz", wafers)
    trained, other = trained_run(tmp_path, wafers)
    evaluation, results = tmp_path / "evaluation", tmp_path / "evaluation" / "results.json"
    evaluation.mkdir()
    ship = ("--run", tmp_path / "run", "--output", tmp_path / "edge", "--data", tmp_path / "wafers.npz")
    with pytest.raises(SystemExit, match=r"^error: give --folds"):
        run(wafer_ship, *ship)
    ship = (*ship, "--evaluation", evaluation, "--folds", tmp_path / "run")
    for content, reason in (
        (None, "is not a folder of wafer_evaluate"),
        ('{"recipe": ', "results.json is not JSON"),
        (json.dumps({"recipe": other}), "is of another recipe than --run"),
    ):
        if content is not None:
            results.write_text(content)
        with pytest.raises(SystemExit, match=f"^error: .*{reason}"):
            run(wafer_ship, *ship)
    with pytest.raises(SystemExit, match="judged together must have seeds of their own, got"):
        run(wafer_ship, *ship, tmp_path / "run")  # the same run twice
    assert not (tmp_path / "edge").exists()
    write_evaluation(evaluation, trained)
    run(wafer_ship, *ship)
    printed = capsys.readouterr().out
    assert "seed 5" in printed
    card = (tmp_path / "edge" / "model_card.md").read_text()
    assert "No notice came with wafers.npz" in card
    assert "| Accuracy | 0.900 (0.900 to 0.900) |" in card
    assert "| Loc |  | 0.250 (0.250 to 0.250) |  |  | 0.125 (0.125 to 0.125) |" in card
    assert "for at most 2 % wrong; not of the thresholds that ship" in card
    assert "would be\n0.970 and macro-F1 0.875;" in card
    assert "are of seed 5, update 20 of" in card and "{{" not in card and "Not cross-validated" not in card
    options = json.loads((tmp_path / "edge" / "calibration.json").read_text())
    assert (
        card.startswith("# edge: which")
        and "were fitted on wafers that\nchose nothing" in card
        and "of a fold the others decide" in printed
    )
    assert 0.05 < options["temperature"] < 20 and 0 < options["review_threshold"] <= 1
    compared = json.loads((tmp_path / "edge" / "reference.json").read_text())
    assert compared.get("window", 0) >= 250 or "no monitoring reference" in printed
    with pytest.raises(SystemExit, match="edge exists; choose another directory"):
        run(wafer_ship, *ship)
    # Too few lots validate here to guarantee anything.
    assert "No threshold could be guaranteed to keep errors at or below 1.5 %" in card
    monkeypatch.setattr("trm_jax.wafer.evaluation.trust.cross_fit.guaranteed_threshold", lambda *_: 0.875)
    run(wafer_ship, *ship, "--output", tmp_path / "sure")
    card = (tmp_path / "sure" / "model_card.md").read_text()
    assert (
        "review (confidence below\n0.875, or the threshold of its class" in card
        and "with probability 0.9 over the lots" in card
    )
    limits = json.loads((tmp_path / "sure" / "calibration.json").read_text())["class_thresholds"]
    assert len(limits) == 9 and limits[CLASSES.index("Random")] == 1 and min(limits) >= 0.875
    assert "under 2 % wrong" in card and "Random" in card.split("Always\nreviewed: ")[1].split(".")[0]
    assert "the errors of larger blocks vary\n5.2 times as much" in card


@pytest.mark.filterwarnings("ignore:.*no wafer of class")
def test_all_seeds_together_ship_as_one_that_answers_with_their_mean(tmp_path, monkeypatch, run):
    monkeypatch.delenv("TRM_DATA", raising=False)
    wafers = synthetic_wafers(900)
    write_wafers(tmp_path / "wafers.npz", wafers)
    alone, _ = trained_run(tmp_path, wafers)
    output = tmp_path / "both"
    ship = ("--run", tmp_path / "run", "--together", "--output", output, "--data", tmp_path / "wafers.npz")
    (tmp_path / "evaluation").mkdir()
    write_evaluation(tmp_path / "evaluation", alone)
    evaluated = ("--folds", tmp_path / "run", "--evaluation", tmp_path / "evaluation")
    with pytest.raises(SystemExit, match="nets that ship together are evaluated with --together"):
        run(wafer_ship, *ship, *evaluated)
    older = {name: value for name, value in alone["model"].items() if name != "matmul_precision"}  # not yet an option
    write_evaluation(tmp_path / "evaluation", alone | {"model": older | {"members": 2}})
    run(wafer_ship, *ship, *evaluated)
    card = (output / "model_card.md").read_text()
    assert "900 test wafers in 1 splits, 2 nets together in each, with" in card
    assert (
        "# both: which" in card
        and "The mean of the probabilities of 2 nets that answer together, each a Tiny Recursive Model of" in card
        and "are of seeds 3, 5. On" in card
    )
    both, few = load_checkpoint(output), wafers.take(np.arange(20))
    assert both.config.model.members == 2 and both.calibration.temperature != 1
    nets = [load_checkpoint(tmp_path / "run" / "all-lots" / f"weights-{seed}") for seed in (3, 5)]
    chex.assert_trees_all_equal(both.params, {"member_0": nets[0].params, "member_1": nets[1].params})
    assert all(net.calibration.temperature == 1 for net in nets)
    mean = np.mean([classify.classify(net, few).probabilities for net in nets], axis=0)
    expected = mean ** (1 / both.calibration.temperature)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classify.classify(both, few).probabilities, expected, atol=1e-5)
    for other in ({"model.norm": "pre"}, {"recursion.N_sup": 3}):
        with pytest.raises(ValueError, match="differ in model, recursion or task"):
            joined([nets[0], nets[1]._replace(config=CONFIG.override(**other))])
    for few in (nets[:1], [both, both]):
        with pytest.raises(ValueError, match="nets of one member each cannot answer together"):
            joined(few)
    with pytest.raises(SystemExit, match=r"the runs must have seeds of their own, got \[3, 5, 3, 5\]"):
        run(
            wafer_ship, *ship[:-3], tmp_path / "twice", *ship[-2:], "--folds", tmp_path / "run", "--more-seeds", ship[1]
        )


def test_a_checkpoint_classifies_a_folder(classifier, tmp_path, run):
    save_checkpoint(tmp_path / "edge", classifier, "", {})
    wafers, maps = synthetic_wafers(9), tmp_path / "folder"
    (maps / "LOT4711").mkdir(parents=True)  # the name of a folder need not be a class: nothing is learnt from it
    for index, name in enumerate(("0.csv", "1.csv", "LOT4711/2.csv")):
        np.savetxt(maps / name, wafers.map(index), fmt="%d", delimiter=",")
    (maps / "9.csv").write_text("0,1\n1,7\n")
    predict = ("--checkpoint", tmp_path / "edge", "--input", maps, "--batch", 16, "--output")
    with pytest.raises(SystemExit) as stop:
        run(wafer_predict, *predict, tmp_path / "a.csv", "--page", tmp_path / "a.html")
    assert stop.value.code == 3 and "has a cell '7' in line 2" in (tmp_path / "a.html").read_text()
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == ["0.csv", "1.csv", "9.csv", "LOT4711/2.csv"]
    assert [row["decision"] == "rejected" for row in rows] == [False, False, True, False]
    shares = classify.classify(classifier, wafers.take(np.arange(3)), batch=16).probabilities
    shown = [[float(row[f"p_{name}"]) for name in CLASSES] for row in rows if row["decision"] != "rejected"]
    np.testing.assert_allclose(shown, shares, atol=1e-5)
    for arguments, reason in (
        ((*predict, maps / "no" / "a.csv"), "--output: there is no folder"),
        (("--checkpoint", tmp_path / "no", "--input", maps), "no checkpoint directory"),
        (
            (*predict, tmp_path / "b.csv", "--page", tmp_path / "a.html"),
            "--page: .* exists; give another name, or --force",
        ),
        (("--threshold", 1.5), "--threshold is a probability, got 1.5"),
        ((), "give --checkpoint and --input, or --preset smoke"),
    ):
        with pytest.raises(SystemExit, match=f"^error: {reason}"):
            run(wafer_predict, *arguments)
