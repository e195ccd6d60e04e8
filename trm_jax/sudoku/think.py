"""More thought for a Sudoku at test time: rollouts judged by the rules, and a search that pins the surest cell.

A filled board that keeps the givens and obeys the rules is the solution of a puzzle with one solution, so no label is
needed to know that an answer is right.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trm_jax.core.rollouts import Choice, choose_by_halting
from trm_jax.core.task import Prediction
from trm_jax.sudoku.puzzles import to_digits
from trm_jax.sudoku.solver import Box, has_conflict, is_solution, units

Beliefs = Callable[[np.ndarray], np.ndarray]
"""From boards (N, cells) with 0 for a blank to probabilities of the digits (N, cells, side)."""


def obeys(answers: np.ndarray, puzzles: np.ndarray, box: Box) -> np.ndarray:
    """Whether digits (..., N, cells) are complete grids by the rules with the givens of puzzles (N, cells)."""
    return is_solution(answers, box) & ((puzzles == 0) | (answers == puzzles)).all(axis=-1)


def choose_by_rules(prediction: Prediction, K: int, puzzles: np.ndarray, box: Box) -> np.ndarray:
    """Of the first K rollouts the first answer that obeys the rules, else that of the halting head: (N_sup, N, cells).

    ``prediction`` is in tokens, as `trm_jax.core.rollouts.rollouts` gives it; puzzles and answer are digits.
    """
    digits = to_digits(np.asarray(prediction.classes)[:K])
    right: Any = obeys(digits, puzzles, box)
    first = np.take_along_axis(digits, right.argmax(axis=0)[None, ..., None], axis=0)[0]
    return np.where(right.any(axis=0)[..., None], first, to_digits(choose_by_halting(prediction, K)))


def chooser(inputs: np.ndarray, box: Box) -> Choice:
    """`choose_by_rules` for puzzles (N, cells) as one of the ways to choose; inputs and answers are tokens."""
    puzzles = to_digits(inputs)
    return lambda prediction, K: choose_by_rules(prediction, K, puzzles, box).astype(np.int32) + 1


@dataclass
class _Branch:
    """A puzzle in work: what may still stand where, and what to return to."""

    allowed: np.ndarray  # (cells, side)
    open: list[np.ndarray] = field(default_factory=list)
    rounds: int = 0
    answer: np.ndarray | None = None
    given_up: bool = False


def search(beliefs: Beliefs, puzzles: np.ndarray, box: Box, rounds: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Answers (N, cells) and the rounds each took (N,); an answer of zeros means that the search abstains.

    In every round the model reads the board. Where its most probable digits obey the rules that is the answer;
    otherwise the surest cell is pinned to its digit, digits that the pinned cell rules out are taken away from the
    others, and the next round begins. A cell without a digit left is a contradiction: the last pinned digit is ruled
    out instead. After ``rounds`` of them, or with nothing left to try, it abstains. Every answer was checked.
    """
    branches = [_Branch(np.ones((box.cells, box.side), bool)) for _ in puzzles]
    for branch, puzzle in zip(branches, puzzles, strict=True):
        for cell in np.flatnonzero(puzzle):
            _pin(branch.allowed, int(cell), int(puzzle[cell]) - 1, box)
    for _ in range(rounds):
        working = [n for n, branch in enumerate(branches) if branch.answer is None and not branch.given_up]
        for n in working:
            _take_back(branches[n], box)
        working = [n for n in working if not branches[n].given_up]
        if not working:
            break
        boards = np.stack([_board(branches[n].allowed) for n in working])
        for n, board, belief in zip(working, boards, beliefs(boards), strict=True):
            _think(branches[n], puzzles[n], board, belief, box)
    answers = [np.zeros(box.cells, np.int8) if branch.answer is None else branch.answer for branch in branches]
    return np.stack(answers), np.array([branch.rounds for branch in branches])


def _think(branch: _Branch, puzzle: np.ndarray, board: np.ndarray, belief: np.ndarray, box: Box) -> None:
    """One round: the answer, if the model has it, or one more pinned cell."""
    branch.rounds += 1
    answer = np.where(board > 0, board, belief.argmax(axis=-1) + 1).astype(np.int8)
    if obeys(answer, puzzle, box):
        branch.answer = answer
        return
    possible = np.where(branch.allowed & (board == 0)[:, None], belief, -1.0)
    cell, digit = divmod(int(possible.argmax()), box.side)
    if possible[cell, digit] < 0:  # every cell has one digit, and they are no solution
        branch.allowed[0] = False
        return
    without = branch.allowed.copy()
    without[cell, digit] = False
    branch.open.append(without)
    _pin(branch.allowed, cell, digit, box)


def _take_back(branch: _Branch, box: Box) -> None:
    """Leave boards on which some cell has no digit left, or that repeat a digit."""
    while not branch.allowed.any(axis=1).all() or has_conflict(_board(branch.allowed), box):
        if not branch.open:
            branch.given_up = True
            return
        branch.allowed = branch.open.pop()


def _board(allowed: np.ndarray) -> np.ndarray:
    """The digits of cells that have one left, 0 elsewhere."""
    return np.where(allowed.sum(axis=1) == 1, allowed.argmax(axis=1) + 1, 0).astype(np.int8)


def _pin(allowed: np.ndarray, cell: int, digit: int, box: Box) -> None:
    peers = np.unique(units(box)[(units(box) == cell).any(axis=1)])
    allowed[peers[peers != cell], digit] = False
    allowed[cell] = np.arange(box.side) == digit
