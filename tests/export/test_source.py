"""What is read for an export: one puzzle vector, and samples that the model can take."""

import dataclasses

import numpy as np
import pytest

from trm_jax.core.config import Config
from trm_jax.core.task import task_options
from trm_jax.export.samples import samples_for
from trm_jax.export.source import Source, with_puzzle
from trm_jax.sudoku.task import Sudoku

TABLE = {"model.prefix_tokens": 1, "model.prefix_width": 4, "model.puzzles": 3}
PARAMS = {"puzzles": np.arange(12.0).reshape(3, 4), "tokens": np.zeros((6, 32))}


def test_the_vector_of_one_puzzle_is_kept_and_has_to_be_chosen_where_there_are_several():
    config = Config().override(**TABLE)
    reduced, params, puzzle = with_puzzle(config, PARAMS, 2)
    assert reduced == config.override(**{"model.puzzles": 1}) and puzzle == 2
    assert params["puzzles"].tolist() == [[8, 9, 10, 11]] and params["tokens"] is PARAMS["tokens"]
    with pytest.raises(ValueError, match="the model has 3 puzzle vectors, and files take one: choose it with --puzzle"):
        with_puzzle(config, PARAMS, None)
    with pytest.raises(ValueError, match="--puzzle 3: there are 0 to 2"):
        with_puzzle(config, PARAMS, 3)
    assert with_puzzle(reduced, params, None)[2] == 0
    assert with_puzzle(Config(), {}, None) == (Config(), {}, None)
    with pytest.raises(ValueError, match="the model has no puzzle table"):
        with_puzzle(Config(), {}, 1)


def source(**options) -> Source:
    """Weights said to be of the default Sudoku task."""
    task = task_options(Sudoku(train=20, validation=1, test=20))
    return Source(Config().override(**options), {}, task, None, 1.0, 0.9, False, {}, False)  # type: ignore[arg-type]


def test_samples_of_another_board_than_the_model_takes_are_refused_before_the_export():
    with pytest.raises(ValueError, match=r"training samples of the task sudoku: inputs \(\d+, 16\) are not \(N, 81\)"):
        samples_for(source(**{"model.grid": (9, 9), "model.vocabulary": 11}), (5, 5), None, None, False)


def test_a_package_says_which_puzzle_is_part_of_it():
    baked = dataclasses.replace(source(**TABLE | {"model.puzzles": 1}), puzzle=2)
    samples = samples_for(baked, (5, 5), None, None, False)
    assert "puzzle identifier 2 is part of the files" in samples.takes and samples.preprocessing["puzzle"] == 2
    assert "puzzle" not in samples_for(source(), (5, 5), None, None, False).preprocessing
