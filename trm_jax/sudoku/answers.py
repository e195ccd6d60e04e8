"""Answers of a model to puzzles, step by step, judged by the rules alone."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from trm_jax.core.config import Config
from trm_jax.core.predict import predict
from trm_jax.core.rollouts import rollouts
from trm_jax.sudoku.puzzles import PAD, Puzzles, to_digits, to_tokens
from trm_jax.sudoku.solver import Box, has_conflict, is_solution, units
from trm_jax.sudoku.think import Beliefs, choose_by_rules, obeys, search
from trm_jax.support.files import write_text
from trm_jax.support.schema import require


class Answers(NamedTuple):
    """What one model answers to N puzzles after each supervision step."""

    digits: np.ndarray
    """(steps, N, cells) int8."""
    belief: np.ndarray
    """(steps, N) probability, by the halting head, that the answer is right."""
    holds: np.ndarray
    """(steps, N) whether the answer keeps the givens and the rules."""

    def chosen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The first answer that holds, or else the last: digits (N, cells), whether it holds and steps (N,)."""
        solved = np.asarray(self.holds.any(axis=0))
        step = np.where(solved, self.holds.argmax(axis=0), len(self.holds) - 1)
        return self.digits[step, np.arange(len(step))], solved, step + 1


def answer(config: Config, params: Any, puzzles: np.ndarray, box: Box, steps: int = 0) -> Answers:
    """Answers to puzzles (N, cells) after each of ``steps`` supervision steps (0: as many as the model was trained on).

    Raises ValueError for puzzles of another size than the model's.
    """
    cells = config.model.cells
    require(puzzles.shape[1] == cells, f"the model takes puzzles of {cells} cells, got {puzzles.shape[1]}")
    config = config.override(**{"recursion.N_sup": steps or config.recursion.N_sup})
    output = predict(config, params, puzzles.astype(np.int32) + PAD + 1, inference=True)
    digits = to_digits(output.classes)
    keeps = ((puzzles == 0) | (digits == puzzles)).all(axis=-1)
    return Answers(digits, np.asarray(output.halt), keeps & is_solution(digits, box))


def try_often(
    config: Config, params: Any, puzzles: np.ndarray, box: Box, steps: int, tries: int, noise: float
) -> Answers:
    """The same with that many rollouts, all but the first with noise: at every step the first that keeps the rules, or
    else the one that the halting head believes most."""
    config = config.override(**{"recursion.N_sup": steps or config.recursion.N_sup})
    params = jax.tree.map(jnp.asarray, params)
    found = rollouts(config, params, to_tokens(Puzzles(puzzles, puzzles))[0], jax.random.key(0), tries, noise)
    digits = choose_by_rules(found, tries, puzzles, box)
    return Answers(digits, np.asarray(found.halt).max(axis=0), np.asarray(obeys(digits, puzzles, box)))


