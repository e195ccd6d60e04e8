"""The files of a package and the measurements about them."""

import importlib.metadata
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from exporting import quality, speed
from exporting.samples import Samples
from trm_jax import export, model
from trm_jax.config import Config
from trm_jax.edge.package import Metadata
from trm_jax.files import write_text
from trm_jax.options import require
from trm_jax.quantize import Quantized, quantize
from trm_jax.runlog import environment

UNCALIBRATED = {"temperature": 1.0, "review_threshold": 0.9}
PACKAGES = ("jax2onnx", "onnx", "onnxruntime", "onnxconverter-common")
THRESHOLDS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Halting probabilities at which the adaptive file is measured."""
FLOAT: dict[export.Kind, str] = {
    "model": "model.onnx",
    "dynamic": "model_dynamic.onnx",
    "adaptive": "model_adaptive.onnx",
    "step": "step.onnx",
}
HALF, INT8 = "model_fp16.onnx", "model_int8.onnx"
DEFAULT = "temperature 1 and review threshold 0.9 were assumed, not fitted"


@dataclass(frozen=True)
class Task:
    """What is exported."""

    config: Config
    params: Any
    weights: Path
    samples: Samples
    calibration: dict[str, float] | None
    reference: dict[str, Any]
    untrained: bool = False


class Limits(NamedTuple):
    """How exact, and how often measured."""

    tolerance: float
    int8: float
    repeats: int


def about(task: Task) -> Metadata:
    """What the files say about themselves."""
    made = environment()
    packages = made["packages"] | {name: importlib.metadata.version(name) for name in PACKAGES}
    return Metadata(
        labels=task.samples.labels,
        preprocessing=task.samples.preprocessing,
        **(task.calibration or UNCALIBRATED),
        config=json.loads(task.config.to_json()),
        provenance={"commit": made["commit"], "machine": made["machine"], "packages": packages},
        reference=task.reference,
    )


def write(task: Task, directory: Path, limits: Limits) -> dict[str, Any]:
    """Write every file but the report into a directory, and return what the report is made from.

    Raises ValueError where a float32 file differs from JAX by more than the tolerance.
    """
    said, samples = about(task), task.samples
    files, quantized = write_graphs(task, said, directory, limits.int8)
    initial = initial_states(task)
    np.savez(directory / "initial.npz", **initial)  # type: ignore[arg-type]
    if samples.preprocessing["kind"] == "wafer":
        write_text(directory / "labels.txt", "".join(f"{label}\n" for label in samples.labels))
    expected = quality.of_jax(task.config, task.params, samples.inputs, said.temperature)
    agreements = compare(task, directory, initial, expected)
    for name in FLOAT.values():
        worst = max(agreements[name]["largest"], agreements[name]["other_outputs"])
        require(
            worst <= limits.tolerance,
            f"{name} differs from JAX by {worst:.2g}, more than {limits.tolerance:g}; nothing was written",
        )
    speeds = measure(task, directory, initial, limits.repeats)
    return {
        "about": {name: value for name, value in said._asdict().items() if name != "config"},
        "source": samples.source,
        "unit": samples.unit,
        "untrained": task.untrained,
        "calibrated": task.calibration is not None,
        "parameters": model.count_parameters(task.config.model, task.params),
        "N_sup": task.config.recursion.N_sup,
        "jax": quality.agreement(expected, expected, samples.truth)._asdict() | {"speed": speeds["JAX"]},
        "agreement": agreements,
        "files": {name: value | {"speed": speeds[name]} for name, value in files.items()},
        "int8": int8_facts(quantized, limits.int8, len(samples.calibration)),
        "adaptive": sweep(task, directory, limits.repeats),
    }


def write_graphs(
    task: Task, said: Metadata, directory: Path, int8_limit: float
) -> tuple[dict[str, dict[str, Any]], Quantized]:
    """Write all .onnx files; returns size, nodes and operators of each, and how int8 was made."""
    graphs = {name: export.export(task.config, task.params, kind, said) for kind, name in FLOAT.items()}
    whole, samples = graphs[FLOAT["model"]], task.samples
    quantized = quantize(whole, samples.calibration, samples.calibration_labels, said, int8_limit)
    graphs |= {HALF: export.to_half(whole, said), INT8: quantized.graph}
    return {name: save(directory / name, graph) for name, graph in graphs.items()}, quantized


def save(path: Path, graph: Any) -> dict[str, Any]:
    """Write a graph; returns its size, nodes and operators."""
    export.save(path, graph)
    kinds = [node.op_type for node in export.nodes(graph.graph)]
    return {"bytes": path.stat().st_size, "nodes": len(kinds), "operators": sorted(set(kinds))}


def initial_states(task: Task) -> dict[str, np.ndarray]:
    """First y and z of one input; no z in a model without it."""
    states = zip("yz", model.initial(export.for_export(task.config), task.params, 1), strict=True)
    return {name: np.asarray(state) for name, state in states if state is not None}


def compare(
    task: Task, directory: Path, initial: dict[str, np.ndarray], expected: quality.Answers
) -> dict[str, dict[str, float]]:
    """How far each file is from JAX on the held-out inputs; int8 with graph optimisation off and on."""
    inputs, truth, count = task.samples.inputs, task.samples.truth, task.config.recursion.N_sup
    adaptive, steps = quality.of_adaptive(directory / FLOAT["adaptive"], inputs, 1.0)
    found = {
        FLOAT["model"]: quality.of_file(directory / FLOAT["model"], inputs),
        FLOAT["dynamic"]: quality.of_file(directory / FLOAT["dynamic"], inputs),
        FLOAT["step"]: quality.of_steps(directory / FLOAT["step"], initial, inputs, count),
        HALF: quality.of_file(directory / HALF, inputs),
        f"{INT8}, as it stands": quality.of_file(directory / INT8, inputs, optimised=False),
        f"{INT8}, optimised": quality.of_file(directory / INT8, inputs),
    }
    compared = {name: quality.agreement(one, expected, truth) for name, one in found.items()}
    compared[FLOAT["adaptive"]] = quality.agreement(adaptive, quality.at_steps(expected, steps), truth)
    return {name: dict(one._asdict()) for name, one in compared.items()}


def measure(task: Task, directory: Path, initial: dict[str, np.ndarray], repeats: int) -> dict[str, Any]:
    """Speed of every file, and of jitted JAX, on one thread and on two, by name and number of threads."""
    names = [*FLOAT.values(), HALF, INT8]
    jobs = [(name, threads) for name in (*names, "JAX") for threads in (1, 2)]
    found: dict[str, Any] = {}
    inputs = {"inputs": task.samples.inputs[:16]}
    with tempfile.TemporaryDirectory() as folder:
        for name, threads in tqdm(jobs, "speed", file=sys.stderr, disable=None):
            feeds = inputs | (initial if name == FLOAT["step"] else {})
            feeds |= {"threshold": np.array(1.0, np.float32)} if name == FLOAT["adaptive"] else {}
            np.savez(Path(folder) / "feeds.npz", **feeds)  # type: ignore[arg-type]
            path = task.weights if name == "JAX" else directory / name
            measured = speed.in_process(path, Path(folder) / "feeds.npz", threads, repeats)
            found.setdefault(name, {})[str(threads)] = measured
    return found


def int8_facts(quantized: Quantized, limit: float, calibration: int) -> dict[str, Any]:
    """Why int8 is where it is, for the report."""
    facts = quantized._asdict()
    facts.pop("graph")
    return facts | {"limit": limit, "calibration": calibration}


def sweep(task: Task, directory: Path, repeats: int) -> list[dict[str, float]]:
    """Supervision steps, time and quality of the adaptive file at each threshold."""
    rows = []
    samples, path = task.samples, directory / FLOAT["adaptive"]
    with tempfile.TemporaryDirectory() as folder:
        for threshold in THRESHOLDS:
            answers, steps = quality.of_adaptive(path, samples.inputs, threshold)
            scored = quality.agreement(answers, answers, samples.truth)
            chosen = samples.inputs[:: max(1, len(samples.inputs) // repeats)]
            np.savez(Path(folder) / "feeds.npz", inputs=chosen, threshold=np.array(threshold, np.float32))
            timed = speed.in_process(path, Path(folder) / "feeds.npz", 1, repeats)
            rows.append(
                {"threshold": threshold, "mean_steps": float(steps.mean()), "mean_ms": timed["mean_ms"],
                 "macro_f1": scored.macro_f1}
            )  # fmt: skip
    return rows
