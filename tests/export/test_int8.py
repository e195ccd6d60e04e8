"""Int8 graphs: scales where they belong, the harmful products left out, and no silent failure."""

import numpy as np
import onnx
import pytest
from export_models import METADATA, case, model_of, tensors
from onnx import helper

from trm_jax.edge.format import Metadata
from trm_jax.export import int8

RNG = np.random.default_rng(0)
LEFT, RIGHT = RNG.normal(size=(4, 4)).astype(np.float32), RNG.normal(size=(6, 5)).astype(np.float32)


def graph_of(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[int]) -> onnx.ModelProto:
    """A graph from ``inputs`` (1, 4, 6) to ``logits``."""
    return model_of(*nodes, weights=weights, inputs={"inputs": [1, 4, 6]}, outputs={"logits": shape})


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


def test_weights_have_a_symmetric_scale_for_each_channel_that_is_not_summed_over(inputs: np.ndarray) -> None:
    quantized = int8.quantize(two_products(), inputs, LABELS, METADATA)
    held = tensors(quantized.graph)
    for name, weight, axis in (("left", LEFT, 1), ("right", RIGHT, 0)):
        scale, integers = held[f"{name}_scale"], held[f"{name}_quantized"]
        np.testing.assert_allclose(scale, np.abs(weight).max(axis=axis) / 127, rtol=1e-5)
        assert integers.dtype == np.int8 and not held[f"{name}_zero_point"].any()
        restored = integers * np.expand_dims(scale, axis)
        assert np.abs(restored - weight).max() <= scale.max() * 0.51 and name not in held
    zeros = {name: value for name, value in held.items() if name.endswith("zero_point")}
    assert len(zeros) == 4 and not any(value.any() for value in zeros.values())  # activations are symmetric too
    assert [entry.key for entry in quantized.graph.metadata_props] == list(Metadata._fields)
    assert {node.op_type for node in quantized.graph.graph.node} == {"MatMul", "QuantizeLinear", "DequantizeLinear"}


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
    quantized = int8.quantize(graph, inputs, LABELS, METADATA)
    assert list(quantized.sensitivity) == ["right", "left"] and quantized.kept_float == ("right",)
    assert quantized.sensitivity["right"] > 0.3 and quantized.sensitivity["left"] == quantized.error < 0.05
    held = tensors(quantized.graph)
    assert "left_quantized" in held and "right" in held and "right_quantized" not in held
    measured = int8.macro_error(int8.logits(quantized.graph, inputs), int8.logits(graph, inputs), LABELS)
    assert measured == pytest.approx(quantized.error) and measured > 1e-4
    with pytest.raises(ValueError, match=r"more than 1e-06 of their spread"):
        int8.quantize(graph, inputs, LABELS, METADATA, limit=1e-6)
    everything = int8.quantize(graph, inputs, LABELS, METADATA, limit=10.0)
    assert everything.kept_float == () and everything.error > 0.3


def test_a_graph_without_products_is_refused(inputs: np.ndarray) -> None:
    graph = graph_of([helper.make_node("Relu", ["inputs"], ["logits"])], {}, [1, 4, 6])
    with pytest.raises(ValueError, match="no product"):
        int8.quantize(graph, inputs, LABELS, METADATA)


def test_groups_follow_weights_and_attention_is_one() -> None:
    graph, inputs = case("joint").graph("model"), case("joint").inputs
    groups = int8.product_groups(graph)
    evaluations = 3  # supervision steps with one pass each; their answers are read once
    assert len(groups["net.block_0.mix.qkv.kernel"]) == evaluations and len(groups["readout.kernel"]) == 1
    assert len(groups[int8.ACTIVATIONS]) == 2 * evaluations
    quantized = int8.quantize(graph, inputs, np.zeros(6, int), METADATA, limit=0.3)
    assert set(quantized.sensitivity) == set(groups) and 0 < quantized.error <= 0.3 == quantized.limit
    integers = [value for value in tensors(quantized.graph).values() if value.dtype == np.int8 and value.size > 8]
    contents = [(one.shape, one.tobytes()) for one in integers if one.ndim == 2]
    assert len(contents) == len(set(contents)) == len(groups) - 1 - len(quantized.kept_float)


@pytest.mark.parametrize(
    ("attribute", "place", "axis"), [(None, 0, 0), (None, 1, 1), ("transA", 0, 1), ("transB", 1, 0)]
)
def test_a_transposed_factor_has_its_channels_on_the_other_axis(attribute: str | None, place: int, axis: int) -> None:
    names = ["inputs", "weight"] if place else ["weight", "inputs"]
    node = helper.make_node("Gemm", names, ["logits"], "gemm", **({attribute: 1} if attribute else {}))
    assert int8.channel_axes(graph_of([node], {"weight": LEFT}, [1, 4, 4]))["weight"][0]["axis"] == axis
