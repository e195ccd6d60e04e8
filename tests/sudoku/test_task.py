"""Sudoku as a task: every data option does what it says, and scores come back per seed, step and number of blanks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.core.train_step import no_augmentation
from trm_jax.sudoku import task as sudoku_task
from trm_jax.sudoku.csv_files import write_csv
from trm_jax.sudoku.puzzles import IGNORE, Puzzles, solution_overlap
from trm_jax.sudoku.solver import relabelling_form
from trm_jax.training.devices import over_seeds, seed_mesh

SMALL = Config().override(
    **{"data.train": 60, "data.validation": 10, "data.test": 30, "model.width": 8, "model.layers": 1, "recursion.n": 1,
       "recursion.N_sup": 2, "run.seeds": (0, 1)}
)  # fmt: skip
TASK = sudoku_task.prepare(SMALL)


def changed(**options):
    return sudoku_task.prepare(SMALL.override(**{f"data.{name}": value for name, value in options.items()}))


def test_the_same_options_give_the_same_puzzles_and_another_seed_gives_others():
    np.testing.assert_array_equal(sudoku_task.prepare(SMALL).data["inputs"], TASK.data["inputs"])
    assert not np.array_equal(changed(seed=1).data["inputs"], TASK.data["inputs"])


def test_counts_blanks_and_boards_follow_the_options():
    assert [len(part.puzzles) for part in TASK.splits[:3]] == [60, 10, 30]
    assert [len(part.puzzles) for part in changed(train=7, validation=8, test=9).splits[:3]] == [7, 8, 9]
    blanks = (changed(blanks=[4, 5]).splits.train.puzzles == 0).sum(axis=1)
    assert set(blanks) == {4, 5}
    six = SMALL.override(**{"data.box": [2, 3], "data.blanks": [5, 8]})
    fitted = sudoku_task.for_board(six)
    assert sudoku_task.prepare(fitted).data["inputs"].shape == (60, 36)
    assert (fitted.model.vocabulary, fitted.model.classes, fitted.model.grid) == (8, 8, (6, 6))


def test_splitting_by_class_keeps_test_solutions_out_of_training_and_a_random_split_does_not():
    assert TASK.splits.overlap == 0 and len(TASK.splits.held_out) == 4
    assert changed(split="random").splits.overlap > 0.5


@pytest.mark.parametrize("board", [{}, {"box": [2, 3], "blanks": [12, 14], "train": 30}])
def test_puzzles_of_the_first_updates_follow_the_others_and_show_no_held_out_solution(board):
    plain = changed(**board)
    task = changed(first_share=0.5, first_blanks=[3, 4], loss_cells="blanks", **board)
    for one, other in zip(jax.tree.leaves(plain.splits), jax.tree.leaves(task.splits), strict=True):
        np.testing.assert_array_equal(one, other)
    size = len(plain.splits.train.puzzles)
    np.testing.assert_array_equal(task.data["inputs"][:size], plain.data["inputs"])
    inputs, labels = (np.asarray(task.data[name][size:]) for name in ("inputs", "labels"))
    assert len(inputs) == size and set((inputs == 1).sum(axis=1)) == {3, 4}
    np.testing.assert_array_equal(labels == IGNORE, inputs > 1)
    first = Puzzles(inputs - 1, np.where(labels == IGNORE, inputs, labels) - 1)
    for held in task.splits[1:3]:
        assert solution_overlap(held, first, task.box) == 0
    assert solution_overlap(first, task.splits.train, task.box) == 1 or board


def test_puzzles_can_come_from_files(tmp_path):
    for name, part in (("train.csv", TASK.splits.train), ("test.csv", TASK.splits.test)):
        write_csv(tmp_path / name, part, TASK.box)
    files = {"train_file": str(tmp_path / "train.csv"), "test_file": str(tmp_path / "test.csv")}
    task = changed(**files, train=40)
    np.testing.assert_array_equal(task.splits.train.puzzles, TASK.splits.train.puzzles[:40])
    np.testing.assert_array_equal(task.splits.validation.puzzles, TASK.splits.train.puzzles[-10:])
    np.testing.assert_array_equal(task.splits.test.puzzles, TASK.splits.test.puzzles)
    forms = {tuple(form) for form in relabelling_form(TASK.splits.test.solutions, TASK.box)}
    assert forms <= {tuple(form) for form in task.splits.held_out} and task.splits.overlap == 0
    assert changed(train_file=files["test_file"], test_file=files["test_file"], train=20).splits.overlap > 0
    with pytest.raises(ValueError, match="has 60 puzzles, and data"):
        changed(**files, validation=60)
    with pytest.raises(ValueError, match="go together"):
        changed(train_file=files["train_file"])


def test_the_loss_counts_all_cells_or_only_blanks():
    assert not (TASK.data["labels"] == IGNORE).any()
    blanks = changed(loss_cells="blanks").data
    np.testing.assert_array_equal(blanks["labels"] == IGNORE, blanks["inputs"] > 1)


def test_augmentation_changes_puzzles_unless_switched_off():
    batch = {name: values[:8] for name, values in TASK.data.items()}
    augmented = TASK.augment(jax.random.key(0), batch)
    assert not np.array_equal(augmented["inputs"], batch["inputs"])
    given = np.asarray(augmented["inputs"]) > 1
    np.testing.assert_array_equal(augmented["inputs"][given], augmented["labels"][given])
    assert changed(augment=False).augment is no_augmentation


@pytest.fixture(scope="module")
def weights():
    start = over_seeds(lambda seed: model.initialise(SMALL.model, jax.random.key(seed)), seed_mesh(2))
    return start(np.array([0, 1]))


def test_scores_have_a_value_for_every_seed_and_supervision_step(weights):
    scores = sudoku_task.evaluator(SMALL, {"test": TASK.splits.test}, TASK.box)(weights)["test"]
    assert {name: values.shape for name, values in scores.items()} == dict.fromkeys(
        ("exact", "exact_blanks", "valid", "cells", "cells_blanks"), (2, 2)
    )
    np.testing.assert_array_equal(sudoku_task.last_step(scores)["cells"], scores["cells"][:, 1])
    assert scores["exact"].max() == 0 and np.ptp(scores["cells"]) > 0


def test_puzzles_are_told_apart_by_blanks_unless_there_are_many_numbers(weights):
    parts = sudoku_task.by_blanks(TASK.splits.test)
    assert list(parts) == ["8", "9", "10"] and sum(len(part.puzzles) for part in parts.values()) == 30
    assert all(((part.puzzles == 0).sum(axis=1) == int(blanks)).all() for blanks, part in parts.items())
    assert list(sudoku_task.by_blanks(TASK.splits.test, most=2)) == ["8-10"]
    scores = sudoku_task.evaluator(SMALL, {"all": TASK.splits.test, **parts}, TASK.box)(weights)
    weighted = sum(len(part.puzzles) * scores[blanks]["cells"] for blanks, part in parts.items())
    np.testing.assert_allclose(weighted / 30, scores["all"]["cells"], rtol=1e-5)


def test_one_seed_is_taken_out_of_all(weights):
    second = sudoku_task.one_seed(weights, 1)
    expected = model.initialise(SMALL.model, jax.random.key(1))
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-6), second, expected)
    assert jnp.shape(second["tokens"]) == (6, 8)
