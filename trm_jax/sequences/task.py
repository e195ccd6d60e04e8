"""A CSV file of token sequences as a task for the engine: the smallest task there is, and a model for the next one."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from trm_jax.core.task import IGNORE, Examples, TokenTask
from trm_jax.sequences.csv_files import Pairs, encode, read_pairs
from trm_jax.support.schema import check_types, require

PAD = 0
"""Token behind a sequence that is shorter than the longest."""


@dataclass(frozen=True)
class Sequences(TokenTask):
    """Pairs of an input and a target; equal inputs are never on both sides of a split."""

    file: str = "pairs.csv"
    """CSV file with the columns input and target."""
    test_file: str = ""
    """CSV file to test on; without one a share of ``file`` is held out."""
    validation_fraction: float = 0.1
    """Share of the different inputs of ``file`` that validate."""
    test_fraction: float = 0.1
    """Share of the different inputs of ``file`` that are tested, where there is no test_file."""
    seed: int = 0
    """Seed of the division into parts."""

    name: ClassVar[str] = "sequences"
    example_name: ClassVar[tuple[str, str]] = ("sequence", "sequences")

    def __post_init__(self) -> None:
        check_types(self, "task.")
        for name in ("validation_fraction", "test_fraction"):
            require(0 < getattr(self, name) < 0.5, f"task.{name} must be between 0 and 0.5")

    def examples(self, part: str) -> Examples:
        """Tokens of a part; labels are IGNORE behind the end of a sequence."""
        return Examples(encoded(self)[part])

    def shape(self) -> dict[str, Any]:
        """Vocabulary and classes of the whole file, a grid of one row, and one answer where targets are one symbol."""
        tables, arrays = vocabularies(self), encoded(self)["train"]
        return super().shape() | {
            "model.vocabulary": len(tables[0]) + 1,
            "model.classes": len(tables[1]),
            "model.grid": (1, arrays["inputs"].shape[1]),
        }

    def class_names(self) -> list[str]:
        """The symbols of the targets."""
        return list(vocabularies(self)[1])

    def protocol(self) -> list[str]:
        """How many sequences there are, and where they come from."""
        counts = {part: len(arrays["labels"]) for part, arrays in encoded(self).items()}
        held_out = f"tested on {self.test_file}" if self.test_file else "no test input is a training input"
        return [
            f"Sequences from {self.file}, {held_out}; {counts['train']} train, {counts['validation']} validate, "
            f"{counts['test']} are tested."
        ]


@cache
def parts(task: Sequences) -> dict[str, Pairs]:
    """The pairs of every part. Raises ValueError where a part would be empty."""
    pairs = read_pairs(Path(task.file))
    groups: dict[str, list[int]] = {}
    for row, question in enumerate(pairs.inputs):
        groups.setdefault(" ".join(question), []).append(row)
    inputs = [list(groups)[index] for index in np.random.default_rng(task.seed).permutation(len(groups))]
    validation, test = (round(share * len(inputs)) for share in (task.validation_fraction, task.test_fraction))
    test = 0 if task.test_file else test
    names = {
        "validation": inputs[:validation],
        "test": inputs[validation : validation + test],
        "train": inputs[validation + test :],
    }
    rows = {part: [row for name in chosen for row in groups[name]] for part, chosen in names.items()}
    divided = {part: Pairs(*([column[row] for row in index] for column in pairs)) for part, index in rows.items()}
    if task.test_file:
        divided["test"] = read_pairs(Path(task.test_file))
    for part, chosen in divided.items():
        require(len(chosen.inputs) > 0, f"{task.file} has {len(inputs)} different inputs, too few for a {part} part")
    return divided


@cache
def vocabularies(task: Sequences) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers of the symbols of inputs (from 1, after PAD) and of targets (from 0)."""
    known = [pairs for part, pairs in parts(task).items() if part != "test" or not task.test_file]
    tables = []
    for column, first in enumerate((1, 0)):
        symbols = sorted({symbol for pairs in known for sequence in pairs[column] for symbol in sequence})
        tables.append({symbol: number for number, symbol in enumerate(symbols, start=first)})
    return tables[0], tables[1]


@cache
def encoded(task: Sequences) -> dict[str, dict[str, np.ndarray]]:
    """Inputs and labels of every part as tokens. Raises ValueError for a test symbol that no other row has."""
    tables, divided = vocabularies(task), parts(task)
    length = max(len(sequence) for pairs in divided.values() for sequence in pairs.inputs)
    pooled = all(len(target) == 1 for pairs in divided.values() for target in pairs.targets) and length > 1
    arrays = {}
    for part, pairs in divided.items():
        file = task.test_file if part == "test" and task.test_file else task.file
        try:
            inputs = encode(pairs.inputs, tables[0], length, PAD)
            labels = encode(pairs.targets, tables[1], 1 if pooled else length, IGNORE)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        arrays[part] = {"inputs": inputs, "labels": labels[:, 0] if pooled else labels}
    return arrays
