"""The training loop: resuming bitwise after a kill, stopping on a NaN, best weights, and what it writes."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Sized

from trm_jax.core.config import Config
from trm_jax.core.task import Examples, run_options
from trm_jax.support.terminal import progress
from trm_jax.support.terminal.cli import Paused
from trm_jax.training import deadline, loop
from trm_jax.training.checkpoint import Checkpoints
from trm_jax.training.predict import scores
from trm_jax.training.run_directory import read_options

CONFIG = Config().override(
    **{"model.width": 8, "model.layers": 1, "recursion.N_sup": 2, "recursion.T": 1, "recursion.n": 1, "run.batch": 4,
       "run.steps": 50, "optim.warmup": 2, "run.seeds": (4, 7), "run.chunk": 4, "run.evaluate_every": 8,
       "run.checkpoint_every": 12, "loss.supervision": "carried"}
)  # fmt: skip
ARRAYS = {
    "inputs": jnp.asarray(np.random.default_rng(0).integers(1, 6, (9, 16)), jnp.int32),
    "labels": jnp.asarray(np.random.default_rng(1).integers(2, 6, (9, 16)), jnp.int32),
}


def train(directory, config=CONFIG, scored=None):
    return loop.fit(Sized(ARRAYS, scored=scored), config, directory, name="arm")


def by_step(values):
    """Scores (S, N_sup) of seeds after the last step; before it they are worse than any."""
    return np.stack([np.full(len(values), -1.0), values], axis=1)


def arrays(tree):
    def host(leaf):
        return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)

    return jax.tree.map(host, tree)


def rows(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def assert_same_end(one, two, directory_one, directory_two):
    jax.tree.map(np.testing.assert_array_equal, arrays(one.state), arrays(two.state))
    jax.tree.map(np.testing.assert_array_equal, arrays(one.best), arrays(two.best))
    assert rows(directory_one) == rows(directory_two)


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """Runs of this file that make the same updates share their program."""
    known, compile_chunk = {}, loop.compile_chunk

    def shared(task, config, K, mesh, *arguments):
        shapes = str(jax.tree.map(jnp.shape, arguments))
        key = loop.train_step.train_chunk, task, config.override(**{"run.minutes": 0.0}), K, mesh, shapes
        if key not in known:
            known[key] = compile_chunk(task, config, K, mesh, *arguments)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compile_chunk", shared)
        yield


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "whole"
    return directory, train(directory)


def test_a_run_writes_config_environment_metrics_and_checkpoints(uninterrupted):
    directory, progress = uninterrupted
    assert read_options(directory) == json.loads(json.dumps(run_options(Sized(ARRAYS), CONFIG)))
    assert {"commit", "packages", "devices"} <= set(json.loads((directory / "environment.json").read_text()))
    steps = [row["step"] for row in rows(directory)]
    # Chunks of 4 until 48, and a last one of 2.
    assert steps == [*range(4, 49, 4), 50]
    assert all(len(row["loss"]) == 2 for row in rows(directory))
    assert [row["step"] for row in rows(directory) if "validation_size" in row] == [8, 16, 24, 32, 40, 48, 50]
    assert [values[-1] for values in rows(directory)[-1]["steps_of_validation"]] == rows(directory)[-1][
        "validation_size"
    ]
    np.testing.assert_array_equal(progress.state.step, 50)
    assert Checkpoints(directory / "checkpoints").latest() == 50


def test_the_weights_with_the_best_score_are_kept_for_each_seed(uninterrupted):
    directory, progress = uninterrupted
    measured = {row["step"]: row["validation_size"] for row in rows(directory) if "validation_size" in row}
    for seed in range(2):
        best = max(measured, key=lambda step, seed=seed: measured[step][seed])
        assert progress.best.step[seed] == best
        np.testing.assert_allclose(progress.best.score[seed], measured[best][seed], atol=1e-6)
    again = scores(Sized(ARRAYS), CONFIG, progress.best.params, Examples(ARRAYS))["size"]
    np.testing.assert_allclose(again[:, -1], progress.best.score, rtol=1e-6)


def test_the_averaged_weights_are_validated_and_kept_and_a_tie_keeps_the_earlier_ones(tmp_path):
    steps = 8
    config = CONFIG.override(**{"run.steps": steps, "run.evaluate_every": 4, "optim.ema": 0.9, "run.seeds": (4, 7)})
    scored = iter([[0.5, 0.4], [0.5, 0.6]])
    ended = train(tmp_path / "run", config, scored=lambda _: by_step(next(scored)))
    np.testing.assert_array_equal(ended.best.step, [4, 8])  # the first seed has the same score twice
    averaged = jax.tree.map(lambda average: average / (1 - 0.9**steps), ended.state.ema)
    close = partial(np.allclose, rtol=1e-5, atol=1e-7)
    leaves = [jax.tree.leaves(tree) for tree in (ended.best.params, averaged, ended.state.params)]
    assert all(close(best[1], average[1]) for best, average, _ in zip(*leaves, strict=True))
    assert not all(close(best[0], average[0]) for best, average, _ in zip(*leaves, strict=True))
    assert not all(close(raw[1], average[1]) for _, average, raw in zip(*leaves, strict=True))


def test_a_row_holds_the_means_of_its_chunk(tmp_path):
    metrics = {name: np.array([[1.0, 2.0, 6.0], [4.0, 5.0, 9.0]]) for name in ("loss", "gradient_norm")}
    assert loop._row(CONFIG, "arm", tmp_path, metrics, 9) == {
        "step": 9, "loss": [3.0, 6.0], "gradient_norm": [3.0, 6.0]
    }  # fmt: skip


def test_a_finished_run_is_not_trained_again(uninterrupted):
    directory, progress = uninterrupted
    before = (directory / "metrics.jsonl").read_text()

    def never(prediction):
        raise AssertionError("evaluated again")

    again = train(directory, scored=never)
    assert_same_end(progress, again, directory, directory)
    assert (directory / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(("stop", "damaged"), [(1, False), (4, False), (7, True)])
def test_a_run_interrupted_at_an_evaluation_ends_bitwise_equal(uninterrupted, tmp_path, stop, damaged):
    calls = []

    def interrupted(prediction):
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return Sized(ARRAYS).score(prediction, None)["size"]

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", scored=interrupted)
    if damaged:  # then the checkpoint before it is used, and the newest is made again
        values = max((tmp_path / "run" / "checkpoints" / "48").rglob("*"), key=lambda path: path.stat().st_size)
        values.write_bytes(values.read_bytes()[:-1000] + bytes(1000))
    assert_same_end(uninterrupted[1], train(tmp_path / "run"), uninterrupted[0], tmp_path / "run")


def test_a_run_killed_at_any_moment_ends_bitwise_equal(uninterrupted, tmp_path):
    directory = tmp_path / "run"
    code = f"import sys; sys.path[:0] = {sys.path!r}; import conftest, test_loop as t; t.train(t.Path('{directory}'))"
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=Path(__file__).parent, stdout=log, stderr=subprocess.STDOUT
        )
    metrics = directory / "metrics.jsonl"
    deadline = time.monotonic() + 240
    # After nine chunks the checkpoint of step 36 is being written; before the first one see stop=1 above.
    while not (metrics.exists() and metrics.read_text().count("\n") >= 9) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert metrics.exists(), (tmp_path / "log").read_text()
    assert_same_end(uninterrupted[1], train(directory), uninterrupted[0], directory)


def test_a_run_in_slices_stops_at_checkpoints_and_ends_as_one_that_did_not(tmp_path, uninterrupted, monkeypatch):
    """On a clock that gains 20 seconds at every look, of 74 that there are: two chunks of four to a slice."""
    directory = tmp_path / "run"
    config = CONFIG.override(**{"run.minutes": 1.4})
    monkeypatch.setattr(deadline, "STARTED", 0.0)
    stops = []
    while len(stops) < 3:
        ticks = itertools.count(0.0, 20.0)
        monkeypatch.setattr(deadline, "clock", lambda ticks=ticks: next(ticks))
        with pytest.raises(Paused) as pause:
            train(directory, config)
        stops.append(str(pause.value))
        assert Checkpoints(directory / "checkpoints").latest() == rows(directory)[-1]["step"]
    assert stops[0] == "arm stopped at step 8 of 50: give the same command to go on"
    longer = train(directory)  # without a limit, as the last slice
    assert_same_end(uninterrupted[1], longer, uninterrupted[0], directory)


def test_a_run_that_does_not_fit_says_what_to_lower_before_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "memory_limit", lambda mesh: 1000)
    with pytest.raises(ValueError, match=r"needs .* GB on each device .*set run.accumulate=\d+, or set model.dt"):
        train(tmp_path / "run")
    assert rows(tmp_path / "run") == []


def test_other_options_are_refused_in_the_directory_of_a_run(uninterrupted):
    with pytest.raises(ValueError, match=r"other options .optim.learning_rate.*choose another name"):
        train(uninterrupted[0], CONFIG.override(**{"optim.learning_rate": 0.5}))


@pytest.mark.parametrize("broken", ["loss", "gradient_norm"])
def test_a_nan_stops_the_run_names_step_seed_and_arm_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, broken):
    honest = loop.train_step.train_chunk

    def poisoned(config, task, K, state, data):
        """The second seed's loss is no number at step 15."""
        new, metrics = honest(config, task, K, state, data)
        step = state.step + 1 + jnp.arange(K)
        second = jnp.array_equal(jax.random.key_data(state.key), keys[1])
        return new, metrics | {broken: jnp.where((step == 15) & second, jnp.nan, metrics[broken])}

    seeds = [jax.random.split(jax.random.key(seed))[1] for seed in CONFIG.run.seeds]
    keys = [jax.random.key_data(key) for key in seeds]
    monkeypatch.setattr(loop.train_step, "train_chunk", poisoned)
    with pytest.raises(
        loop.Diverged, match="seed 7 is NaN or infinite at step 15; of the checkpoints the last good one is kept in"
    ):
        train(tmp_path / "run")
    assert Checkpoints(tmp_path / "run" / "checkpoints").latest() == 12
    rare = CONFIG.override(**{"run.checkpoint_every": 40})
    with pytest.raises(loop.Diverged, match="of the checkpoints none was kept yet"):
        train(tmp_path / "early", rare)


