"""A checkpoint that ships: which seed, its score, its card, and its package for a device."""

import json
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import override, run_options
from trm_jax.export import ship
from trm_jax.export.measures.agreement import file_answers, jax_answers
from trm_jax.export.source import read_source
from trm_jax.maze import grids
from trm_jax.sequences.task import Sequences
from trm_jax.support.checksums import SUMS, check_sums
from trm_jax.training.checkpoint import save_weights

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
OPTIONS = {"model.width": 8, "model.layers": 1, "model.readout_bias": True, "recursion.N_sup": 2, "recursion.T": 1,
           "recursion.n": 1, "run.seeds": (7, 9)}  # fmt: skip


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """A finished arm whose two seeds always answer A and always B, on sequences most of which are B."""
    root = tmp_path_factory.mktemp("ship")
    inputs = [f"{index:03d}" for index in range(100)]
    frame = pd.DataFrame({"input": inputs, "target": ["AAA" if index % 3 == 0 else "BBB" for index in range(100)]})
    frame.to_csv(root / "pairs.csv", index=False)
    task, config = override(Sequences(str(root / "pairs.csv"), test_fraction=0.4), Config(), OPTIONS)
    directory = root / "runs" / "name" / "arms" / "deep"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(run_options(task, config)))
    made = {"command": "python train.py", "commit": "abc", "machine": "a machine"}
    (root / "runs/name/results.json").write_text(json.dumps({"made by": made}))
    params = model.initialise(config.model, jax.random.key(0))
    for seed, bias in ((7, [9.0, 0.0]), (9, [0.0, 9.0])):
        readout = {"kernel": np.zeros_like(params["readout"]["kernel"]), "bias": np.array(bias, np.float32)}
        save_weights(directory / f"weights-{seed}", params | {"readout": readout}, config, task)
    return directory, task


def test_the_best_seed_on_validation_ships_with_its_score_on_test(arm, tmp_path):
    directory, task = arm
    chosen = ship.ship(directory, tmp_path / "shipped")
    labels = task.examples("test").arrays["labels"]
    share = float((labels[:, 0] == 1).mean())
    assert chosen.seed == 9 and chosen.tested == len(labels) == 40
    assert [score.value for score in chosen.test] == [share] * 4  # twice the trained depth
    again = read_source(tmp_path / "shipped")
    np.testing.assert_array_equal(again.params["readout"]["bias"], [0, 9])
    assert again.config.run.seeds == (9,) and again.task["name"] == "sequences"
    card = (tmp_path / "shipped" / "model_card.md").read_text()
    assert card.startswith("# shipped\n") and "python train.py" in card and f"| 2 (trained depth) | {share:.3f}" in card
    with pytest.raises(FileExistsError, match="--replace"):
        ship.ship(directory, tmp_path / "shipped")
    (tmp_path / "shipped" / "onnx").mkdir()  # made of the older weights
    assert ship.ship(directory, tmp_path / "shipped", replace=True).seed == 9
    assert {path.name for path in (tmp_path / "shipped").iterdir()} == {"model_card.md", "weights"}


def test_a_folder_with_something_else_in_it_is_refused_before_any_work(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"has notes.txt, which was not made here"):
        ship.ship(tmp_path / "no" / "such" / "arm", tmp_path, replace=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_another_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="is not an arm of a finished study"):
        ship.ship(tmp_path / "a" / "b" / "c", tmp_path / "shipped")


def test_wilson_interval():
    interval = ship.wilson(8, 10)  # Wilson 1927, by hand: centre 0.717, half width 0.227
    np.testing.assert_allclose(interval, (0.8, 0.490163, 0.943318), atol=1e-6)


def question(name):
    """Tokens of a puzzle or a maze, (1, cells)."""
    random = np.random.default_rng(0)
    if name == "maze":
        maze = grids.perfect(9, random)
        maze[tuple(np.argwhere(maze == grids.OPEN)[0])] = grids.START
        maze[tuple(np.argwhere(maze == grids.OPEN)[-1])] = grids.GOAL
        return maze.reshape(1, -1).astype(np.int32)
    side, columns = (4, 2) if name == "sudoku-4x4" else (6, 3)
    row, column = np.indices((side, side))
    digits = (row % 2 * columns + row // 2 + column) % side + 1  # boxes of two rows
    return (digits * (random.random((side, side)) < 0.5) + 1).reshape(1, -1).astype(np.int32)


@pytest.mark.parametrize("name", ["sudoku-4x4", "sudoku-6x6", "maze"])
def test_the_package_beside_a_checkpoint_is_small_whole_and_answers_like_jax(name):
    package = CHECKPOINTS / name / "onnx"
    listed = (package / SUMS).read_text(encoding="utf-8").split()[1::2]
    check_sums(package, listed)
    files = {path.name: path.stat().st_size for path in package.iterdir()}
    assert set(files) == {*listed, SUMS} and sum(files.values()) < 1.5e6
    assert "onnx/" in (CHECKPOINTS / name / "model_card.md").read_text(encoding="utf-8")
    source, asked = read_source(CHECKPOINTS / name), question(name)
    expected = jax_answers(source.config, source.params, asked, source.temperature)
    found = file_answers(package / "model.onnx", asked)
    assert found.probabilities.shape[:2] == (1, source.config.recursion.N_sup) and expected.probabilities.std() > 0.1
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
    np.testing.assert_allclose(found.halt, expected.halt, atol=1e-4)
