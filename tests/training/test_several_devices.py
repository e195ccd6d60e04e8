"""One run on other devices: 8, 2 and 1 of them, and two processes, agree to 1e-5 and share their checkpoints."""

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from toys import Sized, Toy, on_device

from trm_jax.core import predict as evaluate
from trm_jax.core import train_step
from trm_jax.core.config import Config
from trm_jax.training import loop
from trm_jax.training import predict as prediction
from trm_jax.training import processes as runtime
from trm_jax.training.checkpoint import Checkpoints
from trm_jax.training.devices import WIDE, over_seeds, place_seeds, replicate, run_mesh, seed_mesh, to_host
from trm_jax.training.processes import process_arguments

TWO_SEEDS = Config().override(
    **{"model.width": 8, "model.layers": 1, "recursion.N_sup": 2, "recursion.T": 1, "recursion.n": 1, "run.batch": 8,
       "run.steps": 8, "optim.warmup": 2, "run.seeds": (4, 7), "run.chunk": 2, "run.evaluate_every": 4,
       "run.checkpoint_every": 4, "run.data_parallel": 4, "loss.supervision": "carried"}
)  # fmt: skip
ONE_SEED = TWO_SEEDS.override(**{"run.seeds": (4,), "loss.supervision": "sum", "run.data_parallel": 0})
DATA = {
    "inputs": np.random.default_rng(0).integers(1, 6, (16, 16)).astype(np.int32),
    "labels": np.random.default_rng(1).integers(2, 6, (16, 16)).astype(np.int32),
}


def run(directory, config, stop=None):
    """Train; the evaluation numbered ``stop`` does not return."""
    calls = []

    def scored(prediction):
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return prediction.halt.mean(axis=-1)

    return loop.fit(Sized(DATA, scored=scored), config, Path(directory), name="run")


def start(statement, devices, **environment):
    """A Python process with so many devices that imports this file as t."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"  # beside those of conftest.py
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path[:0] = {sys.path!r}; import test_several_devices as t; {statement}",
        ],
        cwd=Path(__file__).parent,
        env=os.environ | {"XLA_FLAGS": flags} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, seconds=400):
    """Return code, output and errors of a process."""
    output, errors = process.communicate(timeout=seconds)
    return process.returncode, output, errors


def rows(directory):
    return [json.loads(line) for line in (Path(directory) / "metrics.jsonl").read_text().splitlines()]


def assert_close(directory, reference):
    got, expected = rows(directory), rows(reference)
    assert [row["step"] for row in got] == [2, 4, 6, 8] == [row["step"] for row in expected]
    assert len({row["loss"][0] for row in expected}) == 4
    for one, other in zip(got, expected, strict=True):
        assert set(one) == set(other) >= {"loss", "gradient_norm", "exact"}
        assert ("validation_size" in one) == (one["step"] in (4, 8))
        for key in one:
            np.testing.assert_allclose(one[key], other[key], atol=1e-5, rtol=1e-5, err_msg=key)


def weights(progress):
    return jax.tree.map(np.asarray, (progress.state.params, progress.state.ema, progress.best))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Directory and end of a run of this process by its config: seeds, or the halves of a batch, on two devices."""
    folder = tmp_path_factory.mktemp("alone")

    @functools.cache
    def trained(config):
        directory = folder / str(len(config.run.seeds))
        return directory, run(directory, config)

    return trained


@pytest.mark.parametrize(
    ("seeds", "devices", "shares", "shape"),
    [(1, 1, 9, (1, 1)), (1, 2, 1, (1, 1)), (1, 2, 2, (1, 2)), (4, 2, 2, (2, 1)), (3, 2, 1, (1, 1)), (3, 2, 9, (1, 2))],
)
def test_seeds_come_first_and_batches_take_the_devices_that_are_left(seeds, devices, shares, shape):
    mesh = seed_mesh(seeds, jax.devices()[:devices], 8, shares)
    assert mesh.axis_names == ("seed", "data") and mesh.devices.shape == shape
    assert seed_mesh(seeds, jax.devices()[:devices], 7, shares).devices.shape == (shape[0], 1)


