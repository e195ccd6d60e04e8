"""Mazes as a task: parts that share no walls, augmentation that keeps answers right, scores by the rules."""

import dataclasses

import jax
import numpy as np
import pytest

from trm_jax.core.config import Config
from trm_jax.core.task import Prediction, override
from trm_jax.maze import grids
from trm_jax.maze.csv_files import write_csv
from trm_jax.maze.task import Maze, mazes_of

SMALL = Maze(sides=(9, 11), train=20, validation=6, test=8)


def test_parts_share_no_walls_under_any_symmetry_and_small_mazes_stand_in_walls():
    forms = [{grids.canonical(maze) for maze in mazes} for mazes in mazes_of(SMALL).values()]
    assert [len(form) for form in forms] == [8, 6, 20]
    assert len(set.union(*forms)) == 34
    examples = SMALL.examples("test")
    assert examples.arrays["inputs"].shape == (8, 121)
    assert examples.levels.tolist() == ["9", "11"] * 4
    assert (examples.arrays["inputs"].reshape(8, 11, 11)[::2, 9:] == grids.WALL).all()


@pytest.mark.parametrize("kind", ["perfect", "scattered"])
def test_augmented_mazes_keep_the_answer_of_their_own_breadth_first_search(kind):
    task = Maze(sides=(9,), kind=kind, train=12, validation=2, test=2, shortest=3)
    examples = task.examples("train")
    batch = task.augment(jax.random.key(0), examples.arrays, examples.shared)
    assert not np.array_equal(batch["inputs"], examples.arrays["inputs"])
    for asked, answer in zip(np.asarray(batch["inputs"]), np.asarray(batch["labels"]), strict=True):
        np.testing.assert_array_equal(grids.solve(asked.reshape(9, 9)).reshape(-1), answer)


def test_scores_tell_the_exact_from_the_shortest_and_the_shortest_from_any_way(tmp_path):
    solved = grids.solve(np.pad(np.array([[3, 2], [2, 4]]), 2, constant_values=2).astype(np.int8))
    write_csv(tmp_path / "mazes.csv", np.stack([solved] * 4))
    task = Maze(train_file=str(tmp_path / "mazes.csv"), test_file=str(tmp_path / "mazes.csv"), validation=1)
    examples = task.examples("test")
    other, longer, broken = solved.copy(), solved.copy(), solved.copy()
    other[3, 2], other[2, 3] = grids.OPEN, grids.PATH
    longer[3, 2], longer[2, 1], longer[3, 1], longer[4, 1] = grids.OPEN, grids.PATH, grids.PATH, grids.PATH
    longer[4, 2], longer[4, 3] = grids.PATH, grids.PATH
    broken[3, 2] = grids.OPEN
    answers = np.stack([solved, other, longer, broken]).reshape(1, 1, 4, 36)
    scores = task.score(Prediction(answers, np.zeros((1, 1, 4))), examples)
    assert {name: values.item() for name, values in scores.items() if name != "cells"} == {
        "exact": 0.25,
        "shortest": 0.5,
        "valid": 0.75,
    }


def test_shape_follows_the_largest_side_and_wrong_options_are_refused():
    _, config = override(SMALL, Config(), {})
    assert (config.model.grid, config.model.vocabulary, config.model.classes) == ((11, 11), 6, 6)
    for options, message in [
        ({"sides": (8,)}, "must be odd"),
        ({"sides": (3,)}, "must be 5 or more"),
        ({"train_file": "a.csv"}, "go together"),
        ({"train": 0}, "at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(SMALL, **options)
    with pytest.raises(ValueError, match="found only"):
        mazes_of(Maze(sides=(5,), train=50, validation=2, test=2, shortest=3))


def test_seeds_may_have_mazes_of_their_own():
    own = dataclasses.replace(SMALL, same_for_seeds=False)
    np.testing.assert_array_equal(mazes_of(own.for_seed(0))["test"], mazes_of(SMALL)["test"])
    assert not np.array_equal(mazes_of(own.for_seed(1))["test"], mazes_of(SMALL)["test"])
