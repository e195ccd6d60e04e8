"""Maze grids against independent references: shortest paths of scipy, symmetries of numpy, hand-made answers."""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from trm_jax.maze import grids
from trm_jax.maze.csv_files import parse, read_csv, write_csv


def distance(maze: np.ndarray) -> float:
    """Steps from S to G, by scipy."""
    side = len(maze)
    cell = np.arange(side * side).reshape(side, side)
    is_open = maze != grids.WALL
    pairs = [
        np.stack([cell[:-1][is_open[:-1] & is_open[1:]], cell[1:][is_open[:-1] & is_open[1:]]]),
        np.stack([cell[:, :-1][is_open[:, :-1] & is_open[:, 1:]], cell[:, 1:][is_open[:, :-1] & is_open[:, 1:]]]),
    ]
    ends = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(side * side,) * 2).tocsr()
    start, goal = (int(cell[maze == token][0]) for token in (grids.START, grids.GOAL))
    return float(shortest_path(graph, directed=False, unweighted=True, indices=start)[goal])


@pytest.mark.parametrize(("kind", "sides"), [("perfect", (9, 11)), ("scattered", (8,))])
def test_made_mazes_are_different_and_their_ways_are_shortest(kind, sides):
    taken: set[bytes] = set()
    mazes = grids.generate(20, kind, sides, 4, np.random.default_rng(0), taken)
    assert [len(maze) for maze in mazes] == list(np.resize(sides, 20))
    assert len(taken) == len({grids.canonical(maze) for maze in mazes}) == 20
    for maze in mazes:
        assert grids.way_lengths(maze) == distance(maze) - 1 >= 4
        assert grids.is_way(maze, grids.question(maze), np.array(0))  # searched, not taken from its length


def test_a_perfect_maze_has_one_way_between_any_two_cells():
    maze = grids.perfect(11, np.random.default_rng(1))
    is_open = maze == grids.OPEN
    doors = (is_open[:-1] & is_open[1:]).sum() + (is_open[:, :-1] & is_open[:, 1:]).sum()
    assert doors == is_open.sum() - 1  # a tree, if it is connected
    assert is_open[1::2, 1::2].all()
    assert is_open.sum() == 25 + 24


def test_the_way_follows_the_convention_where_several_are_shortest():
    maze = parse("S  " + "   " + "  G")
    np.testing.assert_array_equal(grids.solve(maze), parse("S  " + "o  " + "ooG"))  # down before right


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        ("Soo#  o    G###o#  oo  oo", False),
        ("Sooo# ##o   #oo   #o   Go", True),
        ("S o # ##o   #oo   #o   Go", False),  # broken
        ("Sooo# ##o  o#oo   #o   Go", False),  # a cell beside the way
        ("Sooo# ##o   #oo   #o   G ", False),  # does not reach G
        ("#ooo# ##o   #oo   #o   Go", False),  # S is gone
    ],
)
def test_a_way_is_judged_by_the_rules(answer, valid):
    question = grids.question(parse("Sooo# ##o   #oo   #o   Go"))
    tokens = np.array([" # SGo".index(symbol, 1) if symbol != " " else 2 for symbol in answer])
    assert grids.is_way(tokens.reshape(5, 5), question, np.array(0)) == valid


def test_a_circle_apart_from_the_way_is_no_way():
    clear = parse("SG   " + "     " * 4)
    circle = parse("SG   " + "  ooo" + "  o o" + "  ooo" + "     ")
    assert grids.is_way(clear, clear, np.array(0))
    assert not grids.is_way(circle, clear, np.array(0))


def test_symmetries_are_those_of_numpy_and_all_different():
    grid = np.arange(9).reshape(3, 3)
    index = grids.symmetry_index(3)
    images = [grid, *(np.rot90(grid, k) for k in (1, 2, 3)), *(np.rot90(grid.T, k) for k in range(4))]
    np.testing.assert_array_equal(grid.reshape(-1)[index].reshape(8, 3, 3), images)
    assert len({image.tobytes() for image in images}) == 8


def test_a_file_comes_back_as_it_was_written_and_faults_are_named(tmp_path):
    mazes = np.stack(grids.generate(3, "scattered", (6,), 3, np.random.default_rng(2), set()))
    write_csv(tmp_path / "mazes.csv", mazes)
    np.testing.assert_array_equal(read_csv(tmp_path / "mazes.csv"), mazes)
    for text, message in [
        ("question\nS G\n", "row 1: 3 characters are not a square"),
        ("question\nS xG\n", "unknown character 'x'"),
        ("question\nSSG \n", "has 2 and 1"),
        ("question\nS##G\n", "no way leads"),
        ("question,answer\nS  G,SooG\n", "row 1: the answer is not a shortest way"),
        ("nothing\n", "needs a header"),
    ]:
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_csv(tmp_path / "bad.csv")


def test_the_mazes_of_maze_hard_are_solved_as_their_authors_did(data_root):
    read_csv(data_root / "maze_hard" / "test_500.csv")  # checks that every answer is a shortest way
    rows = (data_root / "maze_hard" / "train.csv").read_text().splitlines()[1:101]
    for row in rows:
        _, asked, answer, _ = row.split(",")
        np.testing.assert_array_equal(grids.solve(parse(asked)), parse(answer))
