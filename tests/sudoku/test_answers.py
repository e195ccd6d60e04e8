"""Answers judged by the rules alone, puzzles as text, and the script around them."""

import csv
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import Prediction, override
from trm_jax.sudoku.answers import Answers, answer, broken_cells, draw_board, parse_puzzle, search_for, try_often
from trm_jax.sudoku.puzzles import to_digits
from trm_jax.sudoku.solver import Box
from trm_jax.sudoku.task import Sudoku
from trm_jax.training.checkpoint import save_weights

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))
import solve

BOX = Box(2, 2)
SOLUTION = parse_puzzle("1234 3412 2143 4321", BOX)
PUZZLE = np.where(np.arange(16) % 3 == 0, SOLUTION, 0).astype(np.int8)
TINY = {"model.width": 8, "model.layers": 1, "recursion.N_sup": 2, "recursion.T": 1, "recursion.n": 1}


@pytest.fixture(scope="module")
def tiny():
    task, config = override(Sudoku(), Config(), TINY)
    return task, config, model.initialise(config.model, jax.random.key(0))


def test_digits_belief_and_rules_of_every_step(tiny):
    _, config, params = tiny
    puzzles = np.stack([PUZZLE, SOLUTION])
    answers = answer(config, params, puzzles, BOX, steps=3)
    deep = config.override(**{"recursion.N_sup": 3})
    expected = jax.jit(model.forward, static_argnums=0)(deep, params, puzzles.astype(np.int32) + 1)
    np.testing.assert_array_equal(answers.digits, to_digits(expected.logits.argmax(axis=-1)))
    np.testing.assert_allclose(answers.belief, jax.nn.sigmoid(expected.q_halt), atol=1e-6)
    assert not answers.holds.any()  # an untrained model
    with pytest.raises(ValueError, match="takes puzzles of 16 cells, got 36"):
        answer(config, params, np.zeros((1, 36), np.int8), Box(2, 3))


def test_only_givens_and_rules_decide_what_holds(tiny, monkeypatch):
    _, config, params = tiny
    other = (5 - SOLUTION).astype(np.int8)  # a solution of other givens
    classes = np.stack([[PUZZLE, SOLUTION, other], [SOLUTION, other, other]]) + 1
    halt = np.zeros((2, 3))
    monkeypatch.setattr("trm_jax.sudoku.answers.predict", lambda *_, **__: Prediction(classes, halt))
    answers = answer(config, params, np.stack([PUZZLE] * 3), BOX)
    np.testing.assert_array_equal(answers.holds, [[False, True, False], [True, False, False]])
    digits, solved, steps = answers.chosen()
    np.testing.assert_array_equal(digits, [SOLUTION, SOLUTION, other])
    assert solved.tolist() == [True, True, False] and steps.tolist() == [2, 1, 2]


def test_chosen_is_the_first_that_holds_or_the_last():
    digits = np.arange(3)[:, None, None] * np.ones((3, 2, 16), np.int8)
    holds = np.array([[False, False], [True, False], [True, False]])
    chosen, solved, steps = Answers(digits, np.zeros((3, 2)), holds).chosen()
    assert chosen[:, 0].tolist() == [1, 2] and solved.tolist() == [True, False] and steps.tolist() == [2, 3]


def test_broken_cells_are_repeated_changed_or_missing():
    assert not broken_cells(SOLUTION, PUZZLE, BOX).any()
    digits = SOLUTION.copy()
    digits[0] = 2  # was 1, a given; 2 stands beside it, and below in column and box
    assert np.flatnonzero(broken_cells(digits, PUZZLE, BOX)).tolist() == [0, 1, 8]
    digits[5] = 0
    assert np.flatnonzero(broken_cells(digits, PUZZLE, BOX)).tolist() == [0, 1, 5, 8]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("123", "has 3 cells; a 4x4 board has 16"),
        ("1234 3412 2143 432x", "cell 16 is 'x'; cells are digits 1 to 4"),
        ("5" + "." * 15, "cell 1 is '5'"),
        ("11" + "." * 14, "a digit is twice"),
    ],
)
def test_a_wrong_puzzle_gets_a_sentence(text, message):
    with pytest.raises(ValueError, match=message):
        parse_puzzle(text, BOX)


def test_a_board_as_text():
    marks = np.arange(16) == 1
    assert draw_board(PUZZLE, BOX, marks).splitlines() == [
        "1  .!  .  4",
        ".  .   1  .",
        "",
        ".  1   .  .",
        "4  .   .  1",
    ]


def test_a_file_is_answered_row_by_row(tiny, tmp_path, monkeypatch, capsys):
    task, config, params = tiny
    save_weights(tmp_path / "weights", params, config, task)
    questions = ["".join(map(str, PUZZLE)), "." * 16]
    (tmp_path / "in.csv").write_text("question\n" + "\n".join(questions) + "\n")
    arguments = ["--checkpoint", tmp_path, "--puzzles", tmp_path / "in.csv", "--output", tmp_path / "out.csv"]
    monkeypatch.setattr(sys, "argv", ["solve.py", *map(str, arguments)])
    solve.main(solve.Arguments, solve.run, "")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [list(row) for row in rows] == [["row", "question", "answer", "solved", "steps"]] * 2
    assert [row["question"] for row in rows] == [questions[0].replace("0", "."), questions[1]]
    expected = answer(config, params, np.stack([PUZZLE, np.zeros(16, np.int8)]), BOX).digits[-1]
    assert rows[1]["answer"] == "".join(str(digit or ".") for digit in expected[1])
    assert [(row["solved"], row["steps"]) for row in rows] == [("false", "2")] * 2
    with pytest.raises(SystemExit, match="exists; give another name, or --force"):
        solve.main(solve.Arguments, solve.run, "")
    monkeypatch.setattr(sys, "argv", ["solve.py", "--checkpoint", str(tmp_path), "--puzzle", questions[0]])
    with pytest.raises(SystemExit) as stopped:
        solve.main(solve.Arguments, solve.run, "")
    printed = capsys.readouterr().out
    assert stopped.value.code == 1 and printed.count("break the rules") == 2 and printed.endswith("Not solved.\n")


def test_rollouts_begin_with_the_answer_without_noise_and_a_search_answers_by_the_rules(tiny):
    _, config, params = tiny
    puzzles = np.stack([PUZZLE] * 3)
    once, one_try = answer(config, params, puzzles, BOX), try_often(config, params, puzzles, BOX, 0, 1, 0.5)
    np.testing.assert_array_equal(one_try.digits, once.digits)
    np.testing.assert_allclose(one_try.belief, once.belief, atol=1e-6)
    digits, solved, rounds = search_for(config, params, puzzles, BOX, 0, 50)
    np.testing.assert_array_equal(digits, np.stack([SOLUTION] * 3))
    assert solved.all() and rounds.min() >= 1
    digits, solved, _ = search_for(config, params, puzzles, BOX, 0, 1)
    assert not solved.any() and not digits.any()
