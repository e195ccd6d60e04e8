"""How long a model takes to load and to answer one input, and its memory: always in a process of its own.

Run as a script by `in_process`; it imports what it measures and nothing else.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trm_jax.machine import peak_memory

WARM_UP = 3
"""Calls before the clock counts."""


def in_process(path: Path, feeds: Path, threads: int, repeats: int) -> dict[str, float]:
    """Measure a model file, or the directory of a checkpoint with jitted JAX, in a new process.

    ``feeds`` is an .npz of what the model takes: ``inputs`` (N, ...) of what it takes first, used one by one, and
    others as they are. JAX has
    as many cores as ``threads``, onnxruntime as many threads. Raises RuntimeError with what the process said.
    """
    arguments = [sys.executable, __file__, str(path), str(feeds), str(threads), str(repeats)]
    root = str(Path(__file__).resolve().parent.parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"measuring {path.name} failed: {done.stderr.strip().splitlines()[-1:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(load: Callable[[], Callable[[np.ndarray], float]], inputs: np.ndarray, repeats: int) -> dict[str, float]:
    """Load a model and ask it about one input after the other. A call returns the supervision steps it took."""
    begun = time.perf_counter()
    ask = load()
    loaded = time.perf_counter()
    for index in range(WARM_UP):
        ask(inputs[index % len(inputs)][None])
    times, steps = [], []
    for index in range(repeats):
        one = inputs[index % len(inputs)][None]
        start = time.perf_counter()
        steps.append(ask(one))
        times.append(1e3 * (time.perf_counter() - start))
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    return {
        "load_ms": 1e3 * (loaded - begun), "p50_ms": float(p50), "p90_ms": float(p90), "p99_ms": float(p99),
        "mean_ms": float(np.mean(times)), "mean_steps": float(np.mean(steps)), "peak_mb": peak_memory(),
    }  # fmt: skip


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

    from trm_jax import model
    from trm_jax.checkpoint import load_weights

    config, params = load_weights(path)
    last: Any = jax.jit(lambda inputs: jax.tree.map(lambda leaf: leaf[-1], model.forward(config, params, inputs)))

    def ask(one: np.ndarray) -> float:
        jax.block_until_ready(last(one))
        return float(config.recursion.N_sup)

    return ask


def main() -> None:
    """Measure what the arguments name and print JSON."""
    path, feeds, threads, repeats = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    with np.load(feeds) as arrays:
        others = {name: arrays[name] for name in arrays.files}
    inputs = others.pop("inputs")
    if path.is_dir() and hasattr(os, "sched_setaffinity"):
        # jax takes every core it may use, and has no number of threads.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    load = (lambda: load_jax(path)) if path.is_dir() else (lambda: load_file(path, others, threads))
    print(json.dumps(measure(load, inputs, repeats)))


if __name__ == "__main__":
    main()