def test_no_device_is_idle_where_seeds_times_data_can_use_it(monkeypatch):
    """Six seeds on eight devices are two groups of three, each with four devices to a batch."""
    monkeypatch.setattr(jax, "make_mesh", lambda shape, *_, **options: shape)
    eight = [Device(number, "gpu") for number in range(8)]
    shapes = {seeds: seed_mesh(seeds, eight, 768, 8) for seeds in (1, 2, 3, 6, 7, 8, 16)}
    assert shapes == {1: (1, 8), 2: (2, 4), 3: (1, 8), 6: (2, 4), 7: (1, 8), 8: (8, 1), 16: (8, 1)}
    assert seed_mesh(6, eight, 768, 1) == (6, 1) and seed_mesh(6, eight, 7, 8) == (1, 7)


def test_one_seed_uses_every_device_unless_fewer_are_asked_for():
    asked = ONE_SEED.override(**{"run.data_parallel": 1})
    assert [run_mesh(config).size for config in (ONE_SEED, asked)] == [2, 1]


@dataclass(frozen=True)
class Device:
    """What a mesh asks of a device."""

    id: int
    platform: str = "cpu"
    process_index: int = 0


def test_a_wide_net_threads_its_products_on_one_cpu_and_shares_batches_elsewhere(monkeypatch):
    monkeypatch.setattr(jax, "make_mesh", lambda shape, *_, devices, **options: np.array(devices))
    wide = ONE_SEED.override(**{"model.width": WIDE})
    cpus, gpus, processes = (
        [Device(0), Device(1)],
        [Device(0, "gpu"), Device(1, "gpu")],
        [Device(0), Device(1, "cpu", 1)],
    )
    assert [run_mesh(wide, devices).size for devices in (cpus, gpus, processes)] == [1, 2, 2]
    assert run_mesh(wide.override(**{"run.data_parallel": 2}), cpus).size == 2


def test_idle_devices_are_told_unless_their_cores_work_anyway(capsys):
    odd = ONE_SEED.override(**{"run.batch": 7})
    for config in (odd, ONE_SEED.override(**{"model.width": WIDE})):
        loop._say_idle(config, run_mesh(config))
    assert capsys.readouterr().err == "uses 1 of 2 devices: 1 for 1 seeds, times 1 for batches of 7\n"


def test_a_process_without_work_is_refused_before_it_waits_for_ever():
    devices = [SimpleNamespace(process_index=index, platform="cpu") for index in range(2)]
    odd = ONE_SEED.override(**{"run.batch": 7})
    with pytest.raises(ValueError, match="1 seeds and batches of 7 can use 1 of 2 devices, which leaves process 1"):
        run_mesh(odd, devices)


@pytest.mark.parametrize("supervision", ["sum", "carried"])
def test_two_devices_halve_the_work_on_a_batch_and_compute_the_same(supervision):
    config = ONE_SEED.override(**{"loss.supervision": supervision})
    losses, work = [], []
    for devices in (1, 2):
        mesh = seed_mesh(1, jax.devices()[:devices], 8, devices)
        data = replicate(mesh, on_device(DATA))
        begin = over_seeds(lambda seed, data: train_step.init(config, data, seed), mesh)
        chunk = over_seeds(partial(train_step.train_chunk, config, Toy({}), 3), mesh)
        state = begin(place_seeds(mesh, np.array([4])), data)
        programs = [chunk.lower(state, data).compile()]
        if supervision == "sum":  # which makes no difference to predictions
            predict = over_seeds(partial(evaluate.predict, config), mesh)
            programs.append(predict.lower(state.params, DATA["inputs"]).compile())
        work.append(np.array([program.cost_analysis()["flops"] for program in programs]))
        state, metrics = programs[0](state, data)
        losses.append(to_host(metrics["loss"]))
        # The state that comes out can go in again.
        programs[0](state, data)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert np.ptp(losses[0]) > 1e-3
    assert (work[1] < 0.75 * work[0]).all(), work


