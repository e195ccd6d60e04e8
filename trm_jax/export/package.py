"""A package: its files, and the measurements about them."""

import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from trm_jax.core.network.model import count_parameters
from trm_jax.edge.format import INITIAL, QUESTION, STEP, Metadata
from trm_jax.export import graph
from trm_jax.export.int8 import Quantized, quantize
from trm_jax.export.measures import agreement, latency
from trm_jax.export.measures.agreement import Agreement
from trm_jax.export.measures.latency import Speed
from trm_jax.export.rewrite import nodes
from trm_jax.export.samples import Samples
from trm_jax.export.settings import Settings
from trm_jax.export.source import Source
from trm_jax.support.checksums import SUMS
from trm_jax.support.files import check_folder, write_text
from trm_jax.support.provenance import environment
from trm_jax.support.schema import require
from trm_jax.wafer.maps.unlike import UNLIKE

PACKAGES = ("jax2onnx", "onnx", "onnxruntime", "onnxconverter-common")
THRESHOLDS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Halting probabilities at which the adaptive file is measured; the last stops nothing."""
MODEL, DYNAMIC, ADAPTIVE = "model.onnx", "model_dynamic.onnx", "model_adaptive.onnx"
FLOAT: dict[graph.Kind, str] = {
    "model": MODEL, "dynamic": DYNAMIC, "adaptive": ADAPTIVE, "question": QUESTION, "step": STEP,
}  # fmt: skip
"""Files in float32, which share their weights."""
HALF, INT8 = "model_fp16.onnx", "model_int8.onnx"
AS_IT_STANDS, OPTIMIZED = f"{INT8}, as it stands", f"{INT8}, optimized"
JAX = "jitted JAX"
FILES = ("*.onnx", "weights.bin", "*.npz", "labels.txt", "report.*", "model_card.md", SUMS)
"""Patterns of all files that a package may have."""


@dataclass(frozen=True)
class Cost:
    """Size and speed of a file."""

    name: str
    bytes: int
    nodes: int
    operators: tuple[str, ...]
    one_thread: Speed
    two_threads: Speed


@dataclass(frozen=True)
class EarlyStop:
    """The adaptive file at one threshold."""

    threshold: float
    mean_steps: float
    speed: Speed
    scores: dict[str, float]


@dataclass(frozen=True)
class Results:
    """What was measured."""

    metadata: Metadata
    parameters: int
    expected: Agreement
    """JAX beside itself: its scores."""
    agreements: dict[str, Agreement]
    """By file; int8 as it stands and optimized by onnxruntime."""
    jax: Cost
    costs: list[Cost]
    quantized: Quantized | None
    early: list[EarlyStop]


class Timed(NamedTuple):
    """What is timed: a file, its threads, and the threshold of the adaptive file."""

    name: str
    threads: int
    threshold: float = THRESHOLDS[-1]


def write_files(source: Source, samples: Samples, directory: Path, settings: Settings) -> Results:
    """Write every file but the report into a directory, and measure them.

    Raises ValueError where a float32 file differs from JAX by more than the tolerance.
    """
    metadata = metadata_of(source, samples)
    graphs, quantized = write_graphs(source, samples, metadata, directory, settings)
    initial = graph.initial_states(source.config, source.params)
    np.savez_compressed(directory / INITIAL, **initial)  # type: ignore[arg-type]
    if (source.weights.parent / UNLIKE).is_file():
        shutil.copy(source.weights.parent / UNLIKE, directory)
    write_text(directory / "labels.txt", "".join(f"{label}\n" for label in samples.labels))
    expected = agreement.jax_answers(source.config, source.params, samples.inputs, source.temperature)
    agreements = compare_files(samples, directory, initial, expected)
    for name, result in agreements.items():
        error = max(result.largest, result.other_outputs)
        require(
            name not in FLOAT.values() or error <= settings.tolerance,
            f"{name} differs from JAX by {error:.2g}, more than {settings.tolerance:g}; nothing was written",
        )
    speeds = measure_speeds(source.weights, samples, directory, initial, settings.repeats)
    costs = [
        Cost(name, (directory / name).stat().st_size, len(kinds), tuple(sorted(set(kinds))),
             speeds[Timed(name, 1)], speeds[Timed(name, 2)])
        for name, kinds in graphs.items()
    ]  # fmt: skip
    return Results(
        metadata=metadata,
        parameters=count_parameters(source.config.model, source.params),
        expected=agreement.compare(expected, expected, samples.score),
        agreements=agreements,
        jax=Cost(JAX, 0, 0, (), speeds[Timed(JAX, 1)], speeds[Timed(JAX, 2)]),
        costs=costs,
        quantized=quantized,
        early=[early_stop(directory / ADAPTIVE, samples, limit, speeds) for limit in THRESHOLDS],
    )


def metadata_of(source: Source, samples: Samples) -> Metadata:
    """What the files say about themselves."""
    machine = environment()
    packages = machine["packages"] | {name: importlib.metadata.version(name) for name in PACKAGES}
    return Metadata(
        labels=samples.labels,
        preprocessing=samples.preprocessing,
        temperature=source.temperature,
        review_threshold=source.review_threshold,
        config=json.loads(source.config.to_json()),
        provenance={"commit": machine["commit"], "machine": machine["machine"], "packages": packages},
        reference=source.reference,
        class_thresholds=list(source.class_thresholds),
        dies=list(source.dies),
    )


def write_graphs(
    source: Source, samples: Samples, metadata: Metadata, directory: Path, settings: Settings
) -> tuple[dict[str, list[str]], Quantized | None]:
    """Write all .onnx files; returns the operators of each, node by node, and how int8 was made if it was."""
    config, params = source.config, source.params
    graphs = {name: graph.export(config, params, kind, metadata, samples.inputs) for kind, name in FLOAT.items()}
    graph.save_sharing(directory, graphs)
    reduced: dict[str, onnx.ModelProto] = {}
    quantized = None
    if "float16" in settings.precisions:
        reduced[HALF] = graph.to_half(graphs[MODEL], metadata)
    if "int8" in settings.precisions:
        quantized = quantize(
            graphs[MODEL], samples.calibration, samples.calibration_labels, metadata, settings.int8_limit
        )
        reduced[INT8] = quantized.graph
    for name, model in reduced.items():
        graph.save(directory / name, model)
    kinds = {name: [node.op_type for node in nodes(model.graph)] for name, model in (graphs | reduced).items()}
    return kinds, quantized


def compare_files(
    samples: Samples, directory: Path, initial: dict[str, np.ndarray], expected: agreement.Answers
) -> dict[str, Agreement]:
    """How far each file is from JAX on the held-out inputs; int8 with graph optimization off and on."""
    inputs, N_sup = samples.inputs, expected.logits.shape[1]
    x = agreement.questions(directory / QUESTION, inputs)
    answers = {name: agreement.file_answers(directory / name, inputs) for name in (MODEL, DYNAMIC)}
    answers[STEP] = agreement.step_answers(directory / STEP, initial, x, N_sup)
    if (directory / HALF).exists():
        answers[HALF] = agreement.file_answers(directory / HALF, inputs)
    if (directory / INT8).exists():
        answers[AS_IT_STANDS] = agreement.file_answers(directory / INT8, inputs, optimized=False)
        answers[OPTIMIZED] = agreement.file_answers(directory / INT8, inputs)
    agreements = {name: agreement.compare(values, expected, samples.score) for name, values in answers.items()}
    adaptive, steps = agreement.adaptive_answers(directory / ADAPTIVE, inputs, THRESHOLDS[-1])
    agreements[ADAPTIVE] = agreement.compare(adaptive, agreement.at_steps(expected, steps), samples.score)
    return agreements


def measure_speeds(
    weights: Path, samples: Samples, directory: Path, initial: dict[str, np.ndarray], repeats: int
) -> dict[Timed, Speed]:
    """Speed of every file and of jitted JAX on one and two threads, and of the adaptive file at every threshold."""
    inputs = samples.inputs[:: max(1, len(samples.inputs) // repeats)]
    x = agreement.questions(directory / QUESTION, inputs)
    jobs = {}
    for name in (*FLOAT.values(), HALF, INT8, JAX):
        path = weights if name == JAX else directory / name
        if path.exists():
            feeds = {"inputs": x, **initial} if name == STEP else {"inputs": inputs}
            for threads in (1, 2):
                for threshold in THRESHOLDS if (name, threads) == (ADAPTIVE, 1) else THRESHOLDS[-1:]:
                    limit = {"threshold": np.array(threshold, np.float32)} if name == ADAPTIVE else {}
                    jobs[Timed(name, threads, threshold)] = latency.Job(path, feeds | limit, threads)
    return latency.measure_speeds(jobs, repeats)


def early_stop(path: Path, samples: Samples, threshold: float, speeds: Mapping[Timed, Speed]) -> EarlyStop:
    """Supervision steps, time and quality of the adaptive file at one threshold."""
    answers, steps = agreement.adaptive_answers(path, samples.inputs, threshold)
    scores = samples.score(answers.probabilities[:, -1])
    return EarlyStop(threshold, float(steps.mean()), speeds[Timed(ADAPTIVE, 1, threshold)], scores)


def check_output(output: Path) -> None:
    """Refuse to replace a directory that is not a package, or that holds more than one. Raises ValueError."""
    check_folder(output)
    if output.exists() and not (output / SUMS).is_file():
        raise ValueError(f"{output} exists and is not a package; choose another --output")
    for path in sorted(output.iterdir()) if output.exists() else ():
        if not any(path.match(pattern) for pattern in FILES):
            raise ValueError(f"{output} has {path.name}, which is not of a package; choose another --output")
