"""A published checkpoint in, a fine-tuned one out: `experiments/official.py` from end to end on the golden files."""

import importlib.util
import json
import pickle
import re
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.lib.npyio import NpzFile

from trm_jax.export.measures import latency
from trm_jax.official.data import OfficialFolder, read_part
from trm_jax.official.tensor_files import read_state_dict, write_state_dict
from trm_jax.official.weights import PREFIX
from trm_jax.training.checkpoint import load_weights

spec = importlib.util.spec_from_file_location("official_script", Path(__file__).parents[2] / "experiments/official.py")
assert spec is not None and spec.loader is not None
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def run(command: str, checkpoint: Path, **options) -> None:
    script.run(script.Arguments(command=command, checkpoint=checkpoint, **options))


def write_folder(folder: Path, inputs: np.ndarray, labels: np.ndarray, vocabulary: int, puzzles=None) -> Path:
    """A data set in the official layout, every example a puzzle and a group of its own, the same in both parts."""
    count = len(inputs)
    starts, identifiers = np.arange(count + 1), np.zeros(count, int) if puzzles is None else puzzles
    dataset = {"vocab_size": vocabulary, "seq_len": inputs.shape[1], "num_puzzle_identifiers": 1, "sets": ["all"],
               "ignore_label_id": None}  # fmt: skip
    columns = {
        "inputs": inputs.astype(np.uint8), "labels": labels.astype(np.uint8), "puzzle_indices": starts,
        "puzzle_identifiers": identifiers, "group_indices": starts,
    }  # fmt: skip
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
        (folder / part / "dataset.json").write_text(json.dumps(dataset))
        for name, values in columns.items():
            np.save(folder / part / f"all__{name}.npy", values)
    return folder