def test_running_out_of_memory_says_what_to_lower(tmp_path):
    def exhausted(prediction):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99 bytes.\nMore")

    reason = (
        r"^arm: RESOURCE_EXHAUSTED: .* 99 bytes\. To need less: .*set run\.accumulate=2, .*recursion\.segment=2; choose"
    )
    with pytest.raises(ValueError, match=reason):
        train(tmp_path / "run", scored=exhausted)

    def other(prediction):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        train(tmp_path / "other", scored=other)


def test_training_stops_when_no_seed_improves(tmp_path):
    scored = iter([[0.1, 0.2], [0.3, 0.1], [0.3, 0.2], [0.2, 0.2], [0.9, 0.9]])
    config = CONFIG.override(**{"run.patience": 2})
    ended = train(tmp_path / "run", config, scored=lambda _: by_step(next(scored)))
    # The first seed is best at the second evaluation; two later ones bring nothing.
    assert rows(tmp_path / "run")[-1]["step"] == 4 * 8
    np.testing.assert_array_equal(ended.best.step, [16, 8])
    np.testing.assert_allclose(ended.best.score, [0.3, 0.2])


def test_the_depth_curriculum_trains_the_first_updates_with_fewer_steps(tmp_path, monkeypatch):
    seen = []

    def spied(config, task, K, state, data):
        seen.append((config.recursion.N_sup, K))
        return real(config, task, K, state, data)

    real = loop.train_step.train_chunk
    monkeypatch.setattr(loop.train_step, "train_chunk", spied)
    config = CONFIG.override(
        **{"loss.supervision": "sum", "optim.schedule": "constant", "run.steps": 8, "run.evaluate_every": 40,
           "run.checkpoint_every": 40, "recursion.N_sup": 3, "recursion.curriculum_N_sup": 1,
           "recursion.curriculum_fraction": 0.6}
    )  # fmt: skip
    train(tmp_path / "curriculum", config)
    # Six tenths of eight updates, in whole chunks of four; then a chunk at full depth.
    assert seen == [(1, 4), (3, 4)]
    alone = config.override(**{"recursion.N_sup": 1, "recursion.curriculum_fraction": 0.0, "run.steps": 4})
    train(tmp_path / "shallow", alone)
    first, shallow = rows(tmp_path / "curriculum")[0], rows(tmp_path / "shallow")[0]
    assert first["loss"] == shallow["loss"]