def test_a_run_that_starts_on_eight_devices_ends_the_same_on_two_and_on_one(tmp_path, alone, monkeypatch):
    statement = f"print(t.run_mesh(t.TWO_SEEDS).devices.shape); t.run('{tmp_path / 'a'}', t.TWO_SEEDS, stop=2)"
    code, output, errors = finish(start(statement, 8))
    assert code and "KeyboardInterrupt" in errors and "(2, 4)" in output, errors
    assert Checkpoints(tmp_path / "a" / "checkpoints").latest() == 4
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    directory, expected = alone(TWO_SEEDS)
    ends = {"a": run(tmp_path / "a", TWO_SEEDS)}
    first = jax.devices()[:1]
    with monkeypatch.context() as patch:
        patch.setattr(jax, "devices", lambda *_: first)
        for module, name in ((loop, "_initial_state"), (loop, "_eval_weights"), (prediction, "_compiled")):
            patch.setattr(module, name, getattr(module, name).__wrapped__)  # those kept are for two devices
        ends["b"] = run(tmp_path / "b", TWO_SEEDS)
    for devices, name in ((2, "a"), (1, "b")):
        assert len(ends[name].state.params["tokens"].sharding.device_set) == devices
        assert_close(tmp_path / name, directory)
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), weights(ends[name]), weights(expected))


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return str(one.getsockname()[1])


@pytest.mark.parametrize("name", ["TWO_SEEDS", pytest.param("ONE_SEED", marks=pytest.mark.slow)])
def test_two_processes_of_a_cluster_train_as_one_and_write_one_run(tmp_path, alone, name):
    """Two seeds go to a process each; the batches of one seed are shared by both."""
    directory, expected = alone(config := globals()[name])
    used = f"t.run_mesh(t.{name}).devices.flat"
    statement = (
        f"t.runtime.configure(); assert {{device.process_index for device in {used}}} == {{0, 1}};"
        f"t.run('{tmp_path}/run', t.{name})"
    )
    step = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
            "JAX_COORDINATOR_PORT": free_port()}  # fmt: skip
    processes = [start(statement, 1, **step, SLURM_PROCID=i, SLURM_LOCALID=i) for i in "01"]
    for code, _, errors in map(finish, processes):
        assert code == 0, errors
    assert_close(tmp_path / "run", directory)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in directory.iterdir()}
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"4", "8"}
    # One process goes on where two have ended.
    restored = run(tmp_path / "run", config, stop=1)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), weights(restored), weights(expected))


def refuse():
    raise ValueError("the directory is taken")


def stumble(process):
    """What the first process refuses is refused by both; then the second one dies while the first waits for it."""
    runtime.HEARTBEAT_SECONDS, runtime.SHUTDOWN_SECONDS = 10, 3
    runtime.configure()
    with pytest.raises(ValueError, match="the directory is taken"):
        runtime.on_first_process(refuse)
    print("refused", flush=True)
    if process == 1:
        os._exit(3)
    try:
        runtime.on_first_process(lambda: None)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def test_a_process_that_dies_ends_the_other_with_a_message():
    shared = {"JAX_COORDINATOR_ADDRESS": f"localhost:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    processes = [start(f"t.stumble({i})", 1, **shared, JAX_PROCESS_ID=i) for i in "01"]
    (first, output, errors), (second, other_output, _) = (finish(process, 60) for process in processes)
    assert "refused" in output and "refused" in other_output
    assert second == 3 and first not in (0, None), errors
    assert "error: " in errors or "another task died" in errors


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "1"}, None),
        ({"SLURM_NTASKS": "4"}, None),  # the shell of an allocation
        ({"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "4"}, {}),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, {}),
        (
            {"JAX_COORDINATOR_ADDRESS": "n1:99", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"},
            {"coordinator_address": "n1:99", "num_processes": 2, "process_id": 1,
             "cluster_detection_method": "deactivate"},
        ),
    ],
)  # fmt: skip
def test_the_environment_says_whether_there_are_other_processes(environment, expected):
    assert process_arguments(environment) == expected


def test_a_tpu_finds_its_slice_and_half_a_description_is_refused():
    assert process_arguments({}, tpu=True) == {}
    for half in ({"JAX_COORDINATOR_ADDRESS": "n1:99"}, {"JAX_PROCESS_ID": "0", "JAX_NUM_PROCESSES": "2"}):
        with pytest.raises(ValueError, match="need JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and"):
            process_arguments(half)
