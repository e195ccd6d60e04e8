"""Checkpoints with orbax: whole training states to resume from, and weights alone to use."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import LatestN

from trm_jax.core.config import Config, migrate
from trm_jax.core.network.model import abstract_weights
from trm_jax.core.start import fitted
from trm_jax.core.task import Task, run_options
from trm_jax.support.checksums import check_all, files_below, write_sums
from trm_jax.support.files import refuse_existing, sync
from trm_jax.support.schema import from_dict
from trm_jax.training.processes import broadcast_from_first, is_first_process, on_first_process

FILE_BYTES = 15 * 2**20
"""Largest file of a checkpoint: some ways of carrying one to another machine take no larger ones."""
UNLISTED = ("_CHECKPOINT_METADATA", "commit_success.txt")
"""Files that orbax writes after the checksums are made, by version: when it wrote a checkpoint, and that it did."""


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        """Never: the service that would tell is off (see `trm_jax.training.processes`), and asking it fails."""
        return False


def _handlers() -> ocp.handlers.DefaultCheckpointHandlerRegistry:
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    state, config = ocp.PyTreeCheckpointHandler(use_zarr3=True), ocp.JsonCheckpointHandler()
    for args in (ocp.args.PyTreeSave, ocp.args.PyTreeRestore):
        registry.add("state", args, state)
    for args in (ocp.args.JsonSave, ocp.args.JsonRestore):
        registry.add("config", args, config)
    return registry


def _placed(leaf: Any) -> Any:
    """A shape with the devices it is for: the first, where none are named, since those it was saved on may be gone."""
    if getattr(leaf, "sharding", None) is not None:
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]))


class Checkpoints:
    """The checkpoints of one run. A save is complete or absent: orbax writes aside, in its own thread, and renames.

    Before it renames, the checksums of the files are written beside them, which `restore` checks.
    """

    def __init__(self, directory: Path):
        options = ocp.CheckpointManagerOptions(
            preservation_policy=LatestN(2),
            create=True,
            async_options=ocp.options.AsyncOptions(post_finalization_callback=self._seal),
        )
        self._manager = _Manager(directory.absolute(), options=options, handler_registry=_handlers())

    def latest(self) -> int | None:
        """Step of the newest checkpoint, or None."""
        self._manager.wait_until_finished()
        return self._manager.latest_step()

    def save(self, step: int, state: Any, options: dict[str, Any]) -> None:
        """Save a pytree of arrays, in files of at most FILE_BYTES, and the options of the run.

        Returns when the arrays have left the device, which may use their memory again; what goes wrong with writing is
        raised by the next call.
        """
        pieces = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=FILE_BYTES // 4), state)
        args = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state, pieces, ocdbt_target_data_file_size=FILE_BYTES // 2),
            config=ocp.args.JsonSave(json.loads(json.dumps(options))),
        )
        self._manager.save(step, args=args)

    def restore(self, abstract: Any) -> Any:
        """Newest whole checkpoint, in the structure, dtypes and shardings of ``abstract``.

        Damaged ones are named and then removed: a run makes them again. Raises FileNotFoundError where there is none,
        ValueError where none is whole.
        """
        if self.latest() is None:
            raise FileNotFoundError(f"no checkpoint in {self._manager.directory}")
        chosen = [-1]
        on_first_process(lambda: chosen.append(self._newest_whole()))
        step = int(broadcast_from_first(np.asarray(chosen[-1])))
        for damaged in [later for later in self._manager.all_steps() if later > step]:
            self._manager.delete(damaged)
        placed = jax.tree.map(_placed, abstract)
        wanted = ocp.args.PyTreeRestore(placed, restore_args=ocp.checkpoint_utils.construct_restore_args(placed))
        args = ocp.args.Composite(state=wanted)
        return jax.tree.map(_typed, abstract, self._manager.restore(step, args=args)["state"])

    def _seal(self) -> None:
        """Called by orbax when all files are written, before the one folder it writes in gets its name."""
        if is_first_process():
            for folder in Path(self._manager.directory).glob("*.orbax-checkpoint-tmp*"):
                write_sums(folder, [name for name in files_below(folder) if name not in UNLISTED])

    def _newest_whole(self) -> int:
        damages = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                _check(self._path(step), UNLISTED)
            except ValueError as error:
                damages.append(str(error))
                continue
            for damage in damages:
                print(f"warning: {damage}; goes on from the whole checkpoint before it, {step}", file=sys.stderr)
            return step
        raise ValueError(f"no checkpoint is whole: {'; '.join(damages)}")

    def _path(self, step: int) -> Path:
        return Path(self._manager.directory) / str(step)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is being written, and release the files."""
        self._manager.close()
        sync(Path(self._manager.directory))


