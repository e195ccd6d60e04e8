"""How much memory a run needs on each device: what the compiler says, before anything is computed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax

from trm_jax.core.config import Config
from trm_jax.support.schema import require
from trm_jax.training.devices import seeds_at_once


@dataclass(frozen=True)
class Memory:
    """Bytes that a compiled program needs on each device."""

    arguments: int
    """State and data."""
    temporary: int
    """What it stores while it runs, and results that do not take the place of arguments."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.arguments + self.temporary


def needed(program: Any) -> Memory:
    """Memory of a compiled program."""
    told = program.memory_analysis()
    kept = told.output_size_in_bytes - told.alias_size_in_bytes
    return Memory(told.argument_size_in_bytes, told.temp_size_in_bytes + kept)


def memory_limit(mesh) -> int:
    """Bytes that a device may hold: what its allocator says, or an equal share of the machine's memory."""
    device = mesh.local_mesh.devices.flat[0]
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(mesh.local_mesh.devices.flat)


def describe(config: Config, memory: Memory, limit: int) -> str:
    """One line for people, with what to change where it does not fit."""
    parts = f"state and data {_gigabytes(memory.arguments)}, while it computes {_gigabytes(memory.temporary)}"
    line = f"needs {_gigabytes(memory.total)} on each device ({parts}), of {_gigabytes(limit)}"
    if memory.total <= limit:
        return line
    times = memory.temporary / max(limit - memory.arguments, 1)
    return f"{line}; {', or '.join(advice(config, times))}"


def advice(config: Config, times: float = 2.0) -> list[str]:
    """Changes of options that need less memory, those first that cost least, for a program ``times`` too large.

    Parts of a batch and seeds at once are chosen so that they are enough, if its memory grows with them.
    """
    run, depth = config.run, config.recursion
    at_once = seeds_at_once(config) or len(run.seeds)
    divisors = [parts for parts in range(run.accumulate + 1, run.batch + 1) if run.batch % parts == 0]
    enough = [parts for parts in divisors if parts >= times * run.accumulate] or divisors[-1:]
    changes = {
        "recursion.remat=true": not depth.remat,
        f"run.seeds_at_once={max(1, int(at_once / max(times, 2)))}": at_once > 1,
        f"run.accumulate={enough[0] if enough else 0}": bool(enough),
        "model.dtype=bfloat16": config.model.dtype != "bfloat16",
        f"recursion.segment={depth.n + 1}": depth.segment == 0,
    }
    return [f"set {change}" for change, helps in changes.items() if helps] or ["choose a smaller model or batch"]


def require_fit(config: Config, memory: Memory, limit: int) -> None:
    """Raise ValueError with what to lower where a program needs more memory than there is."""
    require(memory.total <= limit, f"the run {describe(config, memory, limit)}")


@contextmanager
def advice_when_exhausted(config: Config, name: str) -> Iterator[None]:
    """Raise ValueError with what to lower where a device runs out of memory although the program seemed to fit."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        first = str(error).splitlines()[0]
        raise ValueError(f"{name}: {first} To need less: {', or '.join(advice(config))}; choose a new name") from error


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
