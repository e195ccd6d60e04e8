"""The moving picture of a puzzle: its frames are the model's answers, and it is SVG."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from trm_jax.export.source import read_source
from trm_jax.sudoku.answers import Answers, answer, parse_puzzle
from trm_jax.sudoku.solver import Box
from trm_jax.think import picture

BOX = Box(2, 2)
PUZZLE = parse_puzzle("1.....3..4.....2", BOX)


@pytest.fixture(scope="module")
def source():
    return read_source(Path(__file__).resolve().parents[2] / "checkpoints" / "sudoku-4x4")


def test_frames_are_the_answers_of_every_step(source):
    answers = answer(source.config, source.params, PUZZLE[None], BOX)
    shown = picture.frames(source.config, source.params, PUZZLE, BOX)
    assert len(shown) == 1 + source.config.recursion.N_sup and len(shown[0]["cells"]) == 4
    for frame, digits, belief, holds in zip(shown[1:], answers.digits, answers.belief, answers.holds, strict=True):
        board = PUZZLE.copy()
        for cell in frame["cells"]:
            board[4 * cell["row"] + cell["column"]] = cell["digit"]
        np.testing.assert_array_equal(board, np.where(PUZZLE, PUZZLE, digits[0]))
        assert ("the rules hold" in frame["text"]) == holds[0] and f"{belief[0]:.0%}" in frame["text"]
    root = ElementTree.fromstring(picture.draw(shown, BOX))
    groups = [node for node in root if node.get("class", "").startswith("frame")]
    assert [node[-1].text for node in groups] == [frame["text"] for frame in shown]


def test_the_slowest_puzzle_is_solved_last_and_stays_solved(monkeypatch):
    holds = np.array([[1, 0, 0, 1], [1, 0, 1, 0], [1, 0, 1, 1]], bool)
    monkeypatch.setattr(picture, "answer", lambda *_: Answers(np.zeros((3, 4, 16)), np.zeros((3, 4)), holds))
    assert picture.slowest(None, None, np.zeros((4, 16)), BOX) == 3
