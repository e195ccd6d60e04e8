"""Measurements that need a process of their own: time to the first training step, and peak memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from trm_jax.benchmark.shared import random_data
from trm_jax.core.config import Config
from trm_jax.support.machine import peak_memory

ROOT = Path(__file__).resolve().parents[2]
CODE = "from trm_jax.benchmark.processes import child; child()"
WARM_TARGET = 3.0  # seconds from the start of the process to the end of the first step


def run_child(task: dict[str, Any], timeout: float = 900) -> dict[str, Any]:
    """Do a task in a new process and return what it measured. Raises RuntimeError with its last line if it fails."""
    task = task | {"started": time.time()}
    command = [sys.executable, "-c", CODE, json.dumps(task)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the process for {task} took more than {timeout:g} s; is the machine busy?") from None
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the process for {task} failed: {last}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def child() -> None:
    """Train two steps as the task in the first argument says, and print seconds and megabytes as JSON."""
    task = json.loads(sys.argv[1])
    config = Config().override(**task["options"])
    measured = _ours(config, task) if task["side"] == "ours" else _peer(config, task)
    measured["peak_mb"] = peak_memory()
    print(json.dumps(measured))


def _ours(config: Config, task: dict[str, Any]) -> dict[str, float]:
    from trm_jax.benchmark import jax_side
    from trm_jax.training.processes import configure

    configure(Path(task["cache"]))
    call = jax_side.trainer(config, random_data(config, config.run.batch), steps=1)
    call()
    measured = {"first_step_s": time.time() - task["started"]}
    if task["memory"]:
        call()
        measured["temp_mb"] = jax_side.compile_step(config).memory_analysis().temp_size_in_bytes / 2**20
    return measured


def _peer(config: Config, task: dict[str, Any]) -> dict[str, float]:
    from trm_jax.benchmark import torch_side
    from trm_jax.benchmark.torch_model import TRM

    torch_side.use_all_cores()
    model = TRM(config)
    for parameter in model.parameters():  # any weights do here; making ours would start jax
        parameter.data.normal_(std=0.1)
    trainer = torch_side.Trainer(model, random_data(config, config.run.batch))
    trainer.step()
    measured = {"first_step_s": time.time() - task["started"]}
    if task["memory"]:
        trainer.step()
    return measured


def measure_starts(with_peer: bool, repeats: int) -> list[dict[str, Any]]:
    """Seconds from the start of a process to the end of its first step: nothing compiled yet, and the second time."""
    options = {"recursion.remat": True}
    with tempfile.TemporaryDirectory() as folder:
        task = {"side": "ours", "options": options, "cache": folder, "memory": False}
        cold = run_child(task)["first_step_s"]
        warm = [run_child(task)["first_step_s"] for _ in range(repeats)]
    met = "met" if median(warm) <= WARM_TARGET else "missed"
    rows = [
        {"name": "start/first", "seconds": cold, "note": "imports, compiles, one step"},
        {
            "name": "start/second",
            "seconds": median(warm),
            "note": f"compiled programs from disk; target {WARM_TARGET:g} s: {met}",
        },
    ]
    if with_peer:
        peer = [run_child(task | {"side": "peer"})["first_step_s"] for _ in range(repeats)]
        rows.append({"name": "start/PyTorch eager", "seconds": median(peer), "note": "imports, one step"})
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
                found = run_child({"side": side, "options": options, "cache": folder, "memory": True})
                found.pop("first_step_s")
                rows.append({"name": f"memory/n{n}", "side": label, **found})
    return rows
