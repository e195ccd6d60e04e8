"""How long a model takes to load and to answer one input, and its memory: always in a process of its own.

Run as a script by `Contestant`; it imports what it measures and nothing else.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trm_jax.support.machine import peak_memory

WARM_UP = 3
"""Calls before the clock counts."""
ROUNDS = 20
"""Turns that each model gets."""
PAUSE = 0.02
"""Seconds before a turn, in which threads that wait busily after a call go to sleep."""


class Job(NamedTuple):
    """A model to measure."""

    path: Path
    """An .onnx file, or the directory of a checkpoint with jitted JAX."""
    feeds: dict[str, np.ndarray]
    """``inputs`` (N, ...) of what it takes first, used one by one, and its other inputs as they are."""
    threads: int
    """Threads of onnxruntime; JAX has so many cores."""


class Contestant:
    """A model that waits in a process of its own until it is asked. Raises RuntimeError with what the process said."""

    def __init__(self, job: Job):
        self.name = job.path.name
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads would fill up
        root = str(Path(__file__).resolve().parent.parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])}
        with tempfile.TemporaryDirectory() as folder:
            np.savez(Path(folder) / "feeds.npz", **job.feeds)  # type: ignore[arg-type]
            command = [sys.executable, __file__, str(job.path), str(Path(folder) / "feeds.npz"), str(job.threads)]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=self.said, text=True, env=environment
            )
            try:
                self.loaded: dict[str, float] = self._read()
            except BaseException:
                self.close()
                raise

    def ask(self, calls: int) -> dict[str, Any]:
        """Milliseconds and supervision steps of so many calls, and the largest memory so far."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it is gone; reading tells why
            self.process.stdin.write(f"{calls}\n")
            self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.said):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            raise RuntimeError(f"measuring {self.name} failed: {self.said.read().strip().splitlines()[-1:]}")
        found: dict[str, Any] = json.loads(line)
        return found


def in_turns(jobs: Mapping[Any, Job], repeats: int) -> dict[Any, dict[str, float]]:
    """Measure every job with so many calls, a few at a time in turns, so that a slow moment is one for all."""
    from tqdm import tqdm

    calls = -(-repeats // ROUNDS)
    with contextlib.ExitStack() as stack:
        contestants = {}
        for key, job in tqdm(jobs.items(), "loading", file=sys.stderr, disable=None):
            contestants[key] = Contestant(job)
            stack.callback(contestants[key].close)
        answers: dict[Any, list[dict[str, Any]]] = {key: [] for key in jobs}
        for _ in tqdm(range(ROUNDS), "speed", file=sys.stderr, disable=None):
            for key, contestant in contestants.items():
                time.sleep(PAUSE)
                answers[key].append(contestant.ask(calls))
        return {key: contestants[key].loaded | summary(rows) for key, rows in answers.items()}


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Percentiles over all calls."""
    times = np.concatenate([row["ms"] for row in rows])
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    return {
        "p50_ms": float(p50), "p90_ms": float(p90), "p99_ms": float(p99), "mean_ms": float(times.mean()),
        "mean_steps": float(np.mean([row["steps"] for row in rows])), "peak_mb": rows[-1]["peak_mb"],
    }  # fmt: skip


def answer(load: Callable[[], Callable[[np.ndarray], float]], inputs: np.ndarray) -> None:
    """Load a model, then read numbers of calls from the standard input and print what they took, until it ends.

    A call is about one input after the other and returns the supervision steps it took.
    """
    begun = time.perf_counter()
    ask = load()
    loaded = 1e3 * (time.perf_counter() - begun)
    for index in range(WARM_UP):
        ask(inputs[index % len(inputs)][None])
    print(json.dumps({"load_ms": loaded}), flush=True)
    done = 0
    for line in sys.stdin:
        ask(inputs[done % len(inputs)][None])  # not timed: others had the caches
        times, steps = [], []
        for _ in range(int(line)):
            one = inputs[done % len(inputs)][None]
            start = time.perf_counter()
            steps.append(ask(one))
            times.append(1e3 * (time.perf_counter() - start))
            done += 1
        print(json.dumps({"ms": times, "steps": float(np.mean(steps)), "peak_mb": peak_memory()}), flush=True)


def load_file(path: Path, others: dict[str, np.ndarray], threads: int) -> Callable[[np.ndarray], float]:
    """An .onnx file in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0].name
    counts_steps = any(output.name == "steps" for output in session.get_outputs())

    def ask(one: np.ndarray) -> float:
        found = session.run(None, {first: one, **others})
        return float(found[-1][0]) if counts_steps else float("nan")

    return ask


def load_jax(path: Path) -> Callable[[np.ndarray], float]:
    """The last supervision step of a checkpoint's model, jitted; the first call compiles it."""
    import jax

    from trm_jax.core import model
    from trm_jax.training.checkpoint import load_weights

    config, params = load_weights(path)
    last: Any = jax.jit(lambda inputs: jax.tree.map(lambda leaf: leaf[-1], model.forward(config, params, inputs)))

    def ask(one: np.ndarray) -> float:
        jax.block_until_ready(last(one))
        return float(config.recursion.N_sup)

    return ask


def main() -> None:
    """Answer about what the arguments name."""
    path, feeds, threads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    with np.load(feeds) as arrays:
        others = {name: arrays[name] for name in arrays.files}
    inputs = others.pop("inputs")
    if path.is_dir() and hasattr(os, "sched_setaffinity"):
        # jax takes every core it may use, and has no number of threads.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    answer((lambda: load_jax(path)) if path.is_dir() else (lambda: load_file(path, others, threads)), inputs)


if __name__ == "__main__":
    main()
