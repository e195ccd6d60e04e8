"""How time and memory grow with each size, beside what the arithmetic predicts."""

import sys
from dataclasses import asdict, dataclass
from typing import Any

import jax
from tqdm import tqdm

from trm_jax.benchmark import jax_side
from trm_jax.benchmark.shared import random_data
from trm_jax.benchmark.timing import spread, take_turns
from trm_jax.core.config import Config

LIMIT = 1.3
BASE = Config().override(**{"recursion.T": 1, "recursion.n": 2, "recursion.N_sup": 1})
VALUES: dict[str, tuple[int, ...]] = {
    "n": (1, 3, 7, 15),
    "T": (1, 2, 4, 8),
    "N_sup": (1, 2, 4, 8),
    "L": (4, 16, 36, 64),
    "D": (16, 32, 64, 128),
    "B": (16, 32, 64, 128),
    "S": (1, 2, 4),
}
MODES: dict[str, dict[str, Any]] = {
    "stored": {"recursion.remat": False},
    "recomputed": {"recursion.remat": True},
    "segments": {"recursion.remat": True, "recursion.segment": 6},
    "last_cycle": {"recursion.gradient": "last_cycle"},
    "one_step": {"recursion.gradient": "one_step"},
}
FLAT = {"T": ("recomputed", "segments", "last_cycle", "one_step"), "n": ("recomputed", "segments", "one_step")}


@dataclass(frozen=True)
class Point:
    """A training step at one value of one size; growth counts from the smallest value."""

    size: str
    value: int
    ms: float
    growth: float
    growth_low: float
    growth_high: float
    predicted: float
    """Growth of the matrix-product operations."""
    temp_mb: float
    """Memory that the compiled step needs besides state and data, on every device."""


@dataclass(frozen=True)
class Memory:
    """Memory of the compiled step (nothing is run) in one gradient mode."""

    mode: str
    size: str
    value: int
    temp_mb: float
    growth: float


def at(size: str, value: int) -> Config:
    """The base config with one size changed: a 4x4 grid, width 32, 64 samples, one supervision step."""
    if size == "L":
        side = int(value**0.5)
        return BASE.override(**{"model.grid": (side, side)})
    if size == "S":
        return BASE
    section = {"D": "model.width", "B": "run.batch"}.get(size, f"recursion.{size}")
    return BASE.override(**{section: value})


def measure_curve(size: str, rounds: int, seconds: float) -> list[Point]:
    """Time of a training step at every value of a size; the values take turns."""
    values = VALUES[size]
    configs = {value: at(size, value) for value in values}
    seeds = {value: value if size == "S" else 1 for value in values}
    calls = {
        str(value): jax_side.trainer(config, random_data(config, config.run.batch), steps=2, seeds=seeds[value])
        for value, config in configs.items()
    }
    times = take_turns(calls, rounds, seconds)
    flops = {v: jax_side.training_flops(config, config.run.batch) * seeds[v] for v, config in configs.items()}
    first = values[0]
    points = []
    for value, config in configs.items():
        pairs = zip(times[str(value)], times[str(first)], strict=True)
        growth = spread([own / smallest for own, smallest in pairs])
        temp = jax_side.compile_step(config, value if size == "S" else 0).memory_analysis().temp_size_in_bytes / 2**20
        ms = 1000 * spread(times[str(value)]).median / 2
        predicted = flops[value] / flops[first]
        points.append(Point(size, value, ms, growth.median, growth.low, growth.high, predicted, temp))
    return points


def measure_memory() -> list[Memory]:
    """Memory of a step against n and T in every gradient mode."""
    found = []
    for mode, options in MODES.items():
        for size in ("n", "T"):
            temps = {}
            for value in VALUES[size]:
                config = at(size, value).override(**options)
                if mode == "last_cycle" and size == "n":
                    continue  # with T=1 the last cycle is the whole step
                temps[value] = jax_side.compile_step(config).memory_analysis().temp_size_in_bytes / 2**20
            first = next(iter(temps.values()), 1.0)
            found += [Memory(mode, size, value, temp, temp / first) for value, temp in temps.items()]
    return found


def measure_growth(rounds: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """Curves of every size, and memory in every gradient mode, as plain values."""
    points: list[Point] = []
    for size in tqdm(VALUES, desc="growth", unit="curve", file=sys.stderr):
        points += measure_curve(size, rounds, seconds)
        jax.clear_caches()
    return {"curves": [asdict(point) for point in points], "memory": [asdict(row) for row in measure_memory()]}


def excesses(growth: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Sentences on what grows more than LIMIT times faster than predicted: time by arithmetic, memory where flat."""
    found = [
        f"time in {p['size']}: {p['growth']:.2f} times at {p['value']}, {p['predicted']:.2f} predicted"
        for p in growth["curves"]
        if p["growth"] > LIMIT * p["predicted"]
    ]
    found += [
        f"memory in {m['size']} with {m['mode']}: {m['growth']:.2f} times at {m['value']}, flat expected"
        for m in growth["memory"]
        if m["mode"] in FLAT[m["size"]] and m["growth"] > LIMIT
    ]
    return found
