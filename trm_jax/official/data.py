"""Data sets in the official layout (dataset/build_*.py) as a task: train/ and test/ with dataset.json and .npy files.

In a set the examples lie one after another; ``puzzle_indices`` says where each puzzle begins, ``group_indices`` where
each group of puzzles (a puzzle and its augmented copies) does.
"""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from trm_jax.core.task import IGNORE, Examples, TokenTask, repeated_inputs
from trm_jax.support.files import DAMAGE, one_line, read_json
from trm_jax.support.schema import check_types, require


class Part(NamedTuple):
    """The examples of train/ or test/."""

    inputs: np.ndarray  # (N, seq_len)
    labels: np.ndarray  # (N, seq_len), IGNORE where a cell does not count
    puzzle: np.ndarray  # (N,) identifiers
    group: np.ndarray  # (N,)
    weight: np.ndarray  # (N,) one over the puzzles of its group: the official code draws groups, then one puzzle
    dataset: dict[str, Any]


@dataclass(frozen=True)
class OfficialFolder(TokenTask):
    """A data set in the official layout; whole groups of train/ validate, because there is no third part."""

    folder: str = "data"
    """Folder with train/ and test/."""
    validation_fraction: float = 0.1
    """Share of the groups of train/ that validate, at least one."""

    name: ClassVar[str] = "official_folder"
    example_name: ClassVar[tuple[str, str]] = ("puzzle", "puzzles")

    def __post_init__(self) -> None:
        check_types(self)
        require(0 < self.validation_fraction < 0.5, "task.validation_fraction must be between 0 and 0.5")

    def examples(self, part: str) -> Examples:
        """Tokens, labels and puzzle identifiers; training draws every group alike."""
        if part == "test":
            return _examples(read_part(self.folder, "test"))
        read = read_part(self.folder, "train")
        groups = int(read.group[-1]) + 1
        require(groups > 1, f"{self.folder}/train has one group of puzzles: nothing is left to validate with")
        held = read.group >= groups - max(1, round(self.validation_fraction * groups))
        chosen = _examples(read).take(held if part == "validation" else ~held)
        weight = read.weight[~held]
        uneven = part == "train" and np.ptp(weight) > 0
        return chosen._replace(weights=weight[None]) if uneven else chosen

    def shape(self) -> dict[str, Any]:
        """Vocabulary, length and number of puzzles of the whole data set, as its dataset.json says."""
        dataset = read_part(self.folder, "train").dataset
        return {
            "model.vocabulary": dataset["vocab_size"],
            "model.classes": dataset["vocab_size"],
            "model.grid": (1, dataset["seq_len"]),
            "model.puzzles": dataset["num_puzzle_identifiers"],
            "model.readout": "cell",
        }

    def protocol(self) -> list[str]:
        """How many puzzles there are, and how many test inputs are training inputs."""
        counts = [len(self.examples(part).arrays["labels"]) for part in ("train", "validation", "test")]
        return [
            f"Puzzles from {self.folder}; {counts[0]} train, {counts[1]} validate (whole groups of train/), "
            f"{counts[2]} are tested; {repeated(self.folder)} of these are training inputs too."
        ]


def _examples(part: Part) -> Examples:
    return Examples({"inputs": part.inputs, "labels": part.labels, "puzzle": part.puzzle})


def is_folder(path: Path) -> bool:
    """Whether a path is a data set in the official layout."""
    return (path / "test" / "dataset.json").is_file()


@cache
def repeated(folder: str) -> int:
    """Number of test inputs that are training inputs of the same puzzle identifier, with a line if there are any."""
    train, test = (_examples(read_part(folder, part)).arrays for part in ("train", "test"))
    count = repeated_inputs(train, test)
    if count:
        print(f"{folder}: {count} of {len(test['inputs'])} test inputs are training inputs too", file=sys.stderr)
    return count


@cache
def read_part(folder: str, part: str) -> Part:
    """Every set of train/ or test/, checked. Raises FileNotFoundError, or ValueError that names the file."""
    path = Path(folder) / part
    dataset = _dataset(path / "dataset.json")
    sets = [_read_set(path, name, dataset) for name in dataset.get("sets", ["all"])]
    require(len(sets) > 0, f"{path / 'dataset.json'} names no sets")
    first = np.cumsum([0, *(read.group[-1] + 1 for read in sets)])
    inputs, labels, puzzle, weight = (
        np.concatenate([getattr(read, name) for read in sets]) for name in ("inputs", "labels", "puzzle", "weight")
    )
    group = np.concatenate([read.group + start for read, start in zip(sets, first[:-1], strict=True)])
    return Part(inputs, labels, puzzle, group, weight, dataset)


def _dataset(path: Path) -> dict[str, Any]:
    require(path.is_file(), f"no {path.name} in {path.parent}: not a data set in the official layout")
    dataset = read_json(path)
    needed = ("seq_len", "vocab_size", "num_puzzle_identifiers")
    missing = [name for name in needed if type(dataset.get(name)) is not int]
    require(not missing, f"{path} gives no whole number for {', '.join(missing)}")
    return dataset


def _read_set(path: Path, name: str, dataset: dict[str, Any]) -> Part:
    inputs, labels, identifiers, puzzles, groups = (
        _array(path / f"{name}__{column}.npy")
        for column in ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")
    )
    length, vocabulary = dataset["seq_len"], dataset["vocab_size"]
    for column, values, limit in (
        ("inputs", inputs, vocabulary),
        ("labels", labels, vocabulary),
        ("puzzle_identifiers", identifiers, dataset["num_puzzle_identifiers"]),
    ):
        file = path / f"{name}__{column}.npy"
        require(values.size > 0, f"{file} is empty")
        # -100 is what some builders write for a cell that does not count.
        low, high = int(values[values != IGNORE].min(initial=0)), int(values.max())
        require(
            low >= 0 and high < limit, f"{file} has values from {low} to {high}; dataset.json allows 0 to {limit - 1}"
        )
    require(
        inputs.shape == labels.shape and inputs.shape[1:] == (length,),
        f"{path}: inputs {inputs.shape} and labels {labels.shape} must both be (N, {length})",
    )
    of_puzzle = _members(puzzles, len(inputs), path / f"{name}__puzzle_indices.npy")
    group_of_puzzle = _members(groups, len(identifiers), path / f"{name}__group_indices.npy")
    require(of_puzzle[-1] + 1 == len(identifiers), f"{path}: {len(identifiers)} puzzle identifiers for other puzzles")
    ignored = dataset.get("ignore_label_id")
    labels = labels.astype(np.int32)
    if ignored is not None:
        labels = np.where(labels == ignored, IGNORE, labels)
    group = group_of_puzzle[of_puzzle]
    weight = 1.0 / np.bincount(group_of_puzzle)[group]
    return Part(inputs.astype(np.int32), labels, identifiers.astype(np.int32)[of_puzzle], group, weight, dataset)


def _members(starts: np.ndarray, count: int, path: Path) -> np.ndarray:
    """Which span between ``starts`` (spans + 1,) each of ``count`` members lies in."""
    fits = starts.ndim == 1 and len(starts) > 1 and starts[0] == 0 and starts[-1] == count
    require(bool(fits and (np.diff(starts) >= 0).all()), f"{path} does not divide {count} entries from the first on")
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def _array(path: Path) -> np.ndarray:
    require(path.is_file(), f"no {path.name} in {path.parent}: the data set is not complete")
    try:
        values = np.load(path, allow_pickle=False)
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged or no .npy file: {one_line(error)}") from None
    require(isinstance(values, np.ndarray) and values.dtype.kind in "iu", f"{path} does not hold whole numbers")
    return values
