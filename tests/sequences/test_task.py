"""A user's own file of sequences: read with clear errors, split without leaks, and learned by heart."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trm_jax.core.config import Config
from trm_jax.core.task import IGNORE, Examples, TokenTask, override
from trm_jax.sequences.csv_files import read_pairs, symbols
from trm_jax.sequences.task import PAD, Sequences, encoded, parts
from trm_jax.training.checkpoint import load_weights
from trm_jax.training.loop import fit

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))
import my_sequences


def write(path: Path, inputs, targets) -> str:
    path.write_text(pd.DataFrame({"input": inputs, "target": targets}).to_csv(index=False))
    return str(path)


@dataclass(frozen=True)
class Reversed(TokenTask):
    """Digits and the same digits reversed: a whole task, as its user writes it."""

    length: int = 4

    def examples(self, part: str) -> Examples:
        digits = np.random.default_rng(0).permutation(3**self.length)[:, None] // 3 ** np.arange(self.length) % 3
        held_out = digits[::8] if part != "train" else np.delete(digits, np.s_[::8], axis=0)
        return Examples({"inputs": held_out, "labels": held_out[:, ::-1].copy()})


def test_a_task_of_ten_lines_trains_to_perfection_on_inputs_it_never_saw(tmp_path):
    options = {
        "model.width": 16, "model.layers": 1, "model.mixer": "attention", "model.positions": "learned",
        "recursion.N_sup": 2, "recursion.T": 1, "recursion.n": 1, "optim.learning_rate": 1e-2, "optim.warmup": 10,
        "optim.weight_decay": 0.1, "run.steps": 150, "run.seeds": (0, 1), "run.batch": 32,
    }  # fmt: skip
    task, config = override(Reversed(), Config(), options)
    assert (config.model.vocabulary, config.model.classes, config.model.grid) == (3, 3, (1, 4))
    training = fit(task, config, tmp_path / "run")
    np.testing.assert_array_equal(training.best.score, 1.0)


def test_words_and_characters_are_symbols():
    assert symbols("red blue  red") == ["red", "blue", "red"]
    assert symbols("3142") == ["3", "1", "4", "2"] and symbols(" word ") == list("word")


def test_tokens_labels_and_padding(tmp_path):
    inputs = ["abc", "ba", "cab", "b", "cc", "abcab", "bb", "ac", "ca", "aa"]
    task = Sequences(write(tmp_path / "pairs.csv", inputs, [text.upper() for text in inputs]))
    arrays = encoded(task)
    assert sum(len(part["inputs"]) for part in arrays.values()) == 10
    for part in arrays.values():
        np.testing.assert_array_equal(part["inputs"] == PAD, part["labels"] == IGNORE)
        shown = part["labels"] != IGNORE
        np.testing.assert_array_equal(part["inputs"][shown], part["labels"][shown] + 1)
    assert task.shape() == {
        "model.vocabulary": 4, "model.classes": 3, "model.grid": (1, 5), "model.readout": "cell"
    }  # fmt: skip


def test_a_target_of_one_symbol_is_the_class_of_the_sequence(tmp_path):
    inputs = [f"{a}{b}" for a in "0123" for b in "0123"]
    targets = ["even" if int(text) % 2 == 0 else "odd" for text in inputs]
    words = [" ".join(text) for text in inputs]
    task = Sequences(write(tmp_path / "pairs.csv", words, ["e" if word == "even" else "o" for word in targets]))
    assert task.shape()["model.readout"] == "pooled" and task.shape()["model.classes"] == 2
    assert task.examples("train").arrays["labels"].ndim == 1


def test_equal_inputs_are_on_one_side_of_a_split_and_the_split_is_the_same_every_time(tmp_path):
    inputs = [f"{number % 40:02d}" for number in range(120)]
    path = write(tmp_path / "pairs.csv", inputs, inputs)
    divided = parts(Sequences(path))
    sets = [{" ".join(sequence) for sequence in pairs.inputs} for pairs in divided.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 40
    assert {part: len(pairs.inputs) for part, pairs in divided.items()} == {"validation": 12, "test": 12, "train": 96}
    parts.cache_clear()
    assert parts(Sequences(path)) == divided and parts(Sequences(path, seed=1)) != divided


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,answer\n1,2\n", r"has no column input and no column target; its header is \['question', 'answer'\]"),
        ("input,target\n", "must have 1 to 5,000,000 rows"),
        ("input,target\n12,34\n12,345\n", "row 2: the input has 2 symbols and the target 3"),
        ("input,target\n12,34\n,1\n", "row 2: the input must have 1 to 4096 symbols"),
        ("input,target\n1,2,3\n1,2,3,4\n", "is not a CSV file"),
        ("", "is not a CSV file"),
    ],
)
def test_a_faulty_file_is_refused_with_its_row_and_reason(tmp_path, text, message):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pairs(path)


def test_a_test_symbol_that_training_never_showed_is_named(tmp_path):
    train = write(tmp_path / "train.csv", ["12", "21", "11", "22", "121", "212", "111"], ["12"] * 4 + ["121"] * 3)
    task = Sequences(train, test_file=write(tmp_path / "test.csv", ["12", "13"], ["12", "12"]), validation_fraction=0.3)
    with pytest.raises(ValueError, match=r"test.csv: row 2 has the symbol '3', which no training row has"):
        task.examples("test")


def test_a_file_that_is_too_small_for_its_parts_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has 2 different inputs, too few for a validation part"):
        parts(Sequences(write(tmp_path / "pairs.csv", ["1", "2"], ["1", "2"])))


def test_the_script_trains_and_reports(tmp_path, capsys):
    my_sequences.run(my_sequences.Arguments(preset="smoke", options=("recursion.T=1", "run.steps=10"), output=tmp_path))
    table = pd.read_csv(tmp_path / "my-sequences" / "results.csv")
    assert set(table["seed"]) == {0, 1} and (tmp_path / "my-sequences" / "report.html").exists()
    assert "no test input is a training input" in capsys.readouterr().out
    stored = load_weights(tmp_path / "my-sequences" / "arms" / "full" / "weights-1")
    assert stored.task["name"] == "sequences" and stored.config.model.vocabulary == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "give --data FILE.csv, or --preset smoke"), (("--data", "nowhere.csv"), "no file at nowhere.csv")],
)
def test_wrong_arguments_get_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["my_sequences.py", *arguments, "--output", str(tmp_path / "runs")])
    with pytest.raises(SystemExit, match=f"^error: .*{message}") as ended:
        my_sequences.main(my_sequences.Arguments, my_sequences.run, "")
    assert "\n" not in str(ended.value) and not (tmp_path / "runs").exists()