def test_weights_and_patience_of_the_first_phase_do_not_count(tmp_path):
    options = {"loss.supervision": "sum", "run.patience": 2, "run.steps": 64, "recursion.curriculum_N_sup": 1}
    config = CONFIG.override(**options, **{"recursion.curriculum_fraction": 0.5})
    falling = iter([[0.9 - step / 100] * 2 for step in range(9)])
    progress = train(tmp_path / "run", config, scored=lambda _: by_step(next(falling)))
    assert rows(tmp_path / "run")[-1]["step"] == 32 + 8 + 2 * 8
    recorded = {row["step"]: row["best_step"] for row in rows(tmp_path / "run") if "best_step" in row}
    assert recorded == {8 * step: [8, 8] if step <= 4 else [40, 40] for step in range(1, 8)}
    np.testing.assert_array_equal(progress.best.step, 32 + 8)  # lower than all before, and trained to take N_sup steps
    np.testing.assert_allclose(progress.best.score, 0.9 - 4 / 100)


def test_ctrl_c_says_where_it_stopped_and_the_same_command_goes_on(tmp_path, monkeypatch):
    config = CONFIG.override(**{"run.steps": 24})

    class Interrupted(progress.Lines):
        def update(self, count):
            if self.done == 12:
                raise KeyboardInterrupt
            super().update(count)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as ended:
        patch.setattr(progress, "Lines", Interrupted)
        train(tmp_path, config)
    assert str(ended.value) == f"stopped at step 16 of 24; the same command goes on ({tmp_path})"
    train(tmp_path, config)
    assert [row["step"] for row in rows(tmp_path)] == list(range(4, 25, 4))
