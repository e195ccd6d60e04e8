"""Checkpoints with orbax: whole training states to resume from, and weights alone to use."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import LatestN

from trm_jax.core.config import Config, migrate
from trm_jax.core.model import initialise
from trm_jax.core.task import Task, run_options
from trm_jax.support.schema import from_dict


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        """Never: the service that would tell is off (see `trm_jax.training.processes`), and asking it fails."""
        return False


class Checkpoints:
    """The checkpoints of one run. A save is complete or absent: orbax writes aside and renames."""

    def __init__(self, directory: Path):
        options = ocp.CheckpointManagerOptions(
            preservation_policy=LatestN(2), enable_async_checkpointing=False, create=True
        )
        self._manager = _Manager(directory.absolute(), options=options)

    def latest(self) -> int | None:
        """Step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, options: dict[str, Any]) -> None:
        """Save a pytree of arrays and the options of the run."""
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), config=ocp.args.JsonSave(json.loads(json.dumps(options)))
        )
        self._manager.save(step, args=args)

    def restore(self, abstract: Any) -> Any:
        """Newest checkpoint, in the structure, dtypes and shardings of ``abstract``. Raises FileNotFoundError."""
        step = self.latest()
        if step is None:
            raise FileNotFoundError(f"no checkpoint in {self._manager.directory}")
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        return self._manager.restore(step, args=args)["state"]

    def close(self) -> None:
        """Release the files."""
        self._manager.close()


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
    if directory.exists():
        raise FileExistsError(f"{directory} exists; choose another directory or remove it")
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(params),
            config=ocp.args.JsonSave(json.loads(json.dumps(run_options(task, config)))),
        )
        checkpointer.save(directory.absolute(), args=args)


def save_seeds(directory: Path, stacked: Any, config: Config, task: Task) -> list[Path]:
    """Write the weights of every seed (leading axis S) as ``weights-SEED`` where missing. Returns the paths."""
    paths = [directory / f"weights-{seed}" for seed in config.run.seeds]
    for index, path in enumerate(paths):
        if not path.exists():
            save_weights(path, jax.tree.map(lambda leaf, index=index: leaf[index], stacked), config, task)
    return paths


def load_weights(directory: Path) -> Weights:
    """What `save_weights` wrote, now or in an earlier version.

    Raises FileNotFoundError with the path, or ValueError for a directory of something else, with those below that fit.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"no checkpoint directory at {directory}")
    if not _has_weights(directory):
        below = [
            str(path) for path in sorted(directory.glob("*/")) if _has_weights(path) or _has_weights(path / "weights")
        ]
        meant = f"; did you mean {' or '.join(below[:3])}?" if below else ""
        raise ValueError(f"{directory} is not a checkpoint: it has no config and params{meant}")
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(directory.absolute(), args=ocp.args.Composite(config=ocp.args.JsonRestore()))
        options = migrate(restored["config"])
        task = options.pop("task", {})
        config = from_dict(options, Config)
        abstract = jax.eval_shape(lambda: initialise(config.model, jax.random.key(0)))
        # Named here, because the devices it was saved on may not exist on this machine.
        placement = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement), abstract)
        args = ocp.args.Composite(params=ocp.args.StandardRestore(abstract))
        return Weights(config, checkpointer.restore(directory.absolute(), args=args)["params"], task)


def _has_weights(directory: Path) -> bool:
    return all((directory / name).is_dir() for name in ("config", "params"))
