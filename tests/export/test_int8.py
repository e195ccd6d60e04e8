"""Int8 graphs: scales where they belong, the harmful products left out, and no silent failure."""

import jax
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.edge.format import Metadata
from trm_jax.export import graph as export
from trm_jax.export import int8

ABOUT = Metadata(["a"], {}, 1.0, 0.5, {}, {}, {})
RNG = np.random.default_rng(0)
LEFT, RIGHT = RNG.normal(size=(4, 4)).astype(np.float32), RNG.normal(size=(6, 5)).astype(np.float32)


def graph_of(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[int]) -> onnx.ModelProto:
    """A graph from ``inputs`` (1, 4, 6) to ``logits``."""
    ends = [
        [helper.make_tensor_value_info("inputs", TensorProto.FLOAT, [1, 4, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
    ]
    held = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", *ends, initializer=held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def two_products(right: np.ndarray = RIGHT) -> onnx.ModelProto:
    """``LEFT @ inputs @ right``: the left factor's channels are rows, the right factor's columns."""
    nodes = [
        helper.make_node("MatMul", ["left", "inputs"], ["h"], "first"),
        helper.make_node("MatMul", ["h", "right"], ["logits"], "second"),
    ]
    return graph_of(nodes, {"left": LEFT, "right": right}, [1, 4, right.shape[1]])


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return RNG.normal(size=(12, 4, 6)).astype(np.float32)


LABELS = np.arange(12) % 3


def tensors(graph: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def test_weights_have_a_symmetric_scale_for_each_channel_that_is_not_summed_over(inputs: np.ndarray) -> None:
    found = int8.quantize(two_products(), inputs, LABELS, ABOUT)
    held = tensors(found.graph)
    for name, weight, axis in (("left", LEFT, 1), ("right", RIGHT, 0)):
        scale, integers = held[f"{name}_scale"], held[f"{name}_quantized"]
        np.testing.assert_allclose(scale, np.abs(weight).max(axis=axis) / 127, rtol=1e-5)
        assert integers.dtype == np.int8 and not held[f"{name}_zero_point"].any()
        restored = integers * np.expand_dims(scale, axis)
        assert np.abs(restored - weight).max() <= scale.max() * 0.51 and name not in held
    zeros = {name: value for name, value in held.items() if name.endswith("zero_point")}
    assert len(zeros) == 4 and not any(value.any() for value in zeros.values())  # activations are symmetric too
    assert [entry.key for entry in found.graph.metadata_props] == list(Metadata._fields)
    assert {node.op_type for node in found.graph.graph.node} == {"MatMul", "QuantizeLinear", "DequantizeLinear"}


def test_the_error_is_the_mean_over_classes_of_their_rms() -> None:
    expected = np.array([[1.0, -1.0]] * 4)
    found = expected + np.array([[3.0], [-4.0], [0.0], [0.0]])
    labels = np.array([0, 0, 0, 7])
    assert int8.macro_error(found, expected, labels) == pytest.approx(np.sqrt(25 / 3) / 2)
    assert int8.macro_error(10 * found, 10 * expected, labels) == pytest.approx(np.sqrt(25 / 3) / 2)
    assert int8.macro_error(expected, expected, labels) == 0


def test_the_most_harmful_product_stays_in_floating_point(inputs: np.ndarray) -> None:
    # One huge column of activations leaves nothing of the others after rounding; the right factor undoes it.
    spread = np.array([1e4, 1, 1, 1, 1, 1], np.float32)
    nodes = [
        helper.make_node("MatMul", ["left", "inputs"], ["h"], "first"),
        helper.make_node("Mul", ["h", "spread"], ["uneven"], "mul"),
        helper.make_node("MatMul", ["uneven", "right"], ["logits"], "second"),
    ]
    graph = graph_of(nodes, {"left": LEFT, "right": RIGHT / spread[:, None], "spread": spread}, [1, 4, 5])
    found = int8.quantize(graph, inputs, LABELS, ABOUT)
    assert list(found.sensitivity) == ["right", "left"] and found.kept_float == ("right",)
    assert found.sensitivity["right"] > 0.3 and found.sensitivity["left"] == found.error < 0.05
    held = tensors(found.graph)
    assert "left_quantized" in held and "right" in held and "right_quantized" not in held
    measured = int8.macro_error(int8.logits(found.graph, inputs), int8.logits(graph, inputs), LABELS)
    assert measured == pytest.approx(found.error) and measured > 1e-4
    with pytest.raises(ValueError, match=r"more than 1e-06 of their spread"):
        int8.quantize(graph, inputs, LABELS, ABOUT, limit=1e-6)
    everything = int8.quantize(graph, inputs, LABELS, ABOUT, limit=10.0)
    assert everything.kept_float == () and everything.error > 0.3


def test_a_graph_without_products_is_refused(inputs: np.ndarray) -> None:
    graph = graph_of([helper.make_node("Relu", ["inputs"], ["logits"])], {}, [1, 4, 6])
    with pytest.raises(ValueError, match="no product"):
        int8.quantize(graph, inputs, LABELS, ABOUT)


def test_groups_follow_weights_and_attention_is_one() -> None:
    options = {"model.width": 8, "model.heads": 2, "model.layers": 1, "model.mixer": "attention",
               "recursion.N_sup": 2, "recursion.T": 1, "recursion.n": 1}  # fmt: skip
    config = Config().override(**options)
    graph = export.export(config, model.initialise(config.model, jax.random.key(0)), "model", ABOUT)
    groups = int8.product_groups(graph)
    evaluations = 2 * (1 + 1)  # supervision steps, each with one update of z and one of y; their answers are read once
    assert len(groups["net.block_0.mix.qkv.kernel"]) == evaluations and len(groups["readout.kernel"]) == 1
    assert len(groups[int8.ACTIVATIONS]) == 2 * evaluations
    inputs = np.random.default_rng(0).integers(1, 6, (6, 16)).astype(np.int32)
    found = int8.quantize(graph, inputs, np.zeros(6, int), ABOUT, limit=0.3)
    assert set(found.sensitivity) == set(groups) and 0 < found.error <= 0.3
    integers = [value for value in tensors(found.graph).values() if value.dtype == np.int8 and value.size > 8]
    contents = [(one.shape, one.tobytes()) for one in integers if one.ndim == 2]
    assert len(contents) == len(set(contents)) == len(groups) - 1 - len(found.kept_float)
