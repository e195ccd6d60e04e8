"""Measurements that need a process of their own: time to the first training step, and peak memory.

`python -m trm_jax.benchmark.processes TASK` does one task, given as JSON.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from trm_jax.benchmark.cases import random_data
from trm_jax.core.config import Config
from trm_jax.support.machine import peak_memory

WARM_TARGET = 3.0
"""Seconds from the start of a process to the end of its first step that the second start may take."""


def run_child(task: dict[str, Any], timeout: float = 900) -> dict[str, Any]:
    """Do a task in a new process and return what it measured. Raises RuntimeError with its last line if it fails."""
    command = [sys.executable, "-m", "trm_jax.benchmark.processes", json.dumps(task | {"started": time.time()})]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the process for {task} took more than {timeout:g} s; is the machine busy?") from None
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the process for {task} failed: {last}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def child(task: dict[str, Any]) -> dict[str, float]:
    """Train one step, and a second where memory is asked for; returns seconds and megabytes."""
    config = Config().override(**task["options"])
    data = random_data(config, config.run.batch)
    if task["side"] == "ours":
        from trm_jax.benchmark import jax_side
        from trm_jax.training.processes import configure

        configure(Path(task["cache"]))
        step: Callable[[], Any] = jax_side.trainer(config, data, steps=1)
    else:
        from trm_jax.benchmark import torch_side

        torch_side.use_all_cores()
        step = torch_side.Trainer(torch_side.with_any_weights(config), data).step  # ours would start jax
    step()
    measured = {"first_step_s": time.time() - task["started"]}
    if task["memory"]:
        step()
        if task["side"] == "ours":
            measured["temp_mb"] = jax_side.temporary_mb(config)
    return measured | {"peak_mb": peak_memory()}


def measure_starts(with_peer: bool, repeats: int) -> list[dict[str, Any]]:
    """Seconds from the start of a process to the end of its first step: nothing compiled yet, and the second time."""
    with tempfile.TemporaryDirectory() as folder:
        task = {"side": "ours", "options": {"recursion.remat": True}, "cache": folder, "memory": False}
        cold = run_child(task)["first_step_s"]
        warm = median(run_child(task)["first_step_s"] for _ in range(repeats))
    note = f"compiled programs from disk; target {WARM_TARGET:g} s: {'met' if warm <= WARM_TARGET else 'missed'}"
    rows = [
        {"name": "start/first", "seconds": cold, "note": "imports, compiles, one step"},
        {"name": "start/second", "seconds": warm, "note": note},
    ]
    if with_peer:
        peer = median(run_child(task | {"side": "peer"})["first_step_s"] for _ in range(repeats))
        rows.append({"name": "start/PyTorch eager", "seconds": peer, "note": "imports, one step"})
    return rows


def measure_memory(with_peer: bool, depths: tuple[int, ...]) -> list[dict[str, Any]]:
    """Peak memory of a process that trains with n latent updates, storing more or less of what the net computes."""
    sides: list[tuple[str, str, dict[str, Any]]] = [
        ("ours", "ours, recomputed", {"recursion.remat": True}),
        ("ours", "ours, recomputed in segments of 6", {"recursion.remat": True, "recursion.segment": 6}),
        ("ours", "ours, stored", {"recursion.remat": False}),
    ]
    sides += [("peer", "PyTorch eager", {})] if with_peer else []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n in depths:
            for side, label, stored in tqdm(sides, desc=f"memory, n={n}", unit="process", file=sys.stderr):
                options = {"model.width": 64, "recursion.n": n, **stored}
                measured = run_child({"side": side, "options": options, "cache": folder, "memory": True})
                del measured["first_step_s"]
                rows.append({"name": f"memory/n{n}", "side": label, **measured})
    return rows


if __name__ == "__main__":
    print(json.dumps(child(json.loads(sys.argv[1]))))
