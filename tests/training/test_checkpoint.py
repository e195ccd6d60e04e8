"""Checkpoints: what comes back is bitwise what was saved, and nothing is overwritten."""

import json
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from toys import on_device

from trm_jax.core import train_step
from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import run_options, task_options
from trm_jax.sudoku.task import Sudoku
from trm_jax.training.checkpoint import FILE_BYTES, Checkpoints, load_weights, save_weights

CONFIG = Config().override(
    **{"model.width": 8, "model.layers": 1, "loss.supervision": "carried", "run.batch": 2, "recursion.N_sup": 2}
)

TASK = Sudoku(blanks=(3, 4), train=5)
OPTIONS = run_options(TASK, CONFIG)


@pytest.fixture(scope="module")
def state() -> train_step.TrainState:
    """A training state with typed keys and a carry, in which no two leaves are alike."""
    data = on_device({"inputs": jnp.zeros((3, 16), jnp.int32), "labels": jnp.zeros((3, 16), jnp.int32)})
    rng = np.random.default_rng(0)

    def filled(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(123)
        return jnp.asarray(rng.integers(-100, 100, leaf.shape) + rng.random(leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(filled, jax.eval_shape(lambda: train_step.init(CONFIG, data, 0)))


def raw(tree) -> list[tuple]:
    """Type, shape and bytes of every leaf, in order."""
    leaves = []
    for leaf in jax.tree.leaves(tree):
        kind = str(leaf.dtype)
        data = np.asarray(jax.random.key_data(leaf) if kind.startswith("key") else leaf)
        leaves.append((kind, data.shape, data.tobytes()))
    return leaves


def test_a_training_state_with_typed_keys_comes_back_bitwise(tmp_path, state):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest() is None
    checkpoints.save(7, state, OPTIONS)
    checkpoints.close()

    again = Checkpoints(tmp_path / "checkpoints")
    restored = again.restore(jax.eval_shape(lambda: state))
    again.close()
    assert again.latest() == 7
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert raw(restored) == raw(state) and len(raw(state)) > 15
    draws = [jax.random.normal(jax.random.fold_in(tree.key, 3), (4,)) for tree in (state, restored)]
    assert np.array_equal(*draws)


def test_a_large_state_lies_in_files_small_enough_to_carry(tmp_path):
    """Two arrays of 24 and 20 MiB that do not compress."""
    rng = np.random.default_rng(0)
    state = {name: jnp.asarray(rng.random((size, 2**18), np.float32)) for name, size in (("w", 24), ("m", 20))}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, OPTIONS)
    checkpoints.close()
    sizes = [file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()]
    assert sum(sizes) > 30 * 2**20 and max(sizes) <= FILE_BYTES == 15 * 2**20
    assert raw(Checkpoints(tmp_path).restore(jax.eval_shape(lambda: state))) == raw(state)


def test_what_is_trained_on_while_a_checkpoint_is_written_does_not_reach_it(tmp_path):
    """The update that follows a save takes over the memory of the state that is saved."""
    values = np.random.default_rng(0).random((64, 2**18), np.float32)
    update = jax.jit(lambda w: -w, donate_argnums=0)
    checkpoints = Checkpoints(tmp_path)
    state = jnp.array(values)
    checkpoints.save(1, {"w": state}, OPTIONS)
    assert not (tmp_path / "1").exists()  # it is still written, or this test shows nothing
    trained = update(state)
    assert np.array_equal(trained, -values)
    assert np.array_equal(checkpoints.restore({"w": jnp.zeros_like(values)})["w"], values)
    checkpoints.close()


def test_a_checkpoint_has_its_checksums_before_it_has_its_name(tmp_path, monkeypatch):
    def fail(folder, names):
        assert folder.parent == tmp_path and not (tmp_path / "1").exists()
        assert {name.split("/")[0] for name in names} == {"config", "state"}
        raise OSError("no space left")

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr("trm_jax.training.checkpoint.write_sums", fail)
    checkpoints.save(1, {"w": jnp.ones(3)}, OPTIONS)
    with pytest.raises(OSError, match="no space left"):
        checkpoints.close()
    assert not (tmp_path / "1").exists()


def test_a_checkpoint_of_an_earlier_version_is_taken_up(tmp_path, state):
    with ocp.CheckpointManager(tmp_path) as former:
        former.save(3, args=ocp.args.Composite(state=ocp.args.StandardSave(state), config=ocp.args.JsonSave({})))
    assert raw(Checkpoints(tmp_path).restore(jax.eval_shape(lambda: state))) == raw(state)


def test_the_newest_of_the_last_two_checkpoints_is_restored(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, {"w": jnp.full(3, float(step))}, OPTIONS)
    assert checkpoints.latest() == 3
    assert checkpoints.restore({"w": jnp.zeros(3)})["w"].tolist() == [3.0] * 3
    checkpoints.close()
    assert {path.name for path in tmp_path.iterdir()} == {"2", "3"}
    saved = json.loads(next((tmp_path / "3").glob("config/*metadata")).read_text())
    assert saved == json.loads(json.dumps(OPTIONS))


def flip(path, bit: int) -> None:
    """Turn over one bit of a file, counted from its start and again from there."""
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


def files(directory) -> list:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_a_damaged_newest_checkpoint_is_named_and_the_whole_one_before_it_is_used(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, {"w": jnp.full(3, float(step))}, OPTIONS)
    assert checkpoints.latest() == 2
    damaged = max((tmp_path / "2" / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    flip(damaged, 12345)
    assert checkpoints.restore({"w": jnp.zeros(3)})["w"].tolist() == [1.0] * 3
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {damaged} is not what was written") and said.count("\n") == 1
    assert said.endswith("goes on from the whole checkpoint before it, 1\n")
    assert checkpoints.latest() == 1
    checkpoints.save(2, {"w": jnp.full(3, 2.0)}, OPTIONS)  # the run makes it again
    assert checkpoints.restore({"w": jnp.zeros(3)})["w"].tolist() == [2.0] * 3
    assert capsys.readouterr().err == ""
    for step in (1, 2):
        flip(next((tmp_path / str(step) / "state").rglob("manifest.ocdbt")), 7)
    with pytest.raises(ValueError, match=r"no checkpoint is whole: \S+/2/\S+ is not .*; \S+/1/\S+ is not"):
        checkpoints.restore({"w": jnp.zeros(3)})
    assert checkpoints.latest() == 2  # nothing is removed where nothing else is left
    checkpoints.close()


def test_a_checkpoint_of_a_version_without_checksums_is_restored_with_a_warning(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, {"w": jnp.full(3, 5.0)}, OPTIONS)
    assert checkpoints.latest() == 5
    (tmp_path / "5" / "SHA256SUMS").unlink()
    assert checkpoints.restore({"w": jnp.zeros(3)})["w"].tolist() == [5.0] * 3
    assert capsys.readouterr().err == (
        f"warning: {tmp_path / '5'} has no checksums; it is read without knowing that it is whole\n"
    )
    checkpoints.close()


def test_restoring_without_a_checkpoint_says_where_it_looked(tmp_path):
    checkpoints = Checkpoints(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=f"no checkpoint in {tmp_path / 'empty'}"):
        checkpoints.restore({"w": jnp.zeros(3)})
    checkpoints.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory of weights, its config and the weights."""
    config = CONFIG.override(**{"optim.clip": 2.5, "loss.class_weights": (1.0, 2.0, 1.0, 1.0, 1.0, 1.0)})
    shapes = jax.eval_shape(lambda: model.initialise(config.model, jax.random.key(0)))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)
    directory = tmp_path_factory.mktemp("weights") / "model"
    save_weights(directory, params, config, TASK)
    return directory, config, params


def test_weights_and_their_config_come_back_bitwise(saved):
    directory, config, params = saved
    loaded_config, loaded, task = load_weights(directory)
    assert loaded_config == config and task == json.loads(json.dumps(task_options(TASK)))
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    assert raw(loaded) == raw(params) and len(raw(params)) >= 9


def test_a_flipped_bit_in_any_file_of_weights_is_never_loaded(saved):
    directory, _, params = saved
    assert len(files(directory)) >= 8
    for path in (path for path in files(directory) if path.name != "SHA256SUMS"):
        whole = path.read_bytes()
        for bit in np.random.default_rng(0).integers(0, 8 * len(whole), 5).tolist():
            flip(path, bit)
            with pytest.raises(ValueError, match=r"wrong SHA-256"):
                load_weights(directory)
            path.write_bytes(whole)
        path.unlink()
        with pytest.raises(ValueError, match=r"is missing, but SHA256SUMS lists it"):
            load_weights(directory)
        path.write_bytes(whole)
    (directory / "params" / "more").touch()
    with pytest.raises(ValueError, match="SHA256SUMS does not list params/more"):
        load_weights(directory)
    (directory / "params" / "more").unlink()
    assert raw(load_weights(directory).params) == raw(params)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=directory, check=True)


def test_weights_of_a_version_without_checksums_are_loaded_with_a_warning(saved, tmp_path, capsys):
    directory, _, params = saved
    older = tmp_path / "older"
    subprocess.run(["cp", "-r", directory, older], check=True)
    (older / "SHA256SUMS").unlink()
    assert raw(load_weights(older).params) == raw(params)
    assert capsys.readouterr().err.startswith(f"warning: {older} has no checksums")


def test_weights_never_replace_a_directory_that_exists(saved, tmp_path):
    directory, config, params = saved
    with pytest.raises(FileExistsError, match=f"{directory} exists; choose another directory"):
        save_weights(directory, jax.tree.map(jnp.zeros_like, params), config, TASK)
    assert raw(load_weights(directory).params) == raw(params)
    with pytest.raises(FileExistsError, match="exists"):
        save_weights(tmp_path, params, config, TASK)
    assert not list(tmp_path.iterdir())


def test_loading_from_a_directory_that_is_not_there_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no checkpoint directory at {tmp_path / 'nothing'}"):
        load_weights(tmp_path / "nothing")


def test_a_directory_of_something_else_is_named_with_what_was_meant(saved, tmp_path):
    directory, _, _ = saved
    with pytest.raises(ValueError, match=rf"is not a checkpoint: .* did you mean {directory}\?"):
        load_weights(directory.parent)
    with pytest.raises(ValueError, match=r"is not a checkpoint: it has no config and params$"):
        load_weights(tmp_path)


def test_a_relative_path_is_taken_from_where_the_program_runs(saved, monkeypatch):
    directory, config, _ = saved
    monkeypatch.chdir(directory.parent)
    assert load_weights(directory.relative_to(directory.parent)).config == config
