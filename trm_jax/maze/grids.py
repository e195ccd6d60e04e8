"""Maze grids: making them, the way through them, their symmetries, and the rules of an answer.

A grid is a (side, side) array of the tokens below. The way of a maze with several shortest ones is the one that
breadth-first search from S finds when it looks down, left, right, up: the convention of Maze-Hard.
"""

from collections import deque
from collections.abc import Callable

import numpy as np

SYMBOLS = "# SGo"
"""Characters of the tokens 1 to 5; token 0 is padding."""
WALL, OPEN, START, GOAL, PATH = range(1, 6)
STEPS = ((1, 0), (0, -1), (0, 1), (-1, 0))
SYMMETRIES = 8


def transform(grids: np.ndarray, symmetry: int) -> np.ndarray:
    """Grids (..., side, side) under one of the 8 symmetries of the square: a mirror image (4 to 7), then turned."""
    mirrored = grids.swapaxes(-1, -2) if symmetry >= 4 else grids
    return np.rot90(mirrored, symmetry % 4, axes=(-2, -1))


def symmetry_index(side: int) -> np.ndarray:
    """The symmetries as gather indices (8, side * side): ``cells[index[k]]`` are those of ``transform(grid, k)``."""
    cell = np.arange(side * side).reshape(side, side)
    return np.stack([transform(cell, symmetry).reshape(-1) for symmetry in range(SYMMETRIES)])


def canonical(grid: np.ndarray) -> bytes:
    """The walls of a maze, the same for all its images under symmetries."""
    walls = grid == WALL
    return min(transform(walls, symmetry).tobytes() for symmetry in range(SYMMETRIES))


def solve(grid: np.ndarray) -> np.ndarray | None:
    """The grid with PATH on the way from S to G, or None where there is none. Raises ValueError without one S and G."""
    starts, goals = np.argwhere(grid == START), np.argwhere(grid == GOAL)
    if len(starts) != 1 or len(goals) != 1:
        raise ValueError(f"a maze has one S and one G, this has {len(starts)} and {len(goals)}")
    start, goal = tuple(starts[0].tolist()), tuple(goals[0].tolist())
    parents, queue = {start: start}, deque([start])
    while queue and goal not in parents:
        cell = queue.popleft()
        for neighbour in _open_neighbours(grid, cell):
            if neighbour not in parents:
                parents[neighbour] = cell
                queue.append(neighbour)
    if goal not in parents:
        return None
    solved, cell = grid.copy(), parents[goal]
    while cell != start:
        solved[cell] = PATH
        cell = parents[cell]
    return solved


def _open_neighbours(grid: np.ndarray, cell: tuple[int, int]) -> list[tuple[int, int]]:
    around = [(cell[0] + down, cell[1] + right) for down, right in STEPS]
    height, width = grid.shape
    return [
        (row, column)
        for row, column in around
        if 0 <= row < height and 0 <= column < width and grid[row, column] > WALL
    ]


def perfect(side: int, random: np.random.Generator) -> np.ndarray:
    """Walls and corridors without a circle, (side, side) with an odd side: one way between any two open cells.

    A random walk that digs. Mostly it goes on from where it is and turns back at dead ends, which makes long corridors;
    now and then it starts a branch at any room behind it.
    """
    grid = np.full((side, side), WALL, np.int8)
    rooms = [tuple(int(n) for n in 2 * random.integers(side // 2, size=2) + 1)]
    grid[rooms[0]] = OPEN
    while rooms:
        place = len(rooms) - 1 if random.random() < 0.8 else int(random.integers(len(rooms)))
        row, column = rooms[place]
        around = [(row + 2 * down, column + 2 * right) for down, right in STEPS]
        closed = [room for room in around if min(room) > 0 and max(room) < side and grid[room] == WALL]
        if not closed:
            rooms.pop(place)
            continue
        room = closed[random.integers(len(closed))]
        grid[(row + room[0]) // 2, (column + room[1]) // 2] = grid[room] = OPEN
        rooms.append(room)
    return grid


def scattered(side: int, random: np.random.Generator) -> np.ndarray:
    """Cells that are walls with probability 0.37, as in Maze-Hard: many circles, and many shortest ways."""
    return np.where(random.random((side, side)) < 0.37, WALL, OPEN).astype(np.int8)


KINDS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {"perfect": perfect, "scattered": scattered}


def generate(
    count: int, kind: str, sides: tuple[int, ...], shortest: int, random: np.random.Generator, taken: set[bytes]
) -> list[np.ndarray]:
    """So many solved mazes, sides in turn, with ways of ``shortest`` PATH cells or more.

    No walls are an image, under a symmetry, of those of another maze or of one in ``taken``, which is added to.
    Raises ValueError when there are too few.
    """
    mazes: list[np.ndarray] = []
    fruitless = 0
    while len(mazes) < count:
        grid = KINDS[kind](sides[len(mazes) % len(sides)], random)
        rooms = np.argwhere(grid == OPEN)
        form = canonical(grid)
        fruitless += 1
        if fruitless > 2000:
            raise ValueError(
                f"found only {len(mazes)} of {count} different mazes with sides {sides} and a way of {shortest} cells "
                "or more: ask for fewer, a larger side or a shorter way"
            )
        if form in taken or len(rooms) < 2:
            continue
        start, goal = random.choice(rooms, 2, replace=False)
        grid[tuple(start)], grid[tuple(goal)] = START, GOAL
        solved = solve(grid)
        if solved is not None and way_lengths(solved) >= shortest:
            taken.add(form)
            mazes.append(solved)
            fruitless = 0
    return mazes


def question(solved: np.ndarray) -> np.ndarray:
    """Mazes without their way."""
    return np.where(solved == PATH, OPEN, solved)


def way_lengths(answers: np.ndarray) -> np.ndarray:
    """Number of PATH cells: (..., side, side) -> (...)."""
    return (answers == PATH).sum(axis=(-2, -1))


def is_way(answers: np.ndarray, questions: np.ndarray, shortest: np.ndarray) -> np.ndarray:
    """Whether answers (..., side, side) are the maze with one unbroken way from S to G, short or not: (...).

    Every cell of a way touches two others of it, S and G one: so no cell is marked beside the way. ``shortest`` are
    the `way_lengths` of shortest ways.
    """
    kept = (np.where(answers == PATH, OPEN, answers) == questions).all(axis=(-2, -1))
    marked = answers >= START
    padded = np.pad(marked, [(0, 0)] * (marked.ndim - 2) + [(1, 1), (1, 1)])
    touching = (
        padded[..., 2:, 1:-1].astype(int) + padded[..., :-2, 1:-1] + padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2]
    )
    wanted = np.where(answers == PATH, 2, 1)
    chain = np.array(kept & ((touching == wanted) | ~marked).all(axis=(-2, -1)))
    # What is left to rule out is a circle apart from the way; an answer of the shortest length has no cells for one.
    for index in np.argwhere(chain & (way_lengths(answers) != shortest)):
        chain[tuple(index)] = _reached(answers[tuple(index)]) == marked[tuple(index)].sum()
    return chain


def _reached(answer: np.ndarray) -> int:
    """Marked cells that are connected with S."""
    start = tuple(np.argwhere(answer == START)[0].tolist())
    reached, queue = {start}, deque([start])
    while queue:
        for neighbour in _open_neighbours(answer, queue.popleft()):
            if answer[neighbour] >= START and neighbour not in reached:
                reached.add(neighbour)
                queue.append(neighbour)
    return len(reached)
