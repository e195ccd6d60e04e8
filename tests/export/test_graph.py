"""Exported graphs answer as JAX does, hold each weight once and say what they are; packages appear whole or not."""

import hashlib
import json
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from trm_jax.core import model, train_step
from trm_jax.core.config import Config
from trm_jax.edge.format import Metadata
from trm_jax.export import agreement, latency, rewrite
from trm_jax.export import graph as export
from trm_jax.support import flops as accounting
from trm_jax.training.checkpoint import save_weights
from trm_jax.wafer.presets import PRESETS

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))
import export_onnx  # noqa: E402

SMALL = {"model.width": 8, "model.layers": 1, "model.heads": 2, "recursion.N_sup": 3, "recursion.T": 1,
         "recursion.n": 1}  # fmt: skip
WAFER = {"model.classes": 9, "model.patch": 4, "model.image": 12, "model.grid": (3, 3), "model.stem_widths": (4,),
         "model.views": 2,
         "model.readout": "mean_max", "model.halt_token": "mean", "model.norm": "pre"}  # fmt: skip
CONFIGS = {
    "wafer": WAFER,
    "attention": {"model.mixer": "attention", "model.positions": "rotary_2d", "recursion.remat": True},
    "joint": {"model.form": "joint", "model.combine": "concat"},
    "no_z": {"model.use_z": False, "model.mixer": "swiglu"},
    "prefix": {"model.prefix_tokens": 2, "model.prefix_width": 10, "model.mixer": "attention",
               "model.positions": "rotary_1d", "model.separate_nets": True},
}  # fmt: skip
ABOUT = Metadata(["one", "two"], {"kind": "x"}, 1.7, 0.8, {"a": [1]}, {"commit": "c"}, {})


class Case:
    """A tiny model whose halting probabilities differ, its inputs and what JAX answers."""

    def __init__(self, name: str):
        self.config = Config().override(**SMALL).override(**CONFIGS[name])
        self.params = model.initialise(self.config.model, jax.random.key(0))
        kernel = self.params["halting"]["kernel"]
        self.params["halting"] = {"kernel": jax.random.normal(jax.random.key(1), kernel.shape), "bias": jnp.zeros(2)}
        shape, dtype = export.input_shape(self.config)
        high = 256 if self.config.model.patch else self.config.model.vocabulary
        self.inputs = np.random.default_rng(0).integers(0, high, (6, *shape)).astype(dtype)
        readings = jax.jit(lambda inputs: model.forward(self.config, self.params, inputs))(self.inputs)
        logits, halt = (np.moveaxis(np.asarray(leaf), 0, 1) for leaf in (readings.logits, readings.halt))
        probabilities = np.exp(logits / 1.7) / np.exp(logits / 1.7).sum(axis=-1, keepdims=True)
        self.expected = agreement.Answers(logits, probabilities, 1 / (1 + np.exp(-halt)))
        self.graphs: dict[str, onnx.ModelProto] = {}

    def graph(self, kind: str) -> onnx.ModelProto:
        if kind not in self.graphs:
            self.graphs[kind] = export.export(self.config, self.params, kind, ABOUT)
        return self.graphs[kind]

    def saved(self, kind: str, folder: Path) -> Path:
        export.save(folder / f"{kind}.onnx", self.graph(kind))
        return folder / f"{kind}.onnx"


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {}


@pytest.fixture
def case(request: pytest.FixtureRequest, cases: dict[str, Case]) -> Case:
    if request.param not in cases:
        cases[request.param] = Case(request.param)
    return cases[request.param]


every_case = pytest.mark.parametrize("case", list(CONFIGS), indirect=True)
wafer_case = pytest.mark.parametrize("case", ["wafer"], indirect=True)


def close(found: agreement.Answers, expected: agreement.Answers) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32 and one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=3e-5)
    assert np.ptp(expected.logits) > 0.1 and np.ptp(expected.halt) > 0.01


