"""Maze files in the layout of Maze-Hard: columns question and answer, a maze a line, row by row."""

import csv
import math
from pathlib import Path

import numpy as np

from trm_jax.maze.grids import SYMBOLS, is_way, question, solve, way_lengths

TOKENS = {symbol: token for token, symbol in enumerate(SYMBOLS, start=1)}


def read_csv(path: str | Path) -> np.ndarray:
    """The solved mazes of a file, (N, side, side) int8; those without an answer are solved.

    Raises FileNotFoundError, or ValueError for the first row that is not a square maze with a shortest way.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file at {path}; give the path of a CSV file with a column 'question'")
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = list(csv.DictReader(file))
    if not rows or "question" not in rows[0]:
        raise ValueError(f"{path} needs a header with a column 'question' and at least one row below it")
    mazes = [_solved(row, f"{path}, row {number}") for number, row in enumerate(rows, start=1)]
    sides = {len(maze) for maze in mazes}
    if len(sides) > 1:
        raise ValueError(f"{path} holds mazes of different sides ({', '.join(map(str, sorted(sides)))}); split it")
    return np.stack(mazes)


def _solved(row: dict[str, str], where: str) -> np.ndarray:
    maze = parse(row["question"] or "", where)
    solved = solve(maze)
    if solved is None:
        raise ValueError(f"{where}: no way leads from S to G")
    if not row.get("answer"):
        return solved
    answer = parse(row["answer"], where)
    length = way_lengths(solved)
    if answer.shape != maze.shape or way_lengths(answer) != length or not is_way(answer, maze, length):
        raise ValueError(f"{where}: the answer is not a shortest way of the question")
    return answer


def parse(text: str, where: str = "the maze") -> np.ndarray:
    """A maze from its characters, (side, side) int8. Raises ValueError for anything else than a square maze."""
    side = math.isqrt(len(text))
    if side < 2 or side * side != len(text):
        raise ValueError(f"{where}: {len(text)} characters are not a square maze")
    unknown = sorted(set(text) - set(SYMBOLS))
    if unknown:
        raise ValueError(
            f"{where}: unknown character {unknown[0]!r}; a maze is made of {', '.join(map(repr, SYMBOLS))}"
        )
    grid = np.array([TOKENS[symbol] for symbol in text], np.int8).reshape(side, side)
    if [text.count("S"), text.count("G")] != [1, 1]:
        raise ValueError(f"{where}: a maze has one S and one G, this has {text.count('S')} and {text.count('G')}")
    return grid


def write_csv(path: str | Path, solved: np.ndarray) -> None:
    """Write solved mazes (N, side, side) with the columns question and answer."""
    symbols = np.array(["?", *SYMBOLS])
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["question", "answer"])
        for maze in solved:
            writer.writerow(["".join(symbols[grid].reshape(-1)) for grid in (question(maze), maze)])
