"""Eight-bit versions of exported graphs: symmetric int8 with a scale for each channel of a weight.

Only products are quantized, in the Q/DQ form that TensorRT and onnxruntime both read. Which of them stay in floating
point is measured: each weight is quantized alone first, and the worst stay in floating point until the error is small.
"""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from trm_jax.edge.format import Metadata
from trm_jax.export.graph import with_metadata
from trm_jax.export.measures.latency import open_session
from trm_jax.support.schema import require

PRODUCTS = ("MatMul", "Gemm", "Conv")
ACTIVATIONS = "products of activations"


class Quantized(NamedTuple):
    """A quantized graph, and why it is quantized where it is."""

    graph: onnx.ModelProto
    sensitivity: dict[str, float]
    """Macro error of each group of products quantized alone, the largest first."""
    kept_float: tuple[str, ...]
    """Groups that stayed in floating point."""
    error: float
    """Macro error of the graph."""
    limit: float
    """Macro error that was allowed."""


def quantize(
    graph: onnx.ModelProto, inputs: np.ndarray, labels: np.ndarray, metadata: Metadata, limit: float = 0.05
) -> Quantized:
    """Int8 version of a graph for one input, calibrated and judged on inputs (N, ...) of every class.

    The products of a weight form a group, those of two activations another. The group with the largest error is left
    in floating point, then the next, until the macro error is at most ``limit``. ``labels`` (N,) are classes of the
    inputs (zeros where there are none). Raises ValueError if no group can be quantized.
    """
    groups = product_groups(graph)
    require(bool(groups), "the graph has no product that could be quantized")
    expected = logits(graph, inputs)
    with tempfile.TemporaryDirectory() as folder:
        quantizer = _Quantizer(graph, inputs, groups, Path(folder))

        def quantization_error(names: Iterable[str]) -> tuple[onnx.ModelProto, float]:
            quantized = quantizer(names)
            return quantized, macro_error(logits(quantized, inputs), expected, labels)

        error_by_group = {name: quantization_error([name])[1] for name in groups}
        order = sorted(groups, key=lambda name: -error_by_group[name])
        for count in range(len(order)):
            quantized, error = quantization_error(order[count:])
            if error <= limit:
                ranked = {name: error_by_group[name] for name in order}
                return Quantized(with_metadata(quantized, metadata), ranked, tuple(order[:count]), error, limit)
    raise ValueError(f"int8 changes the logits by more than {limit} of their spread whatever stays in floating point")


def macro_error(values: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> float:
    """RMS difference of logits (N, ...) in units of their standard deviation: the mean over the classes of samples."""
    axes = tuple(range(1, values.ndim))
    square = ((values.astype(np.float64) - expected) ** 2).mean(axis=axes)
    by_class = [np.sqrt(square[labels == label].mean()) for label in np.unique(labels)]
    return float(np.mean(by_class) / max(float(expected.std()), 1e-12))


def logits(graph: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    """Logits (N, ...) of inputs (N, ...), one at a time, with graph optimization off.

    Optimized, onnxruntime's AVX2 kernels for int8 saturate and show an error that other devices do not have.
    """
    session = open_session(graph.SerializeToString(), optimized=False)
    return np.concatenate([session.run(["logits"], {"inputs": inputs[i : i + 1]})[0] for i in range(len(inputs))])


def product_groups(graph: onnx.ModelProto) -> dict[str, list[str]]:
    """Names of the nodes that multiply by each weight, and of those that multiply two activations."""
    groups: dict[str, list[str]] = {}
    weights = {tensor.name for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type in PRODUCTS:
            weight = next((name for name in node.input[:2] if name in weights), ACTIVATIONS)
            groups.setdefault(weight, []).append(node.name)
    return groups


def channel_axes(graph: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    """For every weight of a product the axis of its output channels, as onnxruntime takes it.

    A scale may differ between channels that are not summed over: columns of a right factor, rows of a left one, the
    first axis of a convolution.
    """
    axes = {}
    weights = {tensor.name for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        for place, name in enumerate(node.input[:2]):
            if node.op_type in PRODUCTS and name in weights:
                transposed = any(a.name == ("transA", "transB")[place] and a.i for a in node.attribute)
                axis = 0 if node.op_type == "Conv" else place ^ transposed
                axes[name] = [{"axis": axis, "quant_type": QuantType.QInt8, "symmetric": True}]
    return axes


class _Quantizer:
    """Quantizes chosen groups of one graph; the ranges of its activations are measured once."""

    def __init__(self, graph: onnx.ModelProto, inputs: np.ndarray, groups: dict[str, list[str]], folder: Path):
        self.inputs, self.groups, self.folder, self.axes = inputs, groups, folder, channel_axes(graph)
        copy = onnx.ModelProto()
        copy.CopyFrom(graph)
        add_pre_process_metadata(copy)  # tidied on export; it would be warned about
        onnx.save(copy, folder / "float.onnx")

    def __call__(self, chosen: Iterable[str]) -> onnx.ModelProto:
        path = self.folder / "int8.onnx"
        quantize_static(
            self.folder / "float.onnx",
            path,
            _Reader(self.inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(PRODUCTS),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[node for name in chosen for node in self.groups[name]],
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                # A product is followed by a sum or a norm in floating point.
                "OpTypesToExcludeOutputQuantization": list(PRODUCTS),
                "TensorQuantOverrides": self.axes,
            },
            calibration_cache_path=self.folder / "ranges.json",
        )
        quantized = onnx.load(path)
        kinds = {node.op_type for node in quantized.graph.node}
        require("QuantizeLinear" in kinds, "quantization changed nothing")
        standard = [entry for entry in quantized.opset_import if entry.domain == ""]
        del quantized.opset_import[:]
        quantized.opset_import.extend(standard)  # onnxruntime adds its own operators, used or not
        return quantized


class _Reader(CalibrationDataReader):
    """Inputs one by one, as onnxruntime asks for them."""

    def __init__(self, inputs: Sequence[np.ndarray] | np.ndarray):
        self._feeds = ({"inputs": sample[None]} for sample in inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)