@every_case
def test_whole_models_answer_as_jax_does_for_one_input_and_for_many(case: Case, tmp_path: Path) -> None:
    for kind in ("model", "dynamic"):
        close(agreement.of_file(case.saved(kind, tmp_path), case.inputs), case.expected)
    opened = agreement.session(tmp_path / "model.onnx")
    batch = [entry.shape[0] for entry in (*opened.get_inputs(), *opened.get_outputs())]
    assert batch == [1, 1, 1, 1]
    names = [entry.name for entry in (*opened.get_inputs(), *opened.get_outputs())]
    assert names == ["inputs", "logits", "probabilities", "halt"]
    assert opened.get_inputs()[0].type == ("tensor(float)" if case.config.model.patch else "tensor(int32)")


@every_case
def test_single_steps_in_a_row_are_the_whole_model(case: Case, tmp_path: Path) -> None:
    states = zip("yz", model.initial(case.config, case.params, 1), strict=True)
    initial = {name: np.asarray(state) for name, state in states if state is not None}
    question, step = (case.saved(kind, tmp_path) for kind in ("question", "step"))
    close(agreement.of_steps(question, step, initial, case.inputs, 3), case.expected)


@every_case
def test_the_adaptive_file_stops_after_the_first_step_above_the_threshold(case: Case, tmp_path: Path) -> None:
    path = case.saved("adaptive", tmp_path)
    first = np.sort(case.expected.halt[:, 0])
    middle = float(first[np.diff(first).argmax() :][:2].mean())  # far from every probability
    taken = set()
    for threshold in (0.0, middle, 1.0):
        above = case.expected.halt > threshold
        steps = np.where(above.any(axis=1), above.argmax(axis=1) + 1, 3)
        answers, used = agreement.of_adaptive(path, case.inputs, threshold)
        assert used.dtype == np.int32 and used.tolist() == steps.tolist()
        for one, other in zip(answers, agreement.at_steps(case.expected, steps), strict=True):
            np.testing.assert_allclose(one, other, atol=3e-5)
        taken |= set(steps)
    assert {1, 3} <= taken


@every_case
def test_each_weight_is_stored_once_in_every_graph(case: Case) -> None:
    kernels = [np.asarray(leaf) for leaf in jax.tree.leaves(case.params) if leaf.ndim == 2 and leaf.size > 8]
    for kind in ("model", "dynamic", "adaptive"):
        tensors = [onnx.numpy_helper.to_array(tensor) for tensor in tensors_of(case.graph(kind).graph)]
        contents = [(one.dtype, one.shape, one.tobytes()) for one in tensors]
        assert len(set(contents)) == len(contents)
        for kernel in kernels:
            window = kernel.reshape(3, 3, 3, 4).transpose(3, 2, 0, 1) if kernel.shape == (27, 4) else kernel
            assert sum(any(np.array_equal(one, form) for form in (kernel, kernel.T, window)) for one in tensors) == 1
    names = {tensor.name for tensor in case.graph("model").graph.initializer}
    assert {"readout.kernel", "halting.kernel", "net.block_0.mlp.down.kernel"} <= names


def tensors_of(graph: onnx.GraphProto):
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from tensors_of(attribute.g)


@wafer_case
def test_every_file_says_what_it_is_once(case: Case) -> None:
    for graph in (case.graph("model"), case.graph("adaptive"), export.to_half(case.graph("model"), ABOUT)):
        found = [(entry.key, json.loads(entry.value)) for entry in graph.metadata_props]
        assert found == list(ABOUT._asdict().items())
        assert graph.ir_version == 10 and [(o.domain, o.version) for o in graph.opset_import] == [("", 20)]


@every_case
def test_half_precision_changes_weights_and_keeps_inputs_and_outputs(case: Case, tmp_path: Path) -> None:
    half = export.to_half(case.graph("model"), ABOUT)
    export.save(tmp_path / "half.onnx", half)
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert kinds["readout.kernel"] == TensorProto.FLOAT16 and TensorProto.FLOAT not in kinds.values()
    found = agreement.of_file(tmp_path / "half.onnx", case.inputs)
    assert all(values.dtype == np.float32 for values in found)
    difference = np.abs(found.logits - case.expected.logits).max()
    assert 1e-6 < difference < 0.02 * np.ptp(case.expected.logits)


