"""How fast a model answers on this machine, and how much memory it takes."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trm_jax.edge.classify import answer, check, inputs
from trm_jax.edge.package import Options, open_model
from trm_jax.support.machine import peak_memory
from trm_jax.wafer.maps.wafers import Wafers

WARM_UP = 3
"""Calls before the clock counts."""


class Speed(NamedTuple):
    """One model file at one size of batch; times are of whole batches."""

    model: str
    provider: str
    batch: int
    threads: int
    load_s: float
    """Opening the file, building an engine included."""
    prepare_ms: float
    """Median time for making the inputs of a batch."""
    p50_ms: float
    p90_ms: float
    p99_ms: float
    maps_per_s: float
    """By the mean time of a batch, inputs included."""
    mean_steps: float
    """Supervision steps a map."""
    peak_mb: float
    """Largest memory of the process so far, in 10**6 bytes; NaN where the system does not say."""


def measure(
    path: Path, wafers: Wafers, options: Options, batch: int = 1, threshold: float | None = None, repeats: int = 100
) -> Speed:
    """Answer ``repeats`` batches of the wafers, again and again from the first. Raises ValueError as ``classify``."""
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    start = time.perf_counter()
    model = open_model(path, options)
    load = time.perf_counter() - start
    check(model, batch, threshold)
    seconds, steps = np.zeros((2, repeats)), 0.0
    for repeat in range(-WARM_UP, repeats):
        chosen = wafers.take(np.arange(repeat * batch, (repeat + 1) * batch) % len(wafers))
        start = time.perf_counter()
        grids = inputs(model, chosen)
        between = time.perf_counter()
        classified = answer(model, grids, threshold)
        if repeat >= 0:
            seconds[:, repeat] = between - start, time.perf_counter() - between
            steps += float(classified.steps.mean()) / repeats
    prepared, answered = 1000 * seconds
    p50, p90, p99 = np.percentile(answered, [50, 90, 99]).tolist()
    return Speed(
        model=path.name,
        provider=model.provider,
        batch=batch,
        threads=options.threads,
        load_s=load,
        prepare_ms=float(np.median(prepared)),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        maps_per_s=batch / float(seconds.sum(axis=0).mean()),
        mean_steps=steps,
        peak_mb=peak_memory(),
    )


def measure_alone(arguments: Sequence[str]) -> Speed:
    """Measure in a process of its own, so that memory and loading are of this model alone.

    ``arguments`` are those of the command ``benchmark`` for a single file. Raises ValueError with what it says.
    """
    command = [sys.executable, "-m", "trm_jax.edge", "benchmark", *arguments, "--json"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise ValueError(result.stderr.strip().rpartition("\n")[2].removeprefix("error: "))
    return Speed(**json.loads(result.stdout)[0])


def table(speeds: Sequence[Speed]) -> str:
    """The speeds in aligned columns."""
    rows = [Speed._fields] + [
        tuple(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in speed) for speed in speeds
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
