"""More thought: what the rules choose, and a search that is right or abstains, whatever the model believes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trm_jax.core.task import Prediction
from trm_jax.sudoku.puzzles import generate
from trm_jax.sudoku.solver import Box
from trm_jax.sudoku.think import choose_by_rules, obeys, search

BOX = Box(2, 2)
PUZZLES = generate(12, BOX, (9, 11), 0)


def test_the_rules_choose_the_first_right_answer_else_the_surest():
    puzzle, solution = PUZZLES.puzzles[:1], PUZZLES.solutions[:1]
    wrong, worse = solution.copy(), solution.copy()
    wrong[0, 0], worse[0, :2] = solution[0, 0] % 4 + 1, solution[0, 0] % 4 + 1
    tokens = np.stack([wrong, worse, solution, solution])[:, None] + 1  # (K, N_sup, N, cells)
    prediction = Prediction(tokens, np.array([0.3, 0.8, 0.1, 0.1])[:, None, None])
    np.testing.assert_array_equal(choose_by_rules(prediction, 4, puzzle, BOX), solution[None])
    np.testing.assert_array_equal(choose_by_rules(prediction, 2, puzzle, BOX), worse[None])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_search_led_by_noise_finds_the_solution(seed):
    random = np.random.default_rng(seed)
    answers, rounds = search(lambda boards: random.random((*boards.shape, 4)), PUZZLES.puzzles, BOX)
    np.testing.assert_array_equal(answers, PUZZLES.solutions)
    assert rounds.max() > 1


def test_a_model_that_knows_needs_one_round_and_one_that_errs_is_taken_back():
    truth = np.eye(4)[PUZZLES.solutions - 1]
    answers, rounds = search(lambda boards: truth, PUZZLES.puzzles, BOX)
    np.testing.assert_array_equal(answers, PUZZLES.solutions)
    assert (rounds == 1).all()
    order = {puzzle.tobytes(): number for number, puzzle in enumerate(PUZZLES.puzzles)}
    assert len(order) == 12

    lies = np.roll(truth, 1, axis=-1)[:1]
    answers, rounds = search(lambda boards: np.repeat(lies, len(boards), 0), PUZZLES.puzzles[:1], BOX)
    np.testing.assert_array_equal(answers, PUZZLES.solutions[:1])
    assert rounds[0] > 1


def test_it_abstains_when_its_rounds_are_spent_or_there_is_no_solution():
    flat = np.full((1, 16, 4), 0.25)
    answers, rounds = search(lambda boards: flat, np.zeros((1, 16), np.int8), BOX, rounds=1)
    assert (answers == 0).all()
    assert rounds[0] == 1
    impossible = np.zeros((1, 16), np.int8)
    impossible[0, :2] = 1
    answers, _ = search(lambda boards: np.repeat(flat, len(boards), 0), impossible, BOX)
    assert (answers == 0).all()
    assert not obeys(answers, impossible, BOX).any()