class Weights(NamedTuple):
    """One model as it is stored."""

    config: Config
    params: Any
    task: dict[str, Any]
    """Options of the task it was trained on, ``name`` included."""


def save_weights(directory: Path, params: Any, config: Config, task: Task) -> None:
    """Write the weights of one model, its config and the options of its task, for `load_weights`.

    Raises FileExistsError for a directory that exists.
    """
    refuse_existing(directory)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(params),
            config=ocp.args.JsonSave(json.loads(json.dumps(run_options(task, config)))),
        )
        checkpointer.save(directory.absolute(), args=args)
    write_sums(directory)


def save_seeds(directory: Path, stacked: Any, config: Config, task: Task) -> list[Path]:
    """Write the weights of every seed (leading axis S) as ``weights-SEED`` where missing. Returns the paths."""
    paths = [directory / f"weights-{seed}" for seed in config.run.seeds]
    for index, (seed, path) in enumerate(zip(config.run.seeds, paths, strict=True)):
        if not path.exists():
            params = jax.tree.map(lambda leaf, index=index: leaf[index], stacked)
            save_weights(path, params, config, task.for_seed(seed))
    return paths


def load_weights(directory: Path) -> Weights:
    """What `save_weights` wrote, now or in an earlier version.

    Raises FileNotFoundError with the path, or ValueError for a directory of something else, with those below that fit,
    and for files that are not what was written.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"no checkpoint directory at {directory}")
    if not _has_weights(directory):
        below = [
            str(path) for path in sorted(directory.glob("*/")) if _has_weights(path) or _has_weights(path / "weights")
        ]
        meant = f"; did you mean {' or '.join(below[:3])}?" if below else ""
        raise ValueError(f"{directory} is not a checkpoint: it has no config and params{meant}")
    _check(directory)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(directory.absolute(), args=ocp.args.Composite(config=ocp.args.JsonRestore()))
        options = migrate(restored["config"])
        task = options.pop("task", {})
        config = from_dict(options, Config)
        abstract = jax.tree.map(_placed, abstract_weights(config.model))
        args = ocp.args.Composite(params=ocp.args.StandardRestore(abstract))
        return Weights(config, checkpointer.restore(directory.absolute(), args=args)["params"], task)


def starting_weights(config: Config) -> Any:
    """Weights of ``run.init``, in numpy, as the model of the config takes them.

    A directory holds weights of ours, or has them as ``weights``; a file is one of the official code. Raises
    FileNotFoundError, or ValueError for weights that do not fit.
    """
    path = Path(config.run.init)
    try:
        if path.is_dir():
            inside = path / "weights"
            params = load_weights(inside if inside.is_dir() else path).params
            return fitted(config.model, jax.tree.map(np.asarray, params), config.run.init_puzzles)
        from trm_jax.official.tensor_files import read_state_dict  # here: the engine needs no reader of tensor files
        from trm_jax.official.weights import import_weights

        return jax.tree.map(np.asarray, import_weights(config, read_state_dict(path), config.run.init_puzzles))
    except ValueError as error:
        raise ValueError(f"run.init={path}: {error}") from None


def _has_weights(directory: Path) -> bool:
    return all((directory / name).is_dir() for name in ("config", "params"))


def _typed(wanted: Any, found: Any) -> Any:
    """A leaf of the kind that is wanted: orbax gives keys as plain numbers where it is told only of a shape."""
    numbers = found.dtype != wanted.dtype and jax.dtypes.issubdtype(wanted.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(found) if numbers else found


def _check(directory: Path, unlisted: Sequence[str] = ()) -> None:
    """Raise ValueError for files that are not what was written; those without checksums only get a warning."""
    if not check_all(directory, unlisted) and is_first_process():
        print(f"warning: {directory} has no checksums; it is read without knowing that it is whole", file=sys.stderr)
