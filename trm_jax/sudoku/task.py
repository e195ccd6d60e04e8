"""Sudoku as a task for the engine: data on device, augmentation, and scores of every seed and supervision step."""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from trm_jax.core import predict as evaluate
from trm_jax.core.config import Config
from trm_jax.core.train_step import Augment, Batch, no_augmentation
from trm_jax.sudoku import puzzles as sudoku
from trm_jax.sudoku.augment import augment_sudoku
from trm_jax.sudoku.csv_files import read_splits
from trm_jax.sudoku.puzzles import Puzzles, Splits
from trm_jax.sudoku.solver import Box
from trm_jax.training.devices import over_seeds, run_mesh, to_host


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
    """Generate or read the puzzles of a config; the same config gives the same puzzles.

    With ``data.first_share`` above 0 the data are twice as long: training puzzles with ``first_blanks`` follow, as
    many, made from solutions of the same classes, so that no held-out solution is among them.
    """
    options, box = config.data, Box(*config.data.box)
    counts = (options.train, options.validation, options.test)
    if options.train_file:
        splits = read_splits(options.train_file, options.test_file, box, *counts)
    else:
        splits = sudoku.split_puzzles(box, options.blanks, *counts, options.seed, options.split)
    trained = splits.train
    if options.first_share:
        # The division into classes depends on the seed and the counts, not on the blanks.
        first = sudoku.split_puzzles(box, options.first_blanks, *counts, options.seed, options.split).train
        assert sudoku.solution_overlap(splits.test, first, box) == 0
        trained = Puzzles(*(np.concatenate(pair) for pair in zip(trained, first, strict=True)))
    inputs, labels = sudoku.to_tokens(trained, options.loss_cells)
    data = {"inputs": jnp.asarray(inputs), "labels": jnp.asarray(labels)}
    augment = partial(_augment, box, jnp.asarray(splits.held_out)) if options.augment else no_augmentation
    return SudokuTask(box, splits, data, augment)


def _augment(box: Box, held_out, key, batch: Batch) -> Batch:
    inputs, labels = augment_sudoku(key, batch["inputs"], batch["labels"], box, held_out)
    return {"inputs": inputs, "labels": labels}


@cache
def _predictor(config: Config):
    """Compiled prediction for all seeds, one program for inputs of the same shape."""
    predict = partial(evaluate.predict, config)
    return over_seeds(predict, run_mesh(config), config.run.seed_axis)


def evaluator(config: Config, parts: dict[str, Puzzles], box: Box):
    """Function from weights with a leading axis S to scores of every part, each (S, N_sup): a value per step.

    A part's keys are those of `sudoku.score`, averaged over its puzzles. All parts are predicted in one call.
    """
    predict = _predictor(config)
    inputs = jnp.asarray(np.concatenate([sudoku.to_tokens(part)[0] for part in parts.values()]))
    ends = np.cumsum([len(part.puzzles) for part in parts.values()])[:-1]

    def scores(params: Any) -> dict[str, dict[str, np.ndarray]]:
        predicted = sudoku.to_digits(to_host(predict(params, inputs).classes))
        by_part = zip(parts.items(), np.split(predicted, ends, axis=2), strict=True)
        measured = {name: sudoku.score(digits, *part, box) for (name, part), digits in by_part}
        return {name: {key: values.mean(axis=-1) for key, values in one.items()} for name, one in measured.items()}

    return scores


def by_blanks(puzzles: Puzzles, most: int = 3) -> dict[str, Puzzles]:
    """Puzzles by number of blanks as text; all together, as "low-high", where there are more than ``most`` numbers."""
    blanks = (puzzles.puzzles == 0).sum(axis=1)
    counts = np.unique(blanks)
    if len(counts) > most:
        return {f"{counts[0]}-{counts[-1]}": puzzles}
    return {str(count): Puzzles(*(array[blanks == count] for array in puzzles)) for count in counts}


def last_step(scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores after the last supervision step, each (S,)."""
    return {name: values[:, -1] for name, values in scores.items()}


def one_seed(tree: Any, index: int = 0) -> Any:
    """The arrays of one seed from a tree with a leading axis S."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