def graph_of(*nodes: onnx.NodeProto, weights: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """A graph from ``x`` to ``y``, both (2, 3) float32."""
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])] for name in "xy"]
    held = [onnx.numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", *ends, initializer=held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_conversion_that_changes_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="float16 changed no weight"):
        export.to_half(graph_of(helper.make_node("Relu", ["x"], ["y"])), ABOUT)


SCALE = {"s": np.float32(0.1), "z": np.int8(0)}
ROUND = [
    helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
    helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
]
EINSUM = helper.make_node("Einsum", ["x"], ["y"], equation="ij->ij")


def test_operators_that_tensorrt_lacks_are_refused() -> None:
    export.check(graph_of(EINSUM))
    export.check(graph_of(*ROUND, helper.make_node("Relu", ["d"], ["y"]), weights=SCALE))
    refused = {
        "Einsum": graph_of(*ROUND[:1], EINSUM, weights=SCALE),
        "Softsign": graph_of(helper.make_node("Softsign", ["x"], ["y"])),
        "DynamicQuantizeLinear": graph_of(
            helper.make_node("DynamicQuantizeLinear", ["x"], ["a", "b", "c"]),
            helper.make_node("DequantizeLinear", ["a", "b", "c"], ["y"]),
        ),
    }
    for name, graph in refused.items():
        with pytest.raises(ValueError, match=f"TensorRT 10 does not take {name}"):
            export.check(graph)
    with pytest.raises(ValueError, match="no valid ONNX"):
        export.check(graph_of(helper.make_node("Relu", ["nothing"], ["y"])))
    later = graph_of(helper.make_node("Relu", ["x"], ["y"]))
    later.opset_import[0].version = 21
    with pytest.raises(ValueError, match="opsets"):
        export.check(later)


@pytest.mark.parametrize(("bias", "kept"), [(0.0, 2), (0.5, 3)])
def test_a_zero_bias_goes_and_another_stays(bias: float, kept: int) -> None:
    weights = {"w": np.eye(3, dtype=np.float32), "b": np.float32(bias)}
    graph = rewrite.tidy(graph_of(helper.make_node("Gemm", ["x", "w", "b"], ["y"]), weights=weights))
    assert len(graph.graph.node[0].input) == kept
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
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
    graph = rewrite.tidy(rewrite.folded(graph_of(*nodes, weights={"c": constant, "w": -constant}), {"w"}))
    assert [node.op_type for node in graph.graph.node] == ["Neg", "Add", "Add"]
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    np.testing.assert_allclose(held["m"], np.sin(constant) * constant, rtol=1e-6)


def test_agreement_tells_how_sure_the_expected_answer_was_where_another_is_named() -> None:
    shares = np.array([[0.5, 0.3, 0.2], [0.4, 0.39, 0.21], [0.1, 0.1, 0.8]], np.float32)[:, None]
    expected = agreement.Answers(np.log(shares), shares, shares[..., 0])
    found = agreement.Answers(expected.logits, shares.copy(), expected.halt)
    found.probabilities[1, 0] = [0.39, 0.4, 0.21]
    one = agreement.agreement(found, expected, np.array([0, 0, 2]))
    assert one.same == pytest.approx(2 / 3) and one.lead == pytest.approx(0.01, rel=1e-4)
    assert agreement.agreement(expected, expected, np.array([0, 0, 2])).lead == 0


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
    before = onnx.shape_inference.infer_shapes(graph_of(*nodes, weights=weights))
    after = rewrite.tidy(before)
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


def test_what_is_no_mean_no_zero_and_no_inverse_stays() -> None:
    node = helper.make_node
    weights = {"four": np.float32(4), "last": np.array([-1]), "tiny": np.full((2, 3), 1e-9, np.float32)}
    nodes = [
        node("Add", ["tiny", "x"], ["a"]),
        node("ReduceSum", ["a", "last"], ["sum"], keepdims=1),
        node("Div", ["sum", "four"], ["part"]),
        node("Div", ["four", "part"], ["inverse"]),
        node("Mul", ["a", "inverse"], ["y"]),
    ]
    before = onnx.shape_inference.infer_shapes(graph_of(*nodes, weights=weights))
    kinds = [one.op_type for one in rewrite.tidy(before).graph.node]
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
    made = []
    for line in nodes:
        (kind, *given), result = (part.split() for part in line.split(" -> "))
        made.append(helper.make_node(kind, given, result))
    before = onnx.shape_inference.infer_shapes(graph_of(*made, weights=weights))
    after = rewrite.tidy(before)
    assert [node.op_type for node in after.graph.node] == kept
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
        for graph in (before, after)
    ]
    np.testing.assert_array_equal(*answers)


