"""The moving picture of a puzzle: its frames are the model's answers, and it is SVG."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from trm_jax.core.predict import everything, predict
from trm_jax.core.task import task_from_options
from trm_jax.export.source import read_source
from trm_jax.maze import grids
from trm_jax.maze.task import Maze
from trm_jax.sudoku.answers import answer, parse_puzzle
from trm_jax.sudoku.solver import Box
from trm_jax.think import picture

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
BOX = Box(2, 2)
PUZZLE = parse_puzzle("1.....3..4.....2", BOX)


@pytest.fixture(scope="module")
def source():
    return read_source(CHECKPOINTS / "sudoku-4x4")


def test_frames_are_the_answers_of_every_step(source):
    answers = answer(source.config, source.params, PUZZLE[None], BOX)
    shown = picture.sudoku_frames(source.config, source.params, PUZZLE, BOX)
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


def test_the_slowest_puzzle_is_solved_last_and_stays_solved():
    holds = np.array([[1, 0, 0, 1], [1, 0, 1, 0], [1, 0, 1, 1]], bool)
    assert picture.slowest(holds) == 3


def test_the_way_of_a_maze_is_the_answer_of_every_step():
    source = read_source(CHECKPOINTS / "maze")
    arrays = task_from_options(Maze, source.task).examples("test").arrays
    maze, solved = (arrays[name][0].reshape(9, 9) for name in ("inputs", "labels"))
    output = predict(source.config, source.params, arrays["inputs"][:1], reduce=everything, inference=True)
    answered = np.asarray(output.logits)[:, 0].argmax(axis=-1).reshape(-1, 9, 9)
    shown = picture.maze_frames(source.config, source.params, maze)
    assert [cell["digit"] for cell in shown[0]["cells"]] == ["S", "G"]
    for frame, cells in zip(shown[1:], answered, strict=True):
        way = np.zeros((9, 9), bool)
        for cell in frame["cells"]:
            way[cell["row"], cell["column"]] = True
        np.testing.assert_array_equal(way, (cells == grids.PATH) & (maze == grids.OPEN))
        right = int((way & (solved == grids.PATH)).sum())
        assert f": {right} of {(solved == grids.PATH).sum()} cells right, {way.sum() - right} wrong" in frame["text"]
    root = ElementTree.fromstring(picture.draw(shown, maze))
    walls = [node for node in root if node.get("class") == "wall"]
    assert len(walls) == (maze == grids.WALL).sum()
