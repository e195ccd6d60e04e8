"""Rewritten graphs answer as before with fewer nodes, and nothing is rewritten that only looks alike."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from export_models import model_of, tensors
from onnx import helper

from trm_jax.export import rewrite
from trm_jax.export.measures.latency import open_session


@pytest.mark.parametrize(("bias", "kept"), [(0.0, 2), (0.5, 3)])
def test_a_zero_bias_goes_and_another_stays(bias: float, kept: int) -> None:
    weights = {"w": np.eye(3, dtype=np.float32), "b": np.float32(bias)}
    graph = rewrite.optimize(model_of(helper.make_node("Gemm", ["x", "w", "b"], ["y"]), weights=weights))
    assert len(graph.graph.node[0].input) == kept
    session = open_session(graph.SerializeToString())
    np.testing.assert_allclose(session.run(None, {"x": np.ones((2, 3), np.float32)})[0], 1 + bias)


def test_what_depends_on_constants_alone_is_computed_but_not_from_weights() -> None:
    nodes = [
        helper.make_node("Sin", ["c"], ["sin"]),
        helper.make_node("Mul", ["sin", "c"], ["m"]),
        helper.make_node("Neg", ["w"], ["n"]),
        helper.make_node("Add", ["x", "m"], ["a"]),
        helper.make_node("Add", ["a", "n"], ["y"]),
    ]
    constant = np.array([1, 2, 3], np.float32)
    graph = rewrite.optimize(rewrite.fold_constants(model_of(*nodes, weights={"c": constant, "w": -constant}), {"w"}))
    assert [node.op_type for node in graph.graph.node] == ["Neg", "Add", "Add"]
    np.testing.assert_allclose(tensors(graph)["m"], np.sin(constant) * constant, rtol=1e-6)


def test_rewriting_keeps_the_answers_and_lets_onnxruntime_see_the_norm(tmp_path: Path) -> None:
    node = helper.make_node
    weights = {"one": np.float32(1), "two": np.float32(2), "three": np.float32(3), "last": np.array([-1]),
               "small": np.float32(1e-5), "scale": np.array([[3, 4, 5]], np.float32),
               "zeros": np.zeros((2, 3), np.float32)}  # fmt: skip
    nodes = [
        node("Add", ["zeros", "x"], ["same"]),
        node("Pow", ["same", "two"], ["square"]),
        node("ReduceSum", ["square", "last"], ["sum"], keepdims=1),
        node("Div", ["sum", "three"], ["mean"]),
        node("Add", ["mean", "small"], ["above"]),
        node("Sqrt", ["above"], ["root"]),
        node("Div", ["one", "root"], ["inverse"]),
        node("Mul", ["same", "inverse"], ["normed"]),
        node("Mul", ["normed", "scale"], ["more"]),
        node("Add", ["more", "zeros"], ["y"]),  # an output keeps its name
    ]
    before = onnx.shape_inference.infer_shapes(model_of(*nodes, weights=weights))
    after = rewrite.optimize(before)
    kinds = [one.op_type for one in after.graph.node]
    assert kinds == ["Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add"]
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    for graph in (before, after):
        onnx.checker.check_model(graph, full_check=True)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        expected = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5) * [3, 4, 5]
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5)
    optimised = onnx.load(tmp_path / "optimised.onnx").graph
    assert [one.op_type for one in optimised.node] == ["SimplifiedLayerNormalization", "Add"]


def test_what_is_not_a_mean_a_zero_or_an_inverse_stays() -> None:
    node = helper.make_node
    weights = {"four": np.float32(4), "last": np.array([-1]), "tiny": np.full((2, 3), 1e-9, np.float32)}
    nodes = [
        node("Add", ["tiny", "x"], ["a"]),
        node("ReduceSum", ["a", "last"], ["sum"], keepdims=1),
        node("Div", ["sum", "four"], ["part"]),
        node("Div", ["four", "part"], ["inverse"]),
        node("Mul", ["a", "inverse"], ["y"]),
    ]
    before = onnx.shape_inference.infer_shapes(model_of(*nodes, weights=weights))
    kinds = [one.op_type for one in rewrite.optimize(before).graph.node]
    assert kinds == ["Add", "ReduceSum", "Div", "Div", "Mul"]


@pytest.mark.parametrize(
    ("nodes", "weights", "kept"),
    [
        # The constant is what gives the result its shape.
        (["Div one x -> d", "Mul x d -> y"], {"one": np.ones((2, 3), np.float32)}, ["Div", "Mul"]),
        (["ReduceSum x last -> s", "Div s n -> y"], {"last": np.array([-1]), "n": np.full((1, 3), 3, np.float32)},
         ["ReduceSum", "Div"]),
        # A sum over all axes, and one over none that are named.
        (["ReduceSum x -> s", "Div s n -> m", "Add x m -> y"], {"n": np.float32(6)}, ["ReduceSum", "Div", "Add"]),
        (["ReduceSum x none -> s", "Div s n -> m", "Add x m -> y"],
         {"none": np.zeros(0, np.int64), "n": np.float32(1)}, ["ReduceSum", "Div", "Add"]),
    ],
)  # fmt: skip
def test_what_only_looks_like_a_mean_or_an_inverse_stays(nodes: list[str], weights: dict, kept: list[str]) -> None:
    parts = [[part.split() for part in line.split(" -> ")] for line in nodes]
    protos = [helper.make_node(kind, inputs, outputs) for (kind, *inputs), outputs in parts]
    before = onnx.shape_inference.infer_shapes(model_of(*protos, weights=weights))
    after = rewrite.optimize(before)
    assert [node.op_type for node in after.graph.node] == kept
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    answers = [open_session(graph.SerializeToString()).run(None, {"x": x}) for graph in (before, after)]
    np.testing.assert_array_equal(*answers)
