"""Sudoku as a task for the engine: generated puzzles or files, symmetries as augmentation, scores by blanks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np

from trm_jax.core.task import Batch, Examples, Prediction, Task
from trm_jax.sudoku.csv_files import read_splits
from trm_jax.sudoku.puzzles import Puzzles, Splits, score, solution_overlap, split_puzzles, to_digits, to_tokens
from trm_jax.sudoku.puzzles import vocabulary as tokens_of
from trm_jax.sudoku.solver import Box, guesses
from trm_jax.support.schema import check_types, require

MAX_LEVELS = 3
"""Numbers of blanks that are reported apart; with more of them all puzzles are one level."""


@dataclass(frozen=True)
class Sudoku(Task):
    """Puzzles with exactly one solution each, generated or read from files."""

    box: tuple[int, int] = (2, 2)
    """Rows and columns of a Sudoku box: 2 2 for 4x4, 2 3 for 6x6, 3 3 for 9x9."""
    blanks: tuple[int, int] = (8, 10)
    """Smallest and largest number of blank cells."""
    curriculum_blanks: tuple[int, int] = (6, 8)
    """The same for the puzzles that the first updates draw, where curriculum_fraction is above 0."""
    curriculum_fraction: float = 0.0
    """Share of the updates, from the first on, that draw puzzles with curriculum_blanks; the others have ``blanks``."""
    train: int = 20000
    """Training puzzles."""
    validation: int = 256
    """Validation puzzles (choose with these)."""
    test: int = 3000
    """Test puzzles (report these, once)."""
    split: Literal["class", "random"] = "class"
    """Class: test solutions are no relabelling of a training solution. Random: the naive split, which leaks."""
    augmented: bool = True
    """Apply Sudoku symmetries inside the training step, never one that leads to a held-out solution."""
    seed: int = 0
    """Seed of the puzzles; shared by all arms."""
    same_for_seeds: bool = True
    """All training seeds share puzzles and split; false: every seed draws its own, by the sum of both seeds."""
    level_by: Literal["blanks", "guesses"] = "blanks"
    """Difficulty by which scores are reported: blank cells, or boards that a search tries (0: every cell is forced)."""
    train_file: str = ""
    """CSV file with Sudoku-Extreme columns to train and validate on, instead of generated puzzles."""
    test_file: str = ""
    """CSV file to test on; needed with train_file."""

    name: ClassVar[str] = "sudoku"
    metric: ClassVar[str] = "exact"
    report_options: ClassVar[tuple[str, ...]] = ("task.level_by",)
    example_name: ClassVar[tuple[str, str]] = ("puzzle", "puzzles")

    @property
    def level_name(self) -> str:  # type: ignore[override]
        """Blanks, or guesses."""
        return self.level_by

    def __post_init__(self) -> None:
        check_types(self, "task.")
        require(min(self.box) >= 1, f"task.box must be two positive numbers, got {self.box}")
        require(bool(self.train_file) == bool(self.test_file), "task.train_file and task.test_file go together")
        cells = (self.box[0] * self.box[1]) ** 2
        for name in ("blanks", "curriculum_blanks") if self.curriculum_fraction else ("blanks",):
            low, high = getattr(self, name)
            require(0 <= low <= high <= cells, f"task.{name} must be a range within 0..{cells}, got {(low, high)}")
        fraction = self.curriculum_fraction
        require(0 <= fraction <= 1, f"task.curriculum_fraction must be between 0 and 1, got {fraction}")
        require(
            fraction == 0 or not self.train_file,
            "task.curriculum_fraction needs generated puzzles: leave it at 0 with task.train_file",
        )
        require(
            self.same_for_seeds or not self.train_file,
            "a file is the same for all seeds: set task.same_for_seeds=true with task.train_file",
        )
        require(
            fraction == 0 or self.split == "class",
            "task.curriculum_fraction needs task.split=class, which keeps test solutions out of both training sets",
        )
        for name in ("train", "validation", "test"):
            require(getattr(self, name) >= 1, f"task.{name} must be at least 1, got {getattr(self, name)}")

    def for_seed(self, seed: int) -> "Sudoku":
        """The puzzles of one training seed."""
        return self if self.same_for_seeds else replace(self, seed=self.seed + seed, same_for_seeds=True)

    def shape(self) -> dict[str, Any]:
        """Vocabulary, classes and grid of the board."""
        box = Box(*self.box)
        tokens = tokens_of(box)
        return {
            "model.vocabulary": tokens,
            "model.classes": tokens,
            "model.grid": (box.side, box.side),
            "model.box": self.box,
        }

    def examples(self, part: str) -> Examples:
        """Puzzles as tokens. With a curriculum the training puzzles of its first phase stand behind the others."""
        splits, box = splits_of(self), Box(*self.box)
        if part != "train":
            puzzles: Puzzles = getattr(splits, part)
            return Examples(_arrays(puzzles), levels=levels(puzzles, self.level_by, box))
        # Imported here: making puzzles needs no jax.
        from trm_jax.sudoku.augment import fingerprints

        shared = {"held_out": fingerprints(splits.held_out, box)}
        if not self.curriculum_fraction:
            return Examples(_arrays(splits.train), shared=shared)
        easy = curriculum_puzzles(self)
        both = Puzzles(*(np.concatenate(pair) for pair in zip(splits.train, easy, strict=True)))
        is_easy = np.arange(len(both.puzzles)) >= len(splits.train.puzzles)
        weights = np.stack([is_easy, ~is_easy]).astype(np.float64)
        return Examples(_arrays(both), weights, (0.0, self.curriculum_fraction), shared)

    def augment(self, key: Any, batch: Batch, shared: Mapping[str, Any]) -> Batch:
        """A random symmetry and relabelling of every puzzle."""
        if not self.augmented:
            return batch
        from trm_jax.sudoku.augment import augment_sudoku

        inputs, labels = augment_sudoku(key, batch["inputs"], batch["labels"], Box(*self.box), shared["held_out"])
        return {**batch, "inputs": inputs, "labels": labels}

    def score(self, prediction: Prediction, examples: Examples) -> dict[str, np.ndarray]:
        """The measures of `trm_jax.sudoku.puzzles.score`, averaged over the puzzles."""
        puzzles, solutions = (to_digits(examples.arrays[name]) for name in ("inputs", "labels"))
        measured = score(to_digits(prediction.classes), puzzles, solutions, Box(*self.box))
        return {name: values.mean(axis=-1) for name, values in measured.items()}

    def class_names(self) -> list[str]:
        """Padding, blank and the digits."""
        return ["padding", "blank", *map(str, range(1, Box(*self.box).side + 1))]

    def protocol(self) -> list[str]:
        """What the puzzles are, how many there are, and how far the parts are apart."""
        splits, side = splits_of(self), self.box[0] * self.box[1]
        leak = "no test solution is a relabelling of a training solution"
        if splits.overlap:
            leak = f"{splits.overlap:.1%} of the test solutions are relabellings of training solutions"
        source = f"Puzzles with exactly one solution and {_numbers(*self.blanks)} blanks"
        if self.train_file:
            source = f"Puzzles from {self.train_file}, tested on {self.test_file}"
        augmented = ", augmented by Sudoku symmetries" if self.augmented else ""
        return [
            f"{source}, {side}x{side}; {leak}.",
            f"{len(splits.train.puzzles)} training puzzles{augmented}; {len(splits.validation.puzzles)} validation "
            f"puzzles, {len(splits.test.puzzles)} test puzzles.",
        ]

    def remark(self) -> str:
        """The curriculum, where there is one."""
        if not self.curriculum_fraction:
            return ""
        return (
            f"the first {self.curriculum_fraction:.0%} of the updates draw other training puzzles instead, as many and "
            f"from the same classes of solutions, with {_numbers(*self.curriculum_blanks)} blanks."
        )


@cache
def splits_of(task: Sudoku) -> Splits:
    """The puzzles of a task, generated or read; the same task gives the same puzzles."""
    box, counts = Box(*task.box), (task.train, task.validation, task.test)
    if task.train_file:
        return read_splits(task.train_file, task.test_file, box, *counts)
    return split_puzzles(box, task.blanks, *counts, task.seed, task.split)


@cache
def curriculum_puzzles(task: Sudoku) -> Puzzles:
    """Training puzzles of the curriculum's first phase, made from solutions of the same classes as the others."""
    box, counts = Box(*task.box), (task.train, task.validation, task.test)
    # The division into classes depends on the seed and the counts, not on the blanks.
    easy = split_puzzles(box, task.curriculum_blanks, *counts, task.seed, task.split).train
    if solution_overlap(splits_of(task).test, easy, box):
        raise RuntimeError("a held-out solution is among the puzzles of the curriculum")
    return easy


def levels(puzzles: Puzzles, by: str, box: Box) -> np.ndarray:
    """Difficulty of every puzzle as text (N,): "0", "1-9" or "10+" guesses, or the number of blanks, "low-high" for all
    where there are more than MAX_LEVELS."""
    if by == "guesses":
        needed = [guesses(puzzle, box) for puzzle in puzzles.puzzles]
        return np.array(["0", "1-9", "10+"])[np.searchsorted([1, 10], needed, side="right")]
    blanks = (puzzles.puzzles == 0).sum(axis=1)
    counts = np.unique(blanks)
    if len(counts) > MAX_LEVELS:
        return np.full(len(blanks), f"{counts[0]}-{counts[-1]}")
    return blanks.astype(str)


def _arrays(puzzles: Puzzles) -> Batch:
    inputs, labels = to_tokens(puzzles)
    return {"inputs": inputs, "labels": labels}


def _numbers(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
