"""How time and memory grow with each size, beside what the arithmetic predicts."""

import sys
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

import jax
import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from tqdm import tqdm

from trm_jax.benchmark import jax_side
from trm_jax.benchmark.cases import random_data
from trm_jax.benchmark.rows import spread
from trm_jax.core.config import Config
from trm_jax.reporting import markdown
from trm_jax.reporting.style import BLACK, BLUE, ORANGE, STYLE
from trm_jax.support.timing import time_interleaved

LIMIT = 1.3
"""Growth over the predicted growth that is worth a sentence."""
BASE = Config().override(**{"recursion.T": 1, "recursion.n": 2, "recursion.N_sup": 1})
VALUES: dict[str, tuple[int, ...]] = {
    "n": (1, 3, 7, 15), "T": (1, 2, 4, 8), "N_sup": (1, 2, 4, 8), "L": (4, 16, 36, 64), "D": (16, 32, 64, 128),
    "B": (16, 32, 64, 128), "S": (1, 2, 4),
}  # fmt: skip
MODES: dict[str, dict[str, Any]] = {
    "stored": {"recursion.remat": False},
    "recomputed": {"recursion.remat": True},
    "segments": {"recursion.remat": True, "recursion.segment": 6},
    "last_cycle": {"recursion.gradient": "last_cycle"},
    "one_step": {"recursion.gradient": "one_step"},
}
"""Gradient modes; only the memory of the first should grow with n and T."""


class Point(NamedTuple):
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


class Memory(NamedTuple):
    """Memory of the compiled step (nothing is run) in one gradient mode."""

    mode: str
    size: str
    value: int
    temp_mb: float
    growth: float


@dataclass(frozen=True)
class Growth:
    """Curves of every size, and memory in every gradient mode."""

    curves: list[Point] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)

    @property
    def excesses(self) -> list[str]:
        """Sentences on what grows more than LIMIT times faster than predicted: time, or memory that should be flat."""
        return [
            f"time in {p.size}: {p.growth:.2f} times at {p.value}, {p.predicted:.2f} predicted"
            for p in self.curves if p.growth > LIMIT * p.predicted
        ] + [
            f"memory in {m.size} with {m.mode}: {m.growth:.2f} times at {m.value}, flat expected"
            for m in self.memory if m.mode != "stored" and m.growth > LIMIT
        ]  # fmt: skip

    def report(self) -> str:
        """Every curve, memory by mode, and what exceeds the prediction, as Markdown."""
        curves = [
            [f"{p.size} = {p.value}", f"{p.ms:.3g}", f"{p.growth:.2f} ({p.growth_low:.2f} to {p.growth_high:.2f})",
             f"{p.predicted:.2f}", f"{p.temp_mb:.3g}"] for p in self.curves
        ]  # fmt: skip
        memory = [[m.mode, f"{m.size} = {m.value}", f"{m.temp_mb:.3g}", f"{m.growth:.2f}"] for m in self.memory]
        return "\n\n".join([
            "Growth counts from the smallest value; predicted is the growth of the matrix-product operations.",
            markdown.table(["Size", "ms a step", "Growth (range)", "Predicted", "Temporary, MB"], curves),
            markdown.table(["Gradient", "Size", "Temporary, MB", "Growth"], memory),
            f"More than {LIMIT} times the prediction:",
            markdown.bullets(self.excesses or ["nothing"]),
        ])  # fmt: skip


def at(size: str, value: int) -> Config:
    """The base config with one size changed: a 4x4 grid, width 32, 64 samples, one supervision step."""
    if size == "S":
        return BASE
    if size == "L":
        return BASE.override(**{"model.grid": (int(value**0.5),) * 2})
    return BASE.override(**{{"D": "model.width", "B": "run.batch"}.get(size, f"recursion.{size}"): value})


def measure_curve(size: str, rounds: int, seconds: float) -> list[Point]:
    """Time of a training step at every value of a size; the values take turns."""
    configs = {value: at(size, value) for value in VALUES[size]}
    seeds = {value: value if size == "S" else 1 for value in configs}
    calls = {
        value: jax_side.trainer(config, random_data(config, config.run.batch), steps=2, seeds=seeds[value])
        for value, config in configs.items()
    }
    times = time_interleaved(calls, rounds, seconds)
    flops = {v: jax_side.training_flops(config, config.run.batch) * seeds[v] for v, config in configs.items()}
    smallest, points = min(configs), []
    for value, config in configs.items():
        growth = spread([time / first for time, first in zip(times[value], times[smallest], strict=True)])
        temp = jax_side.temporary_mb(config, value if size == "S" else 0)
        ms = 1000 * median(times[value]) / 2
        points.append(Point(size, value, ms, *growth, flops[value] / flops[smallest], temp))
    return points


def measure_memory() -> list[Memory]:
    """Memory of a step against n and T in every gradient mode."""
    rows = []
    for mode, options in MODES.items():
        for size in ("T",) if mode == "last_cycle" else ("n", "T"):  # with T=1 the last cycle is the whole step
            temps = {value: jax_side.temporary_mb(at(size, value).override(**options)) for value in VALUES[size]}
            rows += [Memory(mode, size, value, temp, temp / temps[1]) for value, temp in temps.items()]
    return rows


def measure_growth(rounds: int, seconds: float) -> Growth:
    """All curves and memory."""
    growth = Growth(memory=measure_memory())
    for size in tqdm(VALUES, desc="growth", unit="curve", file=sys.stderr):
        growth.curves.extend(measure_curve(size, rounds, seconds))
        jax.clear_caches()
    return growth


@matplotlib.rc_context(STYLE)
def figure(growth: Growth) -> Figure:
    """Small multiples: measured growth of time and memory with each size, beside the predicted growth of time."""
    drawing = Figure(figsize=(7.5, 4.5), layout="constrained")
    panels = list(drawing.subplots(2, 4).flat)
    for axes, size in zip(panels, VALUES, strict=False):
        points = [point for point in growth.curves if point.size == size]
        x = [point.value for point in points]
        axes.plot(x, [point.predicted for point in points], "--", color=BLACK, label="operations (predicted time)")
        axes.plot(x, [point.growth for point in points], "o-", color=BLUE, label="time")
        axes.plot(x, [p.temp_mb / points[0].temp_mb for p in points], "s:", color=ORANGE, label="temporary memory")
        axes.set(xscale="log", yscale="log", title=size)
        axes.set_xticks(x, [str(value) for value in x])
        axes.xaxis.set_minor_formatter(NullFormatter())
    panels[-1].axis("off")
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return drawing
