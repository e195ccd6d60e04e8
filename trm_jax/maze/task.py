"""Mazes as a task for the engine: made or read from files, symmetries as augmentation, scores by the rules."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np

from trm_jax.core.task import Batch, Examples, Prediction, TokenTask
from trm_jax.maze import grids
from trm_jax.maze.csv_files import read_csv
from trm_jax.support.schema import check_types, require


@dataclass(frozen=True)
class Maze(TokenTask):
    """Find the shortest way from S to G; no two mazes have walls that are images of each other."""

    sides: tuple[int, ...] = (9,)
    """Cells a side, walls included; smaller mazes stand in the upper left corner of the largest, in walls."""
    kind: Literal["perfect", "scattered"] = "perfect"
    """Perfect: corridors with one way between any two cells, odd sides. Scattered: walls here and there, many ways."""
    shortest: int = 6
    """Fewest cells between S and G."""
    train: int = 2000
    """Training mazes."""
    validation: int = 256
    """Validation mazes (choose with these)."""
    test: int = 500
    """Test mazes (report these, once)."""
    augmented: bool = True
    """Turn and mirror the mazes inside the training step; the way is the one of the turned maze."""
    seed: int = 0
    """Seed of the mazes; shared by all arms."""
    same_for_seeds: bool = True
    """All training seeds share their mazes; false: every seed draws its own, by the sum of both seeds."""
    train_file: str = ""
    """CSV file with Maze-Hard columns to train and validate on, instead of made mazes."""
    test_file: str = ""
    """CSV file to test on; needed with train_file."""

    name: ClassVar[str] = "maze"
    example_name: ClassVar[tuple[str, str]] = ("maze", "mazes")
    level_name: ClassVar[str] = "cells a side"

    def __post_init__(self) -> None:
        check_types(self)
        require(len(self.sides) > 0 and min(self.sides) >= 5, f"task.sides must be 5 or more, got {self.sides}")
        odd = all(side % 2 for side in self.sides)
        require(odd or self.kind != "perfect", f"task.sides must be odd for task.kind=perfect, got {self.sides}")
        require(bool(self.train_file) == bool(self.test_file), "task.train_file and task.test_file go together")
        require(
            self.same_for_seeds or not self.train_file,
            "a file is the same for all seeds: set task.same_for_seeds=true with task.train_file",
        )
        for name in ("train", "validation", "test"):
            require(getattr(self, name) >= 1, f"task.{name} must be at least 1, got {getattr(self, name)}")

    def for_seed(self, seed: int) -> "Maze":
        """The mazes of one training seed."""
        return self if self.same_for_seeds else replace(self, seed=self.seed + seed, same_for_seeds=True)

    def shape(self) -> dict[str, Any]:
        """Tokens and classes of a maze, and its grid."""
        side = mazes_of(self)["test"].shape[-1] if self.train_file else max(self.sides)
        tokens = len(grids.SYMBOLS) + 1
        return {"model.vocabulary": tokens, "model.classes": tokens, "model.grid": (side, side)}

    def examples(self, part: str) -> Examples:
        """Mazes as tokens; for training also the answers under every symmetry, "answers" (N, 8, L)."""
        solved = mazes_of(self)[part]
        arrays = {"inputs": _flat(grids.question(solved)), "labels": _flat(solved)}
        if part == "train" and self.augmented:
            arrays["answers"] = _answers(self)
        levels = None
        if len(self.sides) > 1 and not self.train_file:
            levels = np.resize(self.sides, len(solved)).astype(str)
        return Examples(arrays, shared={"index": grids.symmetry_index(solved.shape[-1])}, levels=levels)

    def augment(self, key: Any, batch: Batch, shared: Mapping[str, Any]) -> Batch:
        """A random symmetry of the square for every maze."""
        if not self.augmented:
            return batch
        # Imported here: making mazes needs no jax.
        import jax
        import jax.numpy as jnp

        rows = jnp.arange(len(batch["inputs"]))
        symmetry = jax.random.randint(key, rows.shape, 0, grids.SYMMETRIES)
        inputs = jnp.take_along_axis(batch["inputs"], jnp.asarray(shared["index"])[symmetry], axis=1)
        labels = jnp.asarray(batch["answers"])[rows, symmetry].astype(batch["labels"].dtype)
        return {**batch, "inputs": inputs, "labels": labels}

    def score(self, prediction: Prediction, examples: Examples) -> dict[str, np.ndarray]:
        """Shares (S, N_sup): ``exact``, ``cells``, ``valid`` (any way from S to G), ``shortest`` (a shortest way)."""
        side = int(np.sqrt(examples.arrays["labels"].shape[-1]))
        answers = prediction.classes.reshape(*prediction.classes.shape[:-1], side, side)
        questions, labels = (examples.arrays[name].reshape(-1, side, side) for name in ("inputs", "labels"))
        lengths = grids.way_lengths(labels)
        valid = grids.is_way(answers, questions, lengths)
        shortest = valid & (grids.way_lengths(answers) == lengths)
        measured = {"valid": valid.mean(axis=-1), "shortest": shortest.mean(axis=-1)}
        return super().score(prediction, examples) | measured

    def class_names(self) -> list[str]:
        """Padding, wall, open, start, goal and way."""
        return ["padding", "wall", "open", "start", "goal", "way"]

    def protocol(self) -> list[str]:
        """What the mazes are and how many there are."""
        mazes = mazes_of(self)
        counts = {part: len(solved) for part, solved in mazes.items()}
        source = f"Mazes ({self.kind}) of {', '.join(map(str, self.sides))} cells a side, walls included"
        if self.train_file:
            source = f"Mazes from {self.train_file}, tested on {self.test_file}"
        trained = {grids.canonical(maze) for maze in mazes["train"]}
        leaked = np.mean([grids.canonical(maze) in trained for maze in mazes["test"]])
        return [
            f"{source}; {leaked:.1%} of the test mazes have the walls of a training maze under some symmetry.",
            f"{counts['train']} training mazes{', turned and mirrored' if self.augmented else ''}; "
            f"{counts['validation']} validation mazes, {counts['test']} test mazes.",
        ]


@cache
def mazes_of(task: Maze) -> dict[str, np.ndarray]:
    """Solved mazes of every part, each (N, side, side); the same task gives the same mazes."""
    if task.train_file:
        known, tested = read_csv(task.train_file), read_csv(task.test_file)
        if len(known) <= task.validation:
            raise ValueError(
                f"{task.train_file} has {len(known)} mazes, and task.validation={task.validation} leaves none to train "
                "on"
            )
        fitted = known[: -task.validation][: task.train]
        return {"train": fitted, "validation": known[-task.validation :], "test": tested[: task.test]}
    taken: set[bytes] = set()
    largest = max(task.sides)
    mazes = {}
    for part, seed in zip(("test", "validation", "train"), np.random.SeedSequence(task.seed).spawn(3), strict=True):
        random = np.random.default_rng(seed)
        made = grids.generate(getattr(task, part), task.kind, task.sides, task.shortest, random, taken)
        walls = [[(0, largest - len(maze))] * 2 for maze in made]
        mazes[part] = np.stack([np.pad(m, w, constant_values=grids.WALL) for m, w in zip(made, walls, strict=True)])
    return mazes


@cache
def _answers(task: Maze) -> np.ndarray:
    """Answers of the training mazes under every symmetry, (N, 8, L) int8.

    A symmetry of an answer is not always the answer of the symmetry: which of several shortest ways counts depends on
    the order of directions. So they are searched anew, except where there is one way anyway.
    """
    solved = mazes_of(task)["train"]
    images = [grids.transform(solved, symmetry) for symmetry in range(grids.SYMMETRIES)]
    if task.kind == "scattered" or task.train_file:
        images = [np.stack([_way(maze) for maze in grids.question(image)]) for image in images]
    return np.stack(images, axis=1).reshape(len(solved), grids.SYMMETRIES, -1)


def _way(maze: np.ndarray) -> np.ndarray:
    solved = grids.solve(maze)
    if solved is None:
        raise RuntimeError("a turned maze has no way, the maze itself has one")
    return solved


def _flat(mazes: np.ndarray) -> np.ndarray:
    return mazes.reshape(len(mazes), -1).astype(np.int32)
