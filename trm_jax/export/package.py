"""The files of a package and the measurements about them."""

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.edge.format import INITIAL, Metadata
from trm_jax.export import agreement, latency
from trm_jax.export import graph as export
from trm_jax.export.int8 import Quantized, quantize
from trm_jax.export.rewrite import nodes
from trm_jax.export.samples import Samples
from trm_jax.support.files import write_text
from trm_jax.support.provenance import environment
from trm_jax.support.schema import require

UNCALIBRATED = {"temperature": 1.0, "review_threshold": 0.9}
PACKAGES = ("jax2onnx", "onnx", "onnxruntime", "onnxconverter-common")
THRESHOLDS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Halting probabilities at which the adaptive file is measured; the last stops nothing."""
FLOAT: dict[export.Kind, str] = {
    "model": "model.onnx",
    "dynamic": "model_dynamic.onnx",
    "adaptive": "model_adaptive.onnx",
    "question": "question.onnx",
    "step": "step.onnx",
}
HALF, INT8 = "model_fp16.onnx", "model_int8.onnx"
Precision = Literal["float16", "int8"]
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
    precisions: tuple[Precision, ...] = ("float16", "int8")
    """Files beside those in float32."""


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
    np.savez_compressed(directory / INITIAL, **initial)  # type: ignore[arg-type]
    if samples.preprocessing["kind"] == "wafer":
        write_text(directory / "labels.txt", "".join(f"{label}\n" for label in samples.labels))
    expected = agreement.of_jax(task.config, task.params, samples.inputs, said.temperature)
    agreements = compare(task, directory, initial, expected)
    for name in sorted(set(agreements) & set(FLOAT.values())):
        worst = max(agreements[name]["largest"], agreements[name]["other_outputs"])
        require(
            worst <= limits.tolerance,
            f"{name} differs from JAX by {worst:.2g}, more than {limits.tolerance:g}; nothing was written",
        )
    speeds = measure(task, directory, initial, limits.repeats)

    def of(name: str) -> dict[str, dict[str, float]]:
        return {str(threads): speeds[name, threads] for threads in (1, 2)}

    return {
        "about": {name: value for name, value in said._asdict().items() if name != "config"},
        "source": samples.source,
        "unit": samples.unit,
        "untrained": task.untrained,
        "calibrated": task.calibration is not None,
        "parameters": model.count_parameters(task.config.model, task.params),
        "N_sup": task.config.recursion.N_sup,
        "jax": agreement.agreement(expected, expected, samples.truth)._asdict() | {"speed": of("JAX")},
        "agreement": agreements,
        "files": {name: value | {"speed": of(name)} for name, value in files.items()},
        "int8": int8_facts(quantized, limits.int8, len(samples.calibration)) if quantized else None,
        "adaptive": sweep(task, directory, speeds),
    }


def write_graphs(
    task: Task, said: Metadata, directory: Path, int8_limit: float
) -> tuple[dict[str, dict[str, Any]], Quantized | None]:
    """Write all .onnx files; returns size, nodes and operators of each, and how int8 was made if it was."""
    graphs = {name: export.export(task.config, task.params, kind, said) for kind, name in FLOAT.items()}
    export.save_sharing(directory, graphs)
    whole, samples, quantized = graphs[FLOAT["model"]], task.samples, None
    if "float16" in task.precisions:
        graphs[HALF] = export.to_half(whole, said)
        export.save(directory / HALF, graphs[HALF])
    if "int8" in task.precisions:
        quantized = quantize(whole, samples.calibration, samples.calibration_labels, said, int8_limit)
        graphs[INT8] = quantized.graph
        export.save(directory / INT8, quantized.graph)
    return {name: facts(directory / name, graph) for name, graph in graphs.items()}, quantized


def facts(path: Path, graph: Any) -> dict[str, Any]:
    """Size of a file, nodes and operators of its graph."""
    kinds = [node.op_type for node in nodes(graph.graph)]
    return {"bytes": path.stat().st_size, "nodes": len(kinds), "operators": sorted(set(kinds))}


def initial_states(task: Task) -> dict[str, np.ndarray]:
    """First y and z of one input; no z in a model without it."""
    states = zip("yz", model.initial(export.for_export(task.config), task.params, 1), strict=True)
    return {name: np.asarray(state) for name, state in states if state is not None}


def compare(
    task: Task, directory: Path, initial: dict[str, np.ndarray], expected: agreement.Answers
) -> dict[str, dict[str, float]]:
    """How far each file is from JAX on the held-out inputs; int8 with graph optimisation off and on."""
    inputs, truth, count = task.samples.inputs, task.samples.truth, task.config.recursion.N_sup
    adaptive, steps = agreement.of_adaptive(directory / FLOAT["adaptive"], inputs, 1.0)
    found = {
        FLOAT["model"]: agreement.of_file(directory / FLOAT["model"], inputs),
        FLOAT["dynamic"]: agreement.of_file(directory / FLOAT["dynamic"], inputs),
        FLOAT["step"]: agreement.of_steps(
            directory / FLOAT["question"], directory / FLOAT["step"], initial, inputs, count
        ),
    }
    if "float16" in task.precisions:
        found[HALF] = agreement.of_file(directory / HALF, inputs)
    if "int8" in task.precisions:
        found[f"{INT8}, as it stands"] = agreement.of_file(directory / INT8, inputs, optimised=False)
        found[f"{INT8}, optimised"] = agreement.of_file(directory / INT8, inputs)
    compared = {name: agreement.agreement(one, expected, truth) for name, one in found.items()}
    compared[FLOAT["adaptive"]] = agreement.agreement(adaptive, agreement.at_steps(expected, steps), truth)
    return {name: dict(one._asdict()) for name, one in compared.items()}


def measure(task: Task, directory: Path, initial: dict[str, np.ndarray], repeats: int) -> dict[Any, dict[str, float]]:
    """Speed of every file and of jitted JAX by (name, threads), and of the adaptive file by its threshold."""
    inputs = task.samples.inputs[:: max(1, len(task.samples.inputs) // repeats)]
    feeds = {name: {"inputs": inputs} for name in (*FLOAT.values(), HALF, INT8, "JAX")}
    feeds[FLOAT["adaptive"]]["threshold"] = np.array(THRESHOLDS[-1], np.float32)
    feeds[FLOAT["step"]] = {"inputs": agreement.of_question(directory / FLOAT["question"], inputs), **initial}
    paths = {name: directory / name for name in feeds} | {"JAX": task.weights}
    jobs: dict[Any, latency.Job] = {
        (name, threads): latency.Job(paths[name], feeds[name], threads)
        for name in feeds for threads in (1, 2) if paths[name].exists()
    }  # fmt: skip
    for threshold in THRESHOLDS[:-1]:
        given = {"inputs": inputs, "threshold": np.array(threshold, np.float32)}
        jobs[threshold] = latency.Job(paths[FLOAT["adaptive"]], given, 1)
    found = latency.in_turns(jobs, repeats)
    return found | {THRESHOLDS[-1]: found[FLOAT["adaptive"], 1]}


def int8_facts(quantized: Quantized, limit: float, calibration: int) -> dict[str, Any]:
    """Why int8 is where it is, for the report."""
    facts = quantized._asdict()
    facts.pop("graph")
    return facts | {"limit": limit, "calibration": calibration}


def sweep(task: Task, directory: Path, speeds: Mapping[Any, dict[str, float]]) -> list[dict[str, float]]:
    """Supervision steps, time and quality of the adaptive file at each threshold."""
    rows = []
    for threshold in THRESHOLDS:
        answers, steps = agreement.of_adaptive(directory / FLOAT["adaptive"], task.samples.inputs, threshold)
        scored = agreement.agreement(answers, answers, task.samples.truth)
        rows.append(
            {"threshold": threshold, "mean_steps": float(steps.mean()), "mean_ms": speeds[threshold]["mean_ms"],
             "p50_ms": speeds[threshold]["p50_ms"], "macro_f1": scored.macro_f1}
        )  # fmt: skip
    return rows
