"""Sudoku as a task: every option does what it says, and scores come back per seed, step and number of blanks."""

import dataclasses

import jax
import numpy as np
import pytest

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import Prediction, override
from trm_jax.sudoku.csv_files import write_csv
from trm_jax.sudoku.puzzles import Puzzles, solution_overlap
from trm_jax.sudoku.solver import Box, guesses, relabelling_form
from trm_jax.sudoku.task import Sudoku, levels, splits_of
from trm_jax.training.devices import over_seeds, seed_mesh
from trm_jax.training.loop import fit
from trm_jax.training.predict import scores, scores_by_level
from trm_jax.training.samples import samples_of

SMALL = Sudoku(train=60, validation=10, test=30)
BOX = Box(2, 2)
CONFIG = Config().override(
    **{"model.width": 8, "model.layers": 1, "recursion.T": 1, "recursion.n": 1, "recursion.N_sup": 2,
       "run.seeds": (0, 1)}
)  # fmt: skip


def changed(**options) -> Sudoku:
    return dataclasses.replace(SMALL, **options)


def inputs_of(task: Sudoku, part: str = "train") -> np.ndarray:
    return task.examples(part).arrays["inputs"]


def test_the_same_options_give_the_same_puzzles_and_another_seed_gives_others():
    splits_of.cache_clear()
    first = inputs_of(SMALL)
    splits_of.cache_clear()
    np.testing.assert_array_equal(inputs_of(Sudoku(train=60, validation=10, test=30)), first)
    assert not np.array_equal(inputs_of(changed(seed=1)), first)


