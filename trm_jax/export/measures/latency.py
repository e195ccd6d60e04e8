"""How long a model takes to load and to answer one input, and its memory: always in a process of its own.

`python -m trm_jax.export.measures.latency MODEL FEEDS THREADS` is that process; it imports what it measures and
nothing else.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from trm_jax.support.machine import peak_memory
from trm_jax.support.timing import interleaved

WARM_UP = 3
"""Calls before the clock counts."""
ROUNDS = 20
"""Turns that each model gets."""
PAUSE = 0.02
"""Seconds before a turn, in which threads that wait busily after a call go to sleep."""
Key = TypeVar("Key")


class Job(NamedTuple):
    """A model to measure."""

    path: Path
    """An .onnx file, or the directory of a checkpoint with jitted JAX."""
    feeds: dict[str, np.ndarray]
    """``inputs`` (N, ...) of what it takes first, used one by one, and its other inputs as they are."""
    threads: int
    """Threads of onnxruntime; JAX has so many cores."""


@dataclass(frozen=True)
class Speed:
    """Percentiles of the time of a call, and what the process needed."""

    load_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    mean_steps: float
    """Supervision steps of a call; NaN where a file does not tell."""
    peak_mb: float


class ModelProcess:
    """A model in a process of its own, which waits for `time_calls`. Raises RuntimeError with what the process said."""

    def __init__(self, job: Job):
        self.name = job.path.name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads would fill up
        with tempfile.TemporaryDirectory() as folder:
            feeds = Path(folder) / "feeds.npz"
            np.savez(feeds, **job.feeds)  # type: ignore[arg-type]
            command = [sys.executable, "-m", "trm_jax.export.measures.latency"]
            command += [str(job.path), str(feeds), str(job.threads)]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True)
            try:
                self.load_ms = self._read()["load_ms"]
            except BaseException:
                self.close()
                raise

    def time_calls(self, calls: int) -> dict[str, Any]:
        """Milliseconds and supervision steps of so many calls, and the largest memory so far."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # the process has ended; reading tells why
            self.process.stdin.write(f"{calls}\n")
            self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"measuring {self.name} failed: {self.errors.read().strip().splitlines()[-1:]}")
        return json.loads(line)


def measure_speeds(jobs: Mapping[Key, Job], repeats: int) -> dict[Key, Speed]:
    """Measure every job with so many calls, a few at a time in turns, so that a slow moment is one for all."""
    from tqdm import tqdm

    calls = -(-repeats // ROUNDS)
    with contextlib.ExitStack() as stack:
        processes = {}
        for key, job in tqdm(jobs.items(), "loading", file=sys.stderr, disable=None):
            processes[key] = ModelProcess(job)
            stack.callback(processes[key].close)
        turns = tqdm(range(ROUNDS), "speed", file=sys.stderr, disable=None)
        timers = {key: lambda process=process: process.time_calls(calls) for key, process in processes.items()}
        samples = interleaved(timers, turns, PAUSE)
    return {key: summary(processes[key].load_ms, samples[key]) for key in jobs}


def summary(load_ms: float, samples: list[dict[str, Any]]) -> Speed:
    """Percentiles over all calls."""
    times = np.concatenate([sample["ms"] for sample in samples])
    steps = float(np.mean([sample["steps"] for sample in samples]))
    p50, p90, p99 = map(float, np.percentile(times, [50, 90, 99]))
    return Speed(load_ms, p50, p90, p99, float(times.mean()), steps, samples[-1]["peak_mb"])


def open_session(model: Path | bytes, threads: int = 1, optimized: bool = True) -> Any:
    """A file or a serialized graph in onnxruntime on the processor, as the graph stands if not ``optimized``."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _load_file(path: Path, others: dict[str, np.ndarray], threads: int) -> Callable[[np.ndarray], float]:
    """A call of an .onnx file, which returns the supervision steps it took."""
    session = open_session(path, threads)
    first = session.get_inputs()[0].name
    counts_steps = any(output.name == "steps" for output in session.get_outputs())

    def call(inputs: np.ndarray) -> float:
        outputs = session.run(None, {first: inputs, **others})
        return float(outputs[-1][0]) if counts_steps else float("nan")

    return call


def _load_jax(path: Path) -> Callable[[np.ndarray], float]:
    """A call of a checkpoint's model up to its last supervision step, jitted; the first call compiles it."""
    import jax

    from trm_jax.core.network import model
    from trm_jax.training.checkpoint import load_weights

    config, params, _ = load_weights(path)

    @jax.jit
    def last_step(inputs):
        return jax.tree.map(
            lambda leaf: leaf[-1], model.forward(config, params, inputs, np.zeros(1, np.int32), inference=True)
        )

    def call(inputs: np.ndarray) -> float:
        jax.block_until_ready(last_step(inputs))
        return float(config.recursion.N_sup)

    return call


def _serve(path: Path, feeds: Path, threads: int) -> None:
    """Load a model, then read numbers of calls from the standard input and print what they took, until it ends."""
    with np.load(feeds) as arrays:
        others = dict(arrays)
    inputs = others.pop("inputs")
    if path.is_dir() and hasattr(os, "sched_setaffinity"):
        # jax takes every core it may use, and has no number of threads.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    start = time.perf_counter()
    call = _load_jax(path) if path.is_dir() else _load_file(path, others, threads)
    load_ms = 1e3 * (time.perf_counter() - start)
    for index in range(WARM_UP):
        call(inputs[index % len(inputs)][None])
    print(json.dumps({"load_ms": load_ms}), flush=True)
    done = 0
    for line in sys.stdin:
        call(inputs[done % len(inputs)][None])  # not timed: others had the caches
        times, steps = [], []
        for _ in range(int(line)):
            sample = inputs[done % len(inputs)][None]
            start = time.perf_counter()
            steps.append(call(sample))
            times.append(1e3 * (time.perf_counter() - start))
            done += 1
        print(json.dumps({"ms": times, "steps": float(np.mean(steps)), "peak_mb": peak_memory()}), flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