@pytest.mark.slow
def test_the_preset_paper_is_built_trains_and_is_exported() -> None:
    """A token for every cell, 36 layer applications: for a GPU, but nothing of it is left to chance."""
    config = Config().override(**PRESETS["paper"]).override(**{"run.batch": 2, "run.seeds": (0,)})
    params = model.initialise(config.model, jax.random.key(0))
    assert model.count_parameters(config.model, params) == 560_642
    flops = accounting.matmul_flops(
        lambda inputs: model.forward(config, params, inputs), model.blank_inputs(config.model, 1)
    )
    assert 21.9e9 < flops < 22.1e9
    grids = np.random.default_rng(0).integers(0, 256, (4, 26, 26, 2), np.uint8)
    data = {"inputs": jnp.asarray(grids), "labels": jnp.arange(4), train_step.CUMULATIVE: jnp.linspace(0.25, 1, 4)}
    step = jax.jit(partial(train_step.train_step, config, train_step.no_augmentation))
    state = train_step.init(config, data, 0)
    losses = []
    for _ in range(3):
        state, metrics = step(state, data)
        losses.append(float(metrics["loss"]))
    assert np.isfinite(losses).all() and losses[2] != losses[1]
    graph = export.export(config, state.params, "model", ABOUT)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["logits"], {"inputs": grids[:1].astype(np.float32)})[0]
    expected = np.moveaxis(np.asarray(model.forward(config, state.params, grids[:1]).logits), 0, 1)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-3)


@wafer_case
def test_files_share_their_weights_and_answer_as_before(case: Case, tmp_path: Path) -> None:
    graphs = {f"{kind}.onnx": case.graph(kind) for kind in ("model", "dynamic", "adaptive", "question", "step")}
    export.save_sharing(tmp_path, graphs)
    initial = dict(zip("yz", map(np.asarray, model.initial(case.config, case.params, 1)), strict=True))
    close(
        agreement.of_steps(tmp_path / "question.onnx", tmp_path / "step.onnx", initial, case.inputs, 3), case.expected
    )
    close(agreement.of_file(tmp_path / "model.onnx", case.inputs), case.expected)
    close(agreement.of_file(tmp_path / "dynamic.onnx", case.inputs), case.expected)
    once = {t.raw_data for g in graphs.values() for t in g.graph.initializer if len(t.raw_data) >= export.SHARED_FROM}
    assert once and not any(t.HasField("data_location") for t in case.graph("model").graph.initializer)
    held = (tmp_path / "weights.bin").read_bytes()
    assert all(content in held for content in once)
    assert sum(map(len, once)) <= len(held) < sum(map(len, once)) + export.ALIGNMENT * len(once)
    for name, graph in graphs.items():
        assert (tmp_path / name).stat().st_size < len(graph.SerializeToString())


@wafer_case
def test_speed_is_measured_in_processes_of_their_own(case: Case, tmp_path: Path) -> None:
    path = case.saved("adaptive", tmp_path)
    jobs = {
        limit: latency.Job(path, {"inputs": case.inputs, "threshold": np.array(limit, np.float32)}, 1)
        for limit in (0, 1)
    }
    found = latency.in_turns(jobs, 2 * latency.ROUNDS)
    assert found[0]["mean_steps"] == 1 and found[1]["mean_steps"] == 3
    for one in found.values():
        assert 0 < one["p50_ms"] <= one["p90_ms"] <= one["p99_ms"]
        assert one["load_ms"] > 0 and not one["peak_mb"] < 10  # nan where the system does not tell
    with pytest.raises(RuntimeError, match=r"measuring adaptive.onnx failed: .*threshold"):
        latency.in_turns({0: latency.Job(path, {"inputs": case.inputs}, 1)}, 1)
    with pytest.raises(RuntimeError, match=r"measuring gone.onnx failed: .*gone.onnx"):
        latency.in_turns({0: latency.Job(tmp_path / "gone.onnx", {"inputs": case.inputs}, 1)}, 1)
    waiting = latency.Contestant(jobs[0])
    waiting.process.kill()
    waiting.process.wait()
    with pytest.raises(RuntimeError, match=r"measuring adaptive.onnx failed: \[\]"):
        waiting.ask(1)
    waiting.close()


