"""The directory of a run: config, environment, metrics and progress. Everything a run writes lies in it."""

import fcntl
import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from trm_jax.core.config import Config, migrate
from trm_jax.support.files import read_json, write_text
from trm_jax.support.provenance import environment
from trm_jax.support.schema import changed_fields, from_dict
from trm_jax.training.processes import is_first_process, on_first_process

HOW = (
    "run.minutes", "run.eval_batch", "run.accumulate", "run.seeds_at_once", "run.tensorboard", "model.matmul_precision",
)  # fmt: skip
"""Options of how a run is computed, with which it may be taken up differently: on a smaller device, or for longer."""
LEFTOVERS = ("lock", "config.json", "environment.json")
"""How the names of files begin that an early kill leaves, whole or temporary."""
STEPS = "steps_of_validation"
"""In a row of metrics, the first validation score of every seed after each supervision step."""


def read_options(path: Path) -> dict[str, Any]:
    """Options of the run in a directory, by section, in the layout of today. Raises ValueError for broken JSON."""
    return migrate(read_json(path / "config.json"))


def read_config(path: Path) -> tuple[Config, dict[str, Any]]:
    """Config of the run in a directory, and the options of its task. Raises ValueError as `read_options` does."""
    options = read_options(path)
    task = options.pop("task", {})
    return from_dict(options, Config), task


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl of the run in a directory so far; a line that a kill cut short is left out."""
    file, rows = path / "metrics.jsonl", []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def filled(options: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Options with the defaults of those that did not exist when they were written."""
    known = {
        name: filled(options[name], part)
        for name, part in defaults.items()
        if isinstance(options.get(name), dict) and isinstance(part, dict)
    }
    return {**defaults, **options, **known}


def _is_empty(entry: Path) -> bool:
    """Whether what lies in the directory of a run is no more than what it begins with."""
    if entry.is_dir():
        return entry.name in ("checkpoints", "events") and not any(entry.iterdir())
    return entry.name.startswith(LEFTOVERS) or (entry.name == "metrics.jsonl" and not entry.stat().st_size)


class Events:
    """Rows of metrics as TensorBoard event files, a folder for each seed; older files make way."""

    def __init__(self, folder: Path, seeds: list[int]):
        from tensorboardX import SummaryWriter  # here: an extra

        shutil.rmtree(folder, ignore_errors=True)
        self._writers = [SummaryWriter(str(folder / f"seed-{seed}")) for seed in seeds]

    def write(self, row: dict[str, Any]) -> None:
        """One row, at once on the disk."""
        for place, writer in enumerate(self._writers):
            for name, values in row.items():
                if np.ndim(values) == 1:
                    writer.add_scalar(name, values[place], row["step"])
            writer.flush()

    def close(self) -> None:
        """Finish the files."""
        for writer in self._writers:
            writer.close()


class RunDirectory:
    """A run's directory, created or taken up again; as a context it is locked against a second run.

    Of a run's processes the first alone writes; the others must make the same calls.
    ``options`` are those of `trm_jax.core.task.run_options`; ``defaults`` are used for options that the run did not
    know; those named in ``free`` may differ too, as HOW may.
    A run that stopped before its first update, such as one with an option that does not fit, holds nothing: it may be
    taken up with others. Raises ValueError when the directory holds a run with other options, or anything else, or is
    in use: nothing is overwritten silently. Raises RuntimeError for ``run.tensorboard`` without tensorboardX.
    """

    def __init__(
        self, path: Path, options: dict[str, Any], defaults: dict[str, Any] | None = None, free: tuple[str, ...] = ()
    ):
        self.path, self.options, self.defaults, self.free = path, options, defaults or {}, (*HOW, *free)
        self._events: Events | None = None
        on_first_process(self._create)

    def _create(self) -> None:
        path = self.path
        if self.options["run"]["tensorboard"] and find_spec("tensorboardX") is None:
            raise RuntimeError("run.tensorboard needs a package that is not here: pip install tensorboardX")
        if (path / "config.json").exists():
            self._other_options()
            return
        if path.exists() and any(not entry.name.startswith(LEFTOVERS) for entry in path.iterdir()):
            raise ValueError(f"{path} exists and is not a run of this program; choose another name")
        path.mkdir(parents=True, exist_ok=True)
        self._write()

    def _other_options(self) -> list[str]:
        """Options that differ in a run that never made an update. Raises ValueError where there is more of it."""
        stored = filled(read_options(self.path), json.loads(json.dumps(self.defaults)))
        changed = changed_fields(stored, json.loads(json.dumps(self.options)))
        different = [name for name in changed if name not in self.free]
        if different and any(not _is_empty(entry) for entry in self.path.iterdir()):
            raise ValueError(
                f"{self.path} holds a run with other options ({', '.join(different)}); "
                "choose another name or remove the directory"
            )
        return different

    def _write(self) -> None:
        write_text(self.path / "environment.json", json.dumps(environment(), indent=2))
        write_text(self.path / "config.json", json.dumps(self.options, indent=2))

    def __enter__(self) -> "RunDirectory":
        on_first_process(self._acquire)
        return self

    def _acquire(self) -> None:
        self._lock = os.open(self.path / "lock", os.O_WRONLY | os.O_CREAT)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ValueError(f"another process trains in {self.path}; wait for it or choose another name") from None
        try:
            different = self._other_options()  # again, now that nobody else is at it
            if different:
                print(f"{self.path} never made an update; it begins with other {', '.join(different)}", file=sys.stderr)
                self._write()
        except BaseException:
            os.close(self._lock)
            raise

    def __exit__(self, *_: object) -> None:
        if self._events:
            self._events.close()
        if is_first_process():
            os.close(self._lock)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl so far."""
        return read_metrics(self.path)

    def truncate_metrics(self, step: int) -> None:
        """Drop the rows after ``step``, a resumed run writes them again; begin the event files with those before."""
        if not is_first_process():
            return
        rows = [row for row in self.metrics if row["step"] <= step]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        if self.options["run"]["tensorboard"]:
            self._events = Events(self.path / "events", self.options["run"]["seeds"])
            for row in rows:
                self._events.write(row)

    def log(self, row: dict[str, Any]) -> None:
        """Append one row to metrics.jsonl and wait until it is on the disk: a later checkpoint must find it there."""
        if not is_first_process():
            return
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self._events:
            self._events.write(row)
