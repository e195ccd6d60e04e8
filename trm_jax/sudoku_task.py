"""Sudoku as a task for the engine: data on device, augmentation, and scores of every seed and supervision step."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from trm_jax import evaluate
from trm_jax.config import Config
from trm_jax.data import sudoku
from trm_jax.data.augment import augment_sudoku
from trm_jax.data.sudoku import Puzzles, Splits
from trm_jax.data.sudoku_csv import read_splits
from trm_jax.data.sudoku_solver import Box
from trm_jax.seeds import over_seeds, seed_mesh
from trm_jax.train import Augment, Batch, no_augmentation


class SudokuTask(NamedTuple):
    """Everything an arm needs besides its config; arms with the same data options share it."""

    box: Box
    splits: Splits
    data: Batch
    augment: Augment


def for_board(config: Config) -> Config:
    """Fit vocabulary, classes and grid of the model to the board of the data options."""
    box = Box(*config.data.box)
    tokens = sudoku.vocabulary(box)
    return config.override(**{"model.vocabulary": tokens, "model.classes": tokens, "model.grid": (box.side, box.side)})


def prepare(config: Config) -> SudokuTask:
    """Generate or read the puzzles of a config; the same config gives the same puzzles."""
    options, box = config.data, Box(*config.data.box)
    counts = (options.train, options.validation, options.test)
    if options.train_file:
        splits = read_splits(options.train_file, options.test_file, box, *counts)
    else:
        splits = sudoku.split_puzzles(box, options.blanks, *counts, options.seed, options.split)
    inputs, labels = sudoku.to_tokens(splits.train, options.loss_cells)
    data = {"inputs": jnp.asarray(inputs), "labels": jnp.asarray(labels)}
    augment = partial(_augment, box, jnp.asarray(splits.held_out)) if options.augment else no_augmentation
    return SudokuTask(box, splits, data, augment)


def _augment(box: Box, held_out, key, batch: Batch) -> Batch:
    inputs, labels = augment_sudoku(key, batch["inputs"], batch["labels"], box, held_out)
    return {"inputs": inputs, "labels": labels}


def evaluator(config: Config, puzzles: Puzzles, box: Box, by_blanks: bool = False):
    """Function from weights with a leading axis S to scores per seed and supervision step, each (S, N_sup).

    Keys are those of `sudoku.score`, averaged over puzzles. With ``by_blanks`` there is such a dict for every number
    of blanks that occurs.
    """
    mesh = seed_mesh(len(config.run.seeds))
    inputs = jnp.asarray(sudoku.to_tokens(puzzles)[0])
    blanks = (puzzles.puzzles == 0).sum(axis=1)
    predict = over_seeds(lambda params, inputs: evaluate.predict(config, params, inputs), mesh, config.run.seed_axis)

    def scores(params: Any) -> dict[Any, Any]:
        predicted = sudoku.to_digits(np.asarray(predict(params, inputs).classes))
        measured = sudoku.score(predicted, puzzles.puzzles, puzzles.solutions, box)
        if not by_blanks:
            return {name: values.mean(axis=-1) for name, values in measured.items()}
        return {
            int(count): {name: values[..., blanks == count].mean(axis=-1) for name, values in measured.items()}
            for count in np.unique(blanks)
        }

    return scores


def last_step(scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores after the last supervision step, each (S,)."""
    return {name: values[:, -1] for name, values in scores.items()}


def one_seed(tree: Any, index: int = 0) -> Any:
    """The arrays of one seed from a tree with a leading axis S."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