def search_for(
    config: Config, params: Any, puzzles: np.ndarray, box: Box, steps: int, rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Digits (N, cells) by `trm_jax.sudoku.think.search`, whether each is solved, and the rounds it took.

    The digits are zeros where the search abstains.
    """
    config = config.override(**{"recursion.N_sup": steps or config.recursion.N_sup})
    digits, used = search(beliefs(config, jax.tree.map(jnp.asarray, params), box), puzzles, box, rounds)
    return digits, np.asarray((digits > 0).all(axis=-1)), used


def beliefs(config: Config, params: Any, box: Box, batch: int = 64) -> Beliefs:
    """A trained model as the guide of `trm_jax.sudoku.think.search`: probabilities after its last step."""

    @jax.jit
    def probabilities(inputs):
        logits = predict(config, params, inputs, None, batch, lambda output: output.logits, True)[-1]
        return jax.nn.softmax(logits[..., 2:], axis=-1)

    def believe(boards: np.ndarray) -> np.ndarray:
        tokens = to_tokens(Puzzles(boards, boards))[0]
        size = -(-len(tokens) // batch) * batch  # few sizes, few programs
        padded = np.pad(tokens, ((0, size - len(tokens)), (0, 0)), constant_values=1)
        return np.asarray(probabilities(padded))[: len(tokens)]

    return believe


def hardest_solved(config: Config, params: Any, puzzles: np.ndarray, box: Box) -> int:
    """Which of N puzzles has the most wrong cells after the first step among those that are solved after the last."""
    answers = answer(config, params, puzzles, box)
    changed = (answers.digits[0] != answers.digits[-1]).sum(axis=-1)
    return int((changed * answers.holds[-1]).argmax())


def broken_cells(digits: np.ndarray, puzzle: np.ndarray, box: Box) -> np.ndarray:
    """Mask (cells,) of digits that occur twice in a unit, differ from a given, or are no digit."""
    broken = ((puzzle != 0) & (digits != puzzle)) | (digits == 0)
    for unit in units(box):
        counts = np.bincount(digits[unit], minlength=box.side + 1)
        broken[unit] |= counts[digits[unit]] > 1
    return broken


def parse_puzzle(text: str, box: Box) -> np.ndarray:
    """A puzzle written as digits, with ``.`` or ``0`` for a blank; (cells,) int8.

    Raises ValueError for another length, a character that is no digit of this board, or givens that contradict.
    """
    allowed = ".0123456789"[: box.side + 2]
    cells = [character for character in text if not character.isspace()]
    require(
        len(cells) == box.cells, f"the puzzle has {len(cells)} cells; a {box.side}x{box.side} board has {box.cells}"
    )
    wrong = next((place for place, cell in enumerate(cells) if cell not in allowed), None)
    if wrong is not None:
        raise ValueError(f"cell {wrong + 1} is {cells[wrong]!r}; cells are digits 1 to {box.side}, or . for a blank")
    puzzle = np.array([0 if cell == "." else int(cell) for cell in cells], np.int8)
    require(not has_conflict(puzzle, box), "the givens contradict: a digit is twice in a row, column or box")
    return puzzle


def draw_board(digits: np.ndarray, box: Box, broken: np.ndarray | None = None) -> str:
    """A board as text, boxes apart; a blank is a dot, and a ``broken`` cell has an exclamation mark behind it."""
    marks = ["!" if mark else " " for mark in (np.zeros(box.cells, bool) if broken is None else broken)]
    cells = [f"{digit or '.'}{mark}" for digit, mark in zip(digits.tolist(), marks, strict=True)]
    lines = []
    for row in range(box.side):
        if row and row % box.rows == 0:
            lines.append("")
        line = cells[row * box.side : (row + 1) * box.side]
        parts = [" ".join(line[start : start + box.cols]) for start in range(0, box.side, box.cols)]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def show(config: Config, params: Any, puzzle: np.ndarray, box: Box, steps: int) -> bool:
    """Print the board after each step; whether the last one is a solution."""
    answers = answer(config, params, puzzle[None], box, steps)
    print(f"Puzzle\n\n{draw_board(puzzle, box)}")
    for step, (digits, belief) in enumerate(zip(answers.digits[:, 0], answers.belief[:, 0], strict=True), start=1):
        broken = broken_cells(digits, puzzle, box)
        verdict = "the rules hold" if answers.holds[step - 1, 0] else f"{int(broken.sum())} cells break the rules (!)"
        print(f"\nStep {step}: {verdict}, belief {belief:.3f}\n\n{draw_board(digits, box, broken)}")
    solved = bool(answers.holds[-1, 0])
    print("\nSolved." if solved else "\nNot solved.")
    return solved


def write_answers(path: Path, puzzles: np.ndarray, digits: np.ndarray, solved: np.ndarray, steps: np.ndarray) -> None:
    """Write a row for every puzzle; the file appears complete or not at all."""
    texts = {name: ["".join(str(digit or ".") for digit in grid) for grid in grids.tolist()]
             for name, grids in (("question", puzzles), ("answer", digits))}  # fmt: skip
    rows = pd.DataFrame({"row": np.arange(1, len(puzzles) + 1), **texts})
    rows["solved"], rows["steps"] = np.where(solved, "true", "false"), steps
    write_text(path, rows.to_csv(index=False))
