"""Thinking longer: the same scores as the engine's at the trained depth, more steps beyond it, and a report."""

import json

import jax
import numpy as np
import pytest

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import override
from trm_jax.study import thinking
from trm_jax.study.results.thinking import write_thinking
from trm_jax.sudoku.task import Sudoku
from trm_jax.training.checkpoint import save_weights
from trm_jax.training.loop import fit
from trm_jax.training.predict import scores

TASK = Sudoku(blanks=(4, 5), train=20, validation=8, test=16)


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    directory = tmp_path_factory.mktemp("arms") / "tiny"
    for seed in (0, 1):
        task, config = override(
            TASK, Config(), {"task.seed": seed, "model.width": 8, "model.layers": 1, "recursion.N_sup": 2}
        )
        params = jax.tree.map(lambda leaf: leaf + 0.1, model.initialise(config.model, jax.random.key(seed)))
        save_weights(directory / f"weights-{seed}", params, config, task)
    return thinking.load_arm(directory, {})


def test_every_seed_answers_its_own_hardest_puzzles(arm):
    assert [task.seed for task in arm.tasks] == [0, 1]
    samples = arm.samples("test", 5)
    assert all(set(examples.levels) == {"5"} and len(examples.levels) == 5 for examples in samples)
    assert not np.array_equal(samples[0].arrays["inputs"], samples[1].arrays["inputs"])


def test_steps_past_the_trained_depth_continue_the_same_recursion(arm):
    samples = arm.samples("test", 8)
    trained = scores(TASK, arm.config, arm.params, samples)["cells"]
    longer = scores(TASK, arm.config, arm.params, samples, steps=4)["cells"]
    np.testing.assert_allclose(longer[:, :2], trained, atol=1e-6)
    table = thinking.by_steps(arm, 5, 8)
    assert table["steps"].tolist() == [1, 2, 4] * 2
    assert table["seed"].tolist() == [0] * 3 + [1] * 3


def test_rollouts_search_and_report(arm, tmp_path):
    rollouts, noise = thinking.by_rollouts(arm, 2, 2, 6)
    assert noise in thinking.NOISES
    assert set(rollouts["choice"]) == {"halting", "majority", "rules"}
    rules, halting = (rollouts.loc[rollouts["choice"] == name, "exact"].to_numpy() for name in ("rules", "halting"))
    assert (rules >= halting).all()  # a board that obeys the rules is the answer
    search = thinking.by_search(arm, 60, 2, 6)
    assert (search["solved"] + search["abstained"] == 1).all()
    assert (search["wrong"] == 0).all()
    assert search["solved"].min() > 0

    write_thinking(
        tmp_path, [arm], [thinking.by_steps(arm, 4, 6)], (rollouts, noise), search, 6, {"command": "python x"}
    )
    report = (tmp_path / "report.md").read_text()
    assert "Trained with 2 (`tiny`)" in report
    assert f"{100 * search.groupby('guide')['solved'].mean()['model']:.1f} (" in report
    assert {file.name for file in tmp_path.glob("*.csv")} == {"steps.csv", "rollouts.csv", "search.csv"}
    one_seed = search[search["seed"] == 0]
    write_thinking(tmp_path / "one", [arm], [thinking.by_steps(arm, 4, 6)], None, one_seed, 6, {"command": "python x"})
    solved = 100 * one_seed.groupby("guide")["solved"].mean()["model"]
    assert f"| model | {solved:.1f} | " in (tmp_path / "one" / "report.md").read_text()  # no interval of one seed


def test_an_arm_that_was_stopped_is_tested_with_its_best_weights_so_far(tmp_path, capsys):
    options = {"model.width": 8, "model.layers": 1, "recursion.N_sup": 1, "recursion.T": 1, "run.seeds": [3, 5]}
    short = {"run.steps": 2, "run.chunk": 1, "run.batch": 4, "run.evaluate_every": 1, "run.checkpoint_every": 1}
    task, config = override(
        TASK, Config(), options | short | {"optim.warmup": 0, "task.same_for_seeds": False, "task.augmented": False}
    )
    best = fit(task, config, tmp_path / "stopped").best
    arm = thinking.load_arm(tmp_path / "stopped", {"recursion.N_sup": 4})
    assert "stopped was stopped after 2 of 2 updates" in capsys.readouterr().out
    assert arm.config.recursion.N_sup == 4 and [task.seed for task in arm.tasks] == [3, 5]
    jax.tree.map(np.testing.assert_array_equal, arm.params, jax.device_get(best.params))


def test_an_arm_without_weights_and_an_unknown_task_are_named(tmp_path, arm):
    (tmp_path / "arms" / "empty").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no weights-SEED"):
        thinking.load_arm(tmp_path / "arms" / "empty", {})
    assert json.dumps(sorted(thinking.TASKS)) == '["maze", "sudoku"]'