def test_counts_blanks_and_boards_follow_the_options():
    assert [len(inputs_of(SMALL, part)) for part in ("train", "validation", "test")] == [60, 10, 30]
    other = changed(train=7, validation=8, test=9)
    assert [len(inputs_of(other, part)) for part in ("train", "validation", "test")] == [7, 8, 9]
    assert set((inputs_of(changed(blanks=(4, 5))) == 1).sum(axis=1)) == {4, 5}
    six, config = override(SMALL, CONFIG, {"task.box": [2, 3], "task.blanks": [5, 8]})
    assert inputs_of(six).shape == (60, 36)
    assert (config.model.vocabulary, config.model.classes, config.model.grid) == (8, 8, (6, 6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blanks": (9, 8)}, "task.blanks must be a range within"),
        ({"curriculum_fraction": 1.5}, "task.curriculum_fraction must be between 0 and 1"),
        ({"curriculum_fraction": 0.5, "curriculum_blanks": (6, 17)}, "curriculum_blanks must be a range within"),
        ({"curriculum_fraction": 0.5, "train_file": "a", "test_file": "b"}, "needs generated puzzles"),
        ({"curriculum_fraction": 0.5, "split": "random"}, "keeps test solutions out of both"),
        ({"train_file": "a.csv"}, "go together"),
        ({"test": 0}, "task.test must be at least 1"),
        ({"seed": 0.5}, "task.seed must be int"),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        changed(**options)


def test_splitting_by_class_keeps_test_solutions_out_of_training_and_a_random_split_does_not():
    assert splits_of(SMALL).overlap == 0 and len(splits_of(SMALL).held_out) == 4
    assert SMALL.examples("train").shared["held_out"].shape == (4,)
    assert splits_of(changed(split="random")).overlap > 0.5


@pytest.mark.parametrize("board", [{}, {"box": (2, 3), "blanks": (12, 14), "train": 30}])
def test_puzzles_of_the_curriculum_follow_the_others_and_show_no_held_out_solution(board):
    plain, task = changed(**board), changed(curriculum_fraction=0.5, curriculum_blanks=(3, 4), **board)
    for ours, other in zip(splits_of(plain), splits_of(task), strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours, other)
    examples, size, box = task.examples("train"), len(inputs_of(plain)), Box(*task.box)
    inputs, labels = examples.arrays["inputs"], examples.arrays["labels"]
    np.testing.assert_array_equal(inputs[:size], inputs_of(plain))
    assert len(inputs) == 2 * size and set((inputs[size:] == 1).sum(axis=1)) == {3, 4}
    np.testing.assert_array_equal(examples.weights, np.repeat([[0, 1], [1, 0]], size, axis=1))
    assert examples.phases == (0.0, 0.5)
    easy, splits = Puzzles(inputs[size:] - 1, labels[size:] - 1), splits_of(task)
    for held in (splits.validation, splits.test):
        assert solution_overlap(held, easy, box) == 0
    assert solution_overlap(easy, splits.train, box) == 1 or board


def test_puzzles_can_come_from_files(tmp_path):
    generated = splits_of(SMALL)
    for name, part in (("train.csv", generated.train), ("test.csv", generated.test)):
        write_csv(tmp_path / name, part, BOX)
    files = {"train_file": str(tmp_path / "train.csv"), "test_file": str(tmp_path / "test.csv")}
    splits = splits_of(changed(**files, train=40))
    np.testing.assert_array_equal(splits.train.puzzles, generated.train.puzzles[:40])
    np.testing.assert_array_equal(splits.validation.puzzles, generated.train.puzzles[-10:])
    every = splits_of(changed(**files, train=60))  # as many as there are: those that validate do not train too
    np.testing.assert_array_equal(every.train.puzzles, generated.train.puzzles[:-10])
    np.testing.assert_array_equal(splits.test.puzzles, generated.test.puzzles)
    held = np.concatenate([generated.train.solutions[-10:], generated.test.solutions])
    np.testing.assert_array_equal(splits.held_out, np.unique(relabelling_form(held, BOX), axis=0))
    assert splits.overlap == 0
    same = changed(train_file=files["test_file"], test_file=files["test_file"], train=20)
    assert splits_of(same).overlap > 0
    with pytest.raises(ValueError, match="has 60 puzzles, and "):
        splits_of(changed(**files, validation=60))


def test_augmentation_changes_puzzles_unless_switched_off():
    examples = SMALL.examples("train")
    batch = {name: values[:8] for name, values in examples.arrays.items()}
    augmented = SMALL.augment(jax.random.key(0), batch, examples.shared)
    assert not np.array_equal(augmented["inputs"], batch["inputs"])
    given = np.asarray(augmented["inputs"]) > 1
    np.testing.assert_array_equal(augmented["inputs"][given], augmented["labels"][given])
    assert changed(augmented=False).augment(jax.random.key(0), batch, examples.shared) is batch


@pytest.fixture(scope="module")
def weights():
    start = over_seeds(lambda seed: model.initialise(CONFIG.model, jax.random.key(seed)), seed_mesh(2))
    return start(np.array([0, 1]))


def test_scores_have_a_value_for_every_seed_and_supervision_step(weights):
    measured = scores(SMALL, CONFIG, weights, SMALL.examples("test"))
    assert {name: values.shape for name, values in measured.items()} == dict.fromkeys(
        ("exact", "exact_blanks", "valid", "cells", "cells_blanks"), (2, 2)
    )
    assert measured["exact"].max() == 0 and np.ptp(measured["cells"]) > 0


def test_the_solution_itself_scores_one_and_one_wrong_digit_does_not():
    examples = SMALL.examples("test")
    answers = np.broadcast_to(examples.arrays["labels"], (1, 2, 30, 16)).copy()
    answers[0, 0, :15, 0] = 0
    measured = SMALL.score(Prediction(answers, np.ones((1, 2, 30))), examples)
    assert measured["exact"].tolist() == measured["valid"].tolist() == [[0.5, 1.0]]


def test_puzzles_are_told_apart_by_blanks_unless_there_are_many_numbers(weights):
    test = SMALL.examples("test")
    assert set(test.levels) == {"8", "9", "10"}
    np.testing.assert_array_equal((test.arrays["inputs"] == 1).sum(axis=1).astype(str), test.levels)
    assert set(levels(Puzzles(np.tri(6, 16, dtype=np.int8), np.ones((6, 16), np.int8)), "blanks", BOX)) == {"10-15"}
    by_level, whole = scores_by_level(SMALL, CONFIG, weights, test), scores(SMALL, CONFIG, weights, test)
    weighted = sum((test.levels == level).sum() * by_level[level]["cells"] for level in by_level)
    np.testing.assert_allclose(weighted / 30, whole["cells"], rtol=1e-5)


def test_a_seed_with_puzzles_of_its_own_trains_and_scores_as_it_would_alone(tmp_path):
    own = changed(same_for_seeds=False)
    config = CONFIG.override(
        **{"run.steps": 4, "run.chunk": 2, "run.evaluate_every": 2, "run.checkpoint_every": 4, "run.batch": 4}
        | {"optim.warmup": 1, "optim.learning_rate": 1e-3, "run.data_parallel": 1}
    )
    first, second = (examples.arrays["inputs"] for examples in samples_of(own, config, "train"))
    np.testing.assert_array_equal(first, inputs_of(SMALL))
    np.testing.assert_array_equal(second, inputs_of(changed(seed=1)))

    both = fit(own, config, tmp_path / "both")
    alone = fit(changed(seed=1), config.override(**{"run.seeds": (1,)}), tmp_path / "alone")
    jax.tree.map(
        lambda two, one: np.testing.assert_allclose(two[1], one[0], atol=1e-5), both.state.params, alone.state.params
    )
    tests = samples_of(own, config, "test")
    of_both = scores_by_level(own, config, both.state.params, tests)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf)[1:], both.state.params)
    of_one = scores_by_level(own, config.override(**{"run.seeds": (1,)}), weights, tests[1])
    for level, measured in of_one.items():
        assert measured["cells"].min() > 0
        np.testing.assert_array_equal(of_both[level]["cells"][1:], measured["cells"])


def test_difficulty_can_be_what_a_search_needs_instead_of_the_blanks():
    by_guesses = changed(box=(2, 3), blanks=(24, 25), train=8, validation=4, test=12, level_by="guesses")
    examples = by_guesses.examples("test")
    needed = [guesses(puzzle, Box(2, 3)) for puzzle in splits_of(by_guesses).test.puzzles]
    assert examples.levels.tolist() == ["0" if count == 0 else "1-9" if count < 10 else "10+" for count in needed]
    assert by_guesses.level_name == "guesses"
