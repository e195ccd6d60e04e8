"""A package of small wafer models whose answers numpy can compute: a linear classifier that grows surer step by step.

After supervision step k of 3 the logits are k/3 of ``grids @ weights``, and the halting probability is the largest
class probability, so that wafers stop at different steps.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.wafers import CLASSES, Wafers

SIZE, STEPS = 8, 3
FLOAT = TensorProto.FLOAT
METADATA: dict[str, Any] = {
    "labels": list(CLASSES),
    "preprocessing": {"kind": "wafer", "size": SIZE, "representation": "area"},
    "temperature": 1.0,
    "review_threshold": 0.5,
    "config": {"recursion": {"N_sup": STEPS}},
    "provenance": {"commit": "none"},
    "reference": {},
}


def weights() -> np.ndarray:
    """(SIZE * SIZE * 2, 9) float32: failing dies count far more than dies."""
    values = np.random.default_rng(0).normal(size=(SIZE * SIZE, 2, 9)) / np.array([150, 3000])[:, None]
    return values.reshape(-1, 9).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def expected(wafers: Wafers, representation: Any = "area") -> np.ndarray:
    """Probabilities after every step, (N, 3, 9)."""
    grids = to_grid(wafers, SIZE, representation).astype(np.float32).reshape(len(wafers), -1)
    logits = (grids @ weights())[:, None] * (np.arange(1, STEPS + 1) / STEPS)[:, None]
    return softmax(logits)


def save(path: Path, model: onnx.ModelProto, **metadata: Any) -> Path:
    """Write a model with metadata; those given as None are left out."""
    texts = {name: json.dumps(value) for name, value in (METADATA | metadata).items() if value is not None}
    helper.set_model_props(model, texts)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def _model(nodes: list, inputs: dict[str, list], outputs: dict[str, Any], constants: dict[str, Any]) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    kinds = {2: TensorProto.INT32} if "y" not in inputs else {}  # puzzles have two dimensions, wafers four
    ends = [helper.make_tensor_value_info(name, kinds.get(len(shape), FLOAT), shape) for name, shape in inputs.items()]
    results = [
        helper.make_tensor_value_info(name, TensorProto.INT32 if name == "steps" else FLOAT, shape)
        for name, shape in outputs.items()
    ]
    graph = helper.make_graph(nodes, "linear", ends, results, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _linear(constants: dict[str, Any]) -> list:
    constants |= {"weights": weights(), "flat": np.array([-1, SIZE * SIZE * 2])}
    node = helper.make_node
    return [node("Reshape", ["inputs", "flat"], ["grids"]), node("MatMul", ["grids", "weights"], ["last"])]


def _all_steps(constants: dict[str, Any]) -> list:
    node = helper.make_node
    constants |= {"middle": np.array([1]), "third": (np.arange(1, 4, dtype=np.float32) / 3)[:, None]}
    constants |= {"end": np.array([-1])}
    return _linear(constants) + [
        node("Unsqueeze", ["last", "middle"], ["apart"]),
        node("Mul", ["apart", "third"], ["all_logits"]),
        node("Softmax", ["all_logits"], ["all_probabilities"]),
        node("ReduceMax", ["all_probabilities", "end"], ["all_halt"], keepdims=0),
    ]


def plain(batch: int | str = "batch", classes: int = 9, factor: float = 1.0) -> onnx.ModelProto:
    """All supervision steps at once; the probabilities are multiplied by ``factor``."""
    constants: dict[str, Any] = {"factor": np.float32(factor)}
    nodes = _all_steps(constants)
    nodes += [helper.make_node("Identity", ["all_logits"], ["logits"])]
    nodes += [helper.make_node("Mul", ["all_probabilities", "factor"], ["probabilities"])]
    nodes += [helper.make_node("Identity", ["all_halt"], ["halt"])]
    outputs = {"logits": [batch, STEPS, classes], "probabilities": [batch, STEPS, classes], "halt": [batch, STEPS]}
    return _model(nodes, {"inputs": [batch, SIZE, SIZE, 2]}, outputs, constants)


def adaptive(batch: int | str = "batch") -> onnx.ModelProto:
    """The first step whose halting probability is above the input ``threshold``, else the last."""
    node, constants = helper.make_node, {"always": np.array([[0.0, 0.0, 9.0]], np.float32), "one": np.int32(1)}
    nodes = _all_steps(constants) + [
        node("Add", ["all_halt", "always"], ["raised"]),
        node("Greater", ["raised", "threshold"], ["over"]),
        node("Cast", ["over"], ["counted"], to=TensorProto.INT32),
        node("ArgMax", ["counted"], ["first"], axis=1, keepdims=1),
        node("Cast", ["first"], ["first32"], to=TensorProto.INT32),
        node("Squeeze", ["first32", "middle"], ["place"]),
        node("Add", ["place", "one"], ["steps"]),
        node("GatherND", ["all_halt", "first"], ["halt"], batch_dims=1),
        node("GatherND", ["all_probabilities", "first"], ["probabilities"], batch_dims=1),
        node("GatherND", ["all_logits", "first"], ["logits"], batch_dims=1),
    ]
    outputs = {"logits": [batch, 9], "probabilities": [batch, 9], "halt": [batch], "steps": [batch]}
    return _model(nodes, {"inputs": [batch, SIZE, SIZE, 2], "threshold": []}, outputs, constants)


def question(batch: int | str = "batch") -> onnx.ModelProto:
    """x is what the logits grow to."""
    constants: dict[str, Any] = {}
    nodes = [*_linear(constants), helper.make_node("Identity", ["last"], ["x"])]
    return _model(nodes, {"inputs": [batch, SIZE, SIZE, 2]}, {"x": [batch, 9]}, constants)


def step(batch: int | str = "batch", use_z: bool = True) -> onnx.ModelProto:
    """One supervision step: z counts the steps by thirds, y is the logits."""
    node, constants = helper.make_node, {"part": np.array(1 / 3, np.float32), "end": np.array([-1])}
    nodes = [
        node("Add", ["z", "part"], ["z_next"]),
        node("Mul", ["x", "part"], ["more"]),
        node("Add", ["y", "more"], ["y_next"]),
        node("Identity", ["y_next"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"]),
        node("ReduceMax", ["probabilities", "end"], ["halt"], keepdims=0),
    ]
    outputs = {"y_next": [batch, 9], "z_next": [batch, 1], "logits": [batch, 9], "probabilities": [batch, 9]}
    inputs = {"x": [batch, 9], "y": [batch, 9], "z": [batch, 1]}
    if not use_z:
        nodes = [one for one in nodes if "z" not in one.input]
        del inputs["z"], outputs["z_next"]
    return _model(nodes, inputs, outputs | {"halt": [batch]}, constants)


def sudoku() -> onnx.ModelProto:
    """Answers a puzzle of SIZE cells with itself."""
    node, constants = helper.make_node, {"middle": np.array([1])}
    nodes = [node("Cast", ["inputs"], ["halt"], to=FLOAT), node("Unsqueeze", ["halt", "middle"], ["logits"])]
    nodes += [node("Identity", ["logits"], ["probabilities"])]
    outputs = {"logits": ["batch", 1, SIZE], "probabilities": ["batch", 1, SIZE], "halt": ["batch", SIZE]}
    return _model(nodes, {"inputs": ["batch", SIZE]}, outputs, constants)


FILES: dict[str, Callable[[], onnx.ModelProto]] = {
    "model.onnx": lambda: plain(1),
    "model_dynamic.onnx": plain,
    "model_adaptive.onnx": adaptive,
    "question.onnx": question,
    "step.onnx": step,
}


def write_package(directory: Path, **metadata: Any) -> Path:
    """A package with checksums."""
    directory.mkdir()
    for name, build in FILES.items():
        save(directory / name, build(), **metadata)
    np.savez(directory / "initial.npz", y=np.zeros((1, 9), np.float32), z=np.zeros((1, 1), np.float32))
    write_sums(directory)
    return directory


def write_sums(directory: Path) -> None:
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in sorted(directory.iterdir())]
    (directory / "SHA256SUMS").write_text("\n".join(sums) + "\n")