def nested(path: Path, key: str) -> None:
    """Put the weights of a .pt under a key, beside the rest of a training."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    rest = pickle.dumps({"optimizer": {"state": {0: {"lr": 0.1}}}, "epoch": 3}, protocol=2)[2:-1]
    weights = pickle.dumps(key, protocol=2)[2:-1] + members["archive/data.pkl"][2:-1]
    # The dict of the rest is on the stack; one more item goes into it.
    members["archive/data.pkl"] = b"\x80\x02" + rest + weights + b"s."
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


LAYOUTS = {
    "step_7": "",
    "plain.pt": "",
    "nested.pt": "model",
    "lightning.ckpt": "state_dict",
    "w.safetensors": "",
    "w.npz": "",
}


@pytest.fixture(scope="module")
def case(data_root, tmp_path_factory):
    """Every layout of the official attention model with its config and data, and what the official code answered."""
    golden = data_root / "golden" / "official_trm_attention.npz"
    if not golden.is_file():
        pytest.skip(f"no golden file {golden}")
    with np.load(golden) as file:
        assert isinstance(file, NpzFile)
        arrays = dict(file)
    folder = tmp_path_factory.mktemp("official")
    options = json.loads(str(arrays["config"]))
    state = {PREFIX + name[8:]: value for name, value in arrays.items() if name.startswith("weights/")}
    (folder / "all_config.yaml").write_text(
        json.dumps(
            {"arch": options | {"name": "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1"}, "lr": 1e-3}
        )
    )
    for name, key in LAYOUTS.items():
        torch = name.endswith((".pt", ".ckpt", "step_7"))
        written = folder / (f"{name}.pt" if torch else name)
        write_state_dict(written, state)
        if key:
            nested(written, key)
        written.rename(folder / name)
    # Labels that the model gets partly right, so that a score of zero proves nothing.
    labels = arrays["step2/logits"].argmax(axis=-1)
    labels[0, :3] = (labels[0, :3] + 1) % 6
    write_folder(folder / "data", arrays["inputs"], labels, 6)
    return folder, arrays, labels, state


def lines_of(output: str) -> list[list[float]]:
    """Numbers of the table of `evaluate`: step, exact, cells, halted, exact if stopped, mean steps."""
    rows = [line for line in output.splitlines() if re.match(r" +\d+ ", line)]
    return [[float(number) for number in re.findall(r"\d+\.?\d*", row)] for row in rows]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_scores_what_the_official_answers_score(case, capsys, layout):
    folder, arrays, labels, _ = case
    run("evaluate", folder / layout, data=folder / "data")
    output = capsys.readouterr()
    rows = lines_of(output.out)
    assert [row[0] for row in rows] == [1, 2, 3, 4]
    halted = np.zeros(4, bool)
    stopped, steps = np.full(4, np.nan), np.zeros(4)
    for k, row in enumerate(rows, start=1):
        right = arrays[f"step{k}/logits"].argmax(axis=-1) == labels
        exact = right.all(axis=1)
        stops = ~halted & ((arrays[f"step{k}/q_halt"] > 0) | (k == 4))
        halted |= arrays[f"step{k}/q_halt"] > 0
        stopped[stops], steps[stops] = exact[stops], k
        assert row[1:4] == pytest.approx([100 * exact.mean(), 100 * right.mean(), 100 * halted.mean()], abs=0.06), k
    assert rows[-1][4:] == pytest.approx([100 * stopped.mean(), steps.mean()], abs=0.06)
    assert 0 < max(row[1] for row in rows) < 100
    assert "No published number belongs to this model." in output.out
    assert "4 of 4 test inputs are training inputs too" in output.err or layout != next(iter(LAYOUTS))
    assert ("left aside" in output.err) == bool(LAYOUTS[layout])


def test_in_and_out_again_is_bitwise_and_more_steps_can_be_asked_for(case, tmp_path, capsys):
    folder, _, _, state = case
    run("import", folder / "step_7", data=folder / "data", output=tmp_path / "ours")
    run("export", tmp_path / "ours", output=tmp_path / "back.pt")
    back = read_state_dict(tmp_path / "back.pt")
    assert back.keys() == state.keys() and all(np.array_equal(back[name], state[name]) for name in state)
    capsys.readouterr()
    run("evaluate", tmp_path / "back.pt", config=tmp_path / "back.pt.json", data=folder / "data", steps=9, limit=2,
        rollouts=3, noise=0.0)  # fmt: skip
    output = capsys.readouterr().out
    table, rollouts = output.split("Rollouts with noise of size 0, exact by how the answer is chosen:\n")
    trained = next(row[1] for row in lines_of(table) if row[0] == 4)
    assert lines_of(rollouts) == [[count, trained, trained] for count in (1, 2, 3)]  # without noise all are the answer
    assert [row[0] for row in lines_of(table)] == [1, 2, 3, 4, 8, 9] and "% of 2 puzzles are exact" in output


def shallow(folder: Path, target: Path) -> Path:
    """A config of fewer evaluations, which compiles faster."""
    options = json.loads((folder / "all_config.yaml").read_text())
    options["arch"] |= {"H_cycles": 1, "L_cycles": 1, "halt_max_steps": 2}
    (target / "shallow.yaml").write_text(json.dumps(options))
    return target / "shallow.yaml"


def test_a_checkpoint_is_fine_tuned_and_goes_back(case, tmp_path, capsys):
    folder, _, _, state = case
    small = (
        "run.steps=2",
        "run.chunk=1",
        "run.batch=4",
        "run.data_parallel=1",
        "run.evaluate_every=2",
        "run.checkpoint_every=2",
        "optim.warmup=0",
    )
    config = shallow(folder, tmp_path)
    run("finetune", folder / "step_7", config=config, data=folder / "data", output=tmp_path / "run", options=small)
    assert "Best exact on validation:" in capsys.readouterr().out
    config, params, task = load_weights(tmp_path / "run" / "weights-0")
    assert task["name"] == OfficialFolder.name and config.optim.learning_rate == 1e-3
    assert (config.optim.algorithm, config.loss.supervision, config.run.init) == (
        "adam_atan2",
        "carried",
        str(folder / "step_7"),
    )
    assert np.array_equal(params["initial_y"], state[f"{PREFIX}inner.H_init"])
    run("export", tmp_path / "run" / "weights-0", output=tmp_path / "tuned.pt")
    tuned = read_state_dict(tmp_path / "tuned.pt")
    assert tuned.keys() == state.keys()
    # Two updates of Adam-atan2 at this rate move a weight by about twice the rate, and the average by less.
    for name, value in state.items():
        apart = np.abs(tuned[name] - value).max()
        assert apart == 0 if name.endswith("_init") else 0 < apart < 6e-3, name


@pytest.mark.slow
def test_a_checkpoint_becomes_a_package_that_answers_as_it_did(case, tmp_path, monkeypatch, capsys):
    pytest.importorskip("jax2onnx", reason="ONNX files need an older jax: pip install -e .[export]")
    folder, arrays, *_ = case
    speed = latency.Speed(5.0, 2.0, 3.0, 4.0, 2.5, float("nan"), 60.0)
    monkeypatch.setattr(latency, "measure_speeds", lambda jobs, _: dict.fromkeys(jobs, speed))
    run("onnx", folder / "step_7", config=shallow(folder, tmp_path), data=folder / "data", output=tmp_path / "package",
        precisions=(), repeats=1, calibration=2, samples=3)  # fmt: skip
    report = json.loads((tmp_path / "package" / "report.json").read_text())
    assert report["agreements"]["model.onnx"]["largest"] < 1e-4 and report["agreements"]["model.onnx"]["same"] == 1
    assert report["metadata"]["preprocessing"] == {"kind": "tokens", "cells": arrays["inputs"].shape[1]}
    assert "test part of its data" in report["source"]


def test_a_bfloat16_model_gives_its_initial_states_back_in_bfloat16(case, tmp_path):
    """The official loader assigns tensors as they come: float32 states would make its model compute in float32."""
    folder, *_ = case
    options = json.loads((folder / "all_config.yaml").read_text())
    options["arch"]["forward_dtype"] = "bfloat16"
    (tmp_path / "half.yaml").write_text(json.dumps(options))
    run("export", folder / "step_7", config=tmp_path / "half.yaml", output=tmp_path / "half.pt")
    with zipfile.ZipFile(tmp_path / "half.pt") as archive:
        program = archive.read("archive/data.pkl")
    assert program.count(b"BFloat16Storage") == 2
    for name in ("H_init", "L_init"):
        after = program[program.index(name.encode()) :]
        assert after.index(b"BFloat16Storage") < after.index(b"tQ")


def test_puzzles_and_tokens_that_the_model_does_not_have_are_refused(case, tmp_path):
    folder, arrays, labels, _ = case
    inputs = arrays["inputs"].copy()
    inputs[1, 2] = 6
    too_many = write_folder(tmp_path / "tokens", inputs, labels, 7)
    with pytest.raises(
        ValueError, match=r"inputs has values from \d to 6, the model takes 0 to 5 \(model.vocabulary\)"
    ):
        run("evaluate", folder / "step_7", data=too_many)
    with pytest.raises(
        ValueError, match=r"all__puzzle_identifiers.npy has values from 0 to 3; dataset.json allows 0 to 0"
    ):
        write_folder(tmp_path / "puzzles", arrays["inputs"], labels, 6, np.arange(4))
        read_part(str(tmp_path / "puzzles"), "train")
    for command, message in {
        "finetune": "needs --data",
        "evaluate": "needs --data",
        "export": "needs --output",
    }.items():
        with pytest.raises(ValueError, match=message):
            run(command, folder / "step_7", **({"data": folder / "data"} if command == "export" else {}))


def test_the_official_folder_is_read_as_its_builder_wrote_it(data_root):
    folder = data_root / "trm_cases" / "official_folder"
    if not folder.is_dir():
        pytest.skip(f"no cases in {folder}")
    task = OfficialFolder(folder=str(folder))
    parts = {part: task.examples(part).arrays for part in ("train", "validation", "test")}
    assert [len(arrays["labels"]) for arrays in parts.values()] == [18, 2, 10]
    assert np.array_equal(parts["test"]["inputs"], np.load(folder / "test" / "all__inputs.npy"))
    assert np.array_equal(parts["validation"]["labels"], np.load(folder / "train" / "all__labels.npy")[18:])
    assert task.shape()["model.grid"] == (1, 81) and task.shape()["model.vocabulary"] == 11
    assert not parts["train"]["puzzle"].any() and parts["train"]["puzzle"].shape == (18,)
    assert "18 train, 2 validate (whole groups of train/), 10 are tested" in task.protocol()[0]


def test_groups_stay_together_and_are_drawn_alike(tmp_path):
    """Three groups of one, two and three puzzles, a puzzle of two examples among them."""
    inputs = np.arange(7)[:, None] * np.ones(4, int)
    folder = write_folder(tmp_path / "data", inputs, inputs, 8)
    for part in ("train", "test"):
        np.save(folder / part / "all__puzzle_indices.npy", np.array([0, 1, 2, 4, 5, 6, 7]))
        np.save(folder / part / "all__puzzle_identifiers.npy", np.zeros(6, int))
        np.save(folder / part / "all__group_indices.npy", np.array([0, 1, 3, 6]))
    read = read_part(str(folder), "train")
    assert read.group.tolist() == [0, 1, 1, 1, 2, 2, 2]
    assert read.weight.tolist() == [1, 1 / 2, 1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3]
    train, held = (OfficialFolder(folder=str(folder)).examples(part) for part in ("train", "validation"))
    assert train.weights.tolist() == [[1, 1 / 2, 1 / 2, 1 / 2]] and held.arrays["inputs"][:, 0].tolist() == [4, 5, 6]
    jax.tree.map(lambda leaf: leaf.shape, train.arrays)
