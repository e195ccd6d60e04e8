"""Pairs of sequences from a CSV file with the columns ``input`` and ``target``.

A sequence is a row of symbols: words between spaces if it has any, else its characters.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

MAX_ROWS, MAX_LENGTH = 5_000_000, 4096


class Pairs(NamedTuple):
    """N pairs as lists of symbols."""

    inputs: list[list[str]]
    targets: list[list[str]]


def read_pairs(path: Path) -> Pairs:
    """Read a file of pairs. Every target has as many symbols as its input, or every target is one symbol.

    Raises FileNotFoundError, or ValueError that names the file, the row (from 1) and what is wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; give a CSV file with the columns input and target")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", nrows=MAX_ROWS + 1)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV file: {error}") from None
    missing = [name for name in ("input", "target") if name not in table.columns]
    if missing:
        raise ValueError(f"{path} has no column {' and no column '.join(missing)}; its header is {list(table.columns)}")
    if not 0 < len(table) <= MAX_ROWS:
        raise ValueError(f"{path} must have 1 to {MAX_ROWS:,} rows below its header")
    pairs = Pairs([symbols(text) for text in table["input"]], [symbols(text) for text in table["target"]])
    pooled = all(len(target) == 1 for target in pairs.targets)
    for number, (question, answer) in enumerate(zip(*pairs, strict=True), start=1):
        if not 0 < len(question) <= MAX_LENGTH:
            raise ValueError(f"{path}, row {number}: the input must have 1 to {MAX_LENGTH} symbols")
        if len(answer) != len(question) and not pooled:
            raise ValueError(
                f"{path}, row {number}: the input has {len(question)} symbols and the target {len(answer)}; they must "
                "have equally many, or every target of the file exactly one"
            )
    return pairs


def symbols(text: str) -> list[str]:
    """Symbols of a sequence: its words, or its characters where it is one word."""
    words = text.split()
    return words if len(words) > 1 else list(text.strip())


def encode(sequences: list[list[str]], table: dict[str, int], length: int, fill: int) -> np.ndarray:
    """Numbers of symbols, (N, length) int32, with ``fill`` behind shorter sequences.

    Raises ValueError for a symbol that the table does not have.
    """
    numbers = np.full((len(sequences), length), fill, np.int32)
    for row, sequence in enumerate(sequences):
        unknown = [symbol for symbol in sequence if symbol not in table]
        if unknown:
            raise ValueError(f"row {row + 1} has the symbol {unknown[0]!r}, which no training row has")
        numbers[row, : len(sequence)] = [table[symbol] for symbol in sequence]
    return numbers