FILES = {"model.onnx", "model_dynamic.onnx", "model_adaptive.onnx", "question.onnx", "step.onnx", "model_fp16.onnx",
         "model_int8.onnx", "weights.bin", "initial.npz", "report.md", "report.json", "model_card.md",
         "SHA256SUMS"}  # fmt: skip
SPEED = {"load_ms": 5.0, "p50_ms": 2.0, "p90_ms": 3.0, "p99_ms": 4.0, "mean_ms": 2.5, "mean_steps": float("nan"),
         "peak_mb": 60.0}  # fmt: skip


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "in_turns", lambda jobs, _: dict.fromkeys(jobs, SPEED))


def arguments(case: Case, folder: Path, **options: object) -> export_onnx.Arguments:
    """Options that export the case, whose weights lie as those of a model that ships."""
    if not (folder / "ship").exists():
        (folder / "ship").mkdir()
        save_weights(folder / "ship" / "weights", case.params, case.config)
    small = {"calibration": 9, "samples": 9, "repeats": 1, "int8_limit": 0.5}
    return export_onnx.Arguments(folder / "ship", folder / "package", **small, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["attention"], indirect=True)
def test_a_package_is_whole_and_true(case: Case, tmp_path: Path, quick: None) -> None:
    options = arguments(case, tmp_path, reference=tmp_path / "reference.json")
    (tmp_path / "reference.json").write_text('{"mean": 2}')
    (tmp_path / "ship" / "calibration.json").write_text('{"temperature": 2, "review_threshold": 0.25}')
    package = export_onnx.run(options)
    assert {path.name for path in package.iterdir()} == FILES
    sums = dict(reversed(line.split("  ")) for line in (package / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == FILES - {"SHA256SUMS"}
    for name, expected in sums.items():
        assert hashlib.sha256((package / name).read_bytes()).hexdigest() == expected
    found = json.loads((package / "report.json").read_text(), parse_constant=pytest.fail)
    said = found["about"]
    assert said["temperature"] == 2 and said["review_threshold"] == 0.25 and said["reference"] == {"mean": 2}
    assert said["labels"] == ["padding", "blank", "1", "2", "3", "4"]
    assert said["preprocessing"] == {"kind": "tokens", "cells": 16}
    assert found["agreement"]["model.onnx"]["largest"] < 1e-4 and found["agreement"]["model.onnx"]["same"] == 1
    assert "assumed" not in (package / "model_card.md").read_text()
    with np.load(package / "initial.npz") as arrays:
        assert arrays["y"].shape == arrays["z"].shape == (1, 16, 8)
    export_onnx.check_output(package)  # may be replaced
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package", "reference.json", "ship"]


@wafer_case
def test_a_package_in_float32_alone(case: Case, tmp_path: Path, quick: None) -> None:
    package = export_onnx.run(arguments(case, tmp_path, preset="smoke", precisions=()))
    names = {path.name for path in package.iterdir()}
    assert names == (FILES | {"labels.txt"}) - {"model_fp16.onnx", "model_int8.onnx"}
    report = (package / "report.md").read_text()
    assert "int8" not in report and "float16" not in report and "of JAX's time" in report


@wafer_case
def test_a_failure_leaves_nothing_behind(
    case: Case, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["export_onnx.py"])
    with pytest.raises(ValueError, match="differs from JAX by"):
        export_onnx.run(arguments(case, tmp_path, preset="smoke", tolerance=0.0))
    assert [path.name for path in tmp_path.iterdir()] == ["ship"]
    (tmp_path / "ship" / "calibration.json").write_text('{"temperature": 0, "review_threshold": 0.25}')
    with pytest.raises(ValueError, match="temperature must be positive"):
        export_onnx.run(arguments(case, tmp_path, preset="smoke"))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "precious").touch()
    with pytest.raises(ValueError, match="is no package"):
        export_onnx.run(arguments(case, tmp_path))
    with pytest.raises(ValueError, match="--checkpoint is needed"):
        export_onnx.run(export_onnx.Arguments(output=tmp_path / "other"))
    with pytest.raises(FileNotFoundError, match="no checkpoint directory"):
        export_onnx.run(export_onnx.Arguments(tmp_path / "nowhere", tmp_path / "other"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package", "ship"]
