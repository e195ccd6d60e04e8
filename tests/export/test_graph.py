"""Exported graphs answer as JAX does, hold each weight once, say what they are and use what TensorRT knows."""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
from export_models import METADATA, case, close, every_model, model_of
from onnx import TensorProto, helper
from toys import Toy, on_device

from trm_jax.core import train_step
from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.export import graph
from trm_jax.export.measures import agreement
from trm_jax.export.measures.latency import open_session
from trm_jax.export.rewrite import nodes
from trm_jax.support.flops import matmul_flops
from trm_jax.wafer.presets import PRESETS

KINDS = ("model", "dynamic", "adaptive", "question", "step")


@every_model
def test_all_kinds_answer_as_jax_does(name: str, tmp_path: Path) -> None:
    tiny = case(name)
    for kind in ("model", "dynamic"):
        close(agreement.file_answers(tiny.saved(kind, tmp_path), tiny.inputs), tiny.expected)
    session = open_session(tmp_path / "model.onnx")
    ends = [*session.get_inputs(), *session.get_outputs()]
    assert {end.shape[0] for end in ends} == {1}
    images = tiny.config.model.encoder is not None
    features = ["features"] if images else []
    assert [end.name for end in ends] == ["inputs", "logits", "probabilities", "halt", *features]
    assert ends[0].type == ("tensor(float)" if images else "tensor(int32)")
    x = agreement.questions(tiny.saved("question", tmp_path), tiny.inputs)
    close(agreement.step_answers(tiny.saved("step", tmp_path), tiny.initial, x, 3), tiny.expected)


@every_model
def test_the_adaptive_file_stops_after_the_first_step_above_the_threshold(name: str, tmp_path: Path) -> None:
    tiny = case(name)
    path, expected = tiny.saved("adaptive", tmp_path), tiny.expected
    first = np.sort(expected.halt[:, 0])
    middle = float(first[np.diff(first).argmax() :][:2].mean())  # far from every probability
    taken = set()
    for threshold in (0.0, middle, 1.0):
        above = expected.halt > threshold
        steps = np.where(above.any(axis=1), above.argmax(axis=1) + 1, 3)
        answers, used = agreement.adaptive_answers(path, tiny.inputs, threshold)
        assert used.dtype == np.int32 and used.tolist() == steps.tolist()
        close(answers, agreement.at_steps(expected, steps))
        taken |= set(steps)
    assert {1, 3} <= taken


@every_model
def test_each_weight_is_stored_once_in_every_graph(name: str) -> None:
    tiny = case(name)
    kernels = [np.asarray(leaf) for leaf in jax.tree.leaves(tiny.params) if leaf.ndim == 2 and leaf.size > 8]
    for kind in ("model", "dynamic", "adaptive"):
        proto = tiny.graph(kind).graph
        constants = [a.t for node in nodes(proto) if node.op_type == "Constant" for a in node.attribute]
        bodies = [a.g for node in proto.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
        assert not any(body.initializer for body in bodies)
        values = [onnx.numpy_helper.to_array(tensor) for tensor in (*proto.initializer, *constants)]
        contents = [(one.dtype, one.shape, one.tobytes()) for one in values]
        assert len(set(contents)) == len(contents)
        for kernel in kernels:
            forms = [kernel, kernel.T]
            if len(kernel) % 9 == 0:
                forms.append(kernel.reshape(3, 3, -1, kernel.shape[1]).transpose(3, 2, 0, 1))
            assert sum(any(np.array_equal(one, form) for form in forms) for one in values) == 1
    names = {tensor.name for tensor in tiny.graph("model").graph.initializer}
    nets = [f"{net}." for net in tiny.params] if name == "members" else [""]
    stored = ("readout.kernel", "halting.kernel", "net.block_0.mlp.down.kernel")
    assert {f"{net}{weight}" for net in nets for weight in stored} <= names


@every_model
def test_half_precision_changes_weights_and_keeps_inputs_and_outputs(name: str, tmp_path: Path) -> None:
    tiny = case(name)
    half = graph.to_half(tiny.graph("model"), METADATA)
    graph.save(tmp_path / "half.onnx", half)
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    readout = "member_1.readout.kernel" if name == "members" else "readout.kernel"
    assert types[readout] == TensorProto.FLOAT16 and TensorProto.FLOAT not in types.values()
    answers = agreement.file_answers(tmp_path / "half.onnx", tiny.inputs)
    assert all(values.dtype == np.float32 for values in answers)
    difference = np.abs(answers.logits - tiny.expected.logits).max()
    assert 1e-6 < difference < 0.02 * np.ptp(tiny.expected.logits)


def test_every_file_says_what_it_is_once() -> None:
    tiny = case("wafer")
    for proto in (tiny.graph("model"), tiny.graph("adaptive"), graph.to_half(tiny.graph("model"), METADATA)):
        texts = [(entry.key, json.loads(entry.value)) for entry in proto.metadata_props]
        assert texts == list(METADATA._asdict().items())
        assert proto.ir_version == 10 and [(o.domain, o.version) for o in proto.opset_import] == [("", 20)]


def test_a_conversion_that_changes_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="float16 changed no weight"):
        graph.to_half(model_of(helper.make_node("Relu", ["x"], ["y"])), METADATA)


SCALE = {"s": np.float32(0.1), "z": np.int8(0)}
ROUND = [
    helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
    helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
]
EINSUM = helper.make_node("Einsum", ["x"], ["y"], equation="ij->ij")


def test_operators_that_tensorrt_lacks_are_refused() -> None:
    graph.check(model_of(EINSUM))
    graph.check(model_of(*ROUND, helper.make_node("Relu", ["d"], ["y"]), weights=SCALE))
    refused = {
        "Einsum": model_of(*ROUND[:1], EINSUM, weights=SCALE),
        "Softsign": model_of(helper.make_node("Softsign", ["x"], ["y"])),
        "DynamicQuantizeLinear": model_of(
            helper.make_node("DynamicQuantizeLinear", ["x"], ["a", "b", "c"]),
            helper.make_node("DequantizeLinear", ["a", "b", "c"], ["y"]),
        ),
    }
    for name, proto in refused.items():
        with pytest.raises(ValueError, match=f"TensorRT 10 does not take {name}"):
            graph.check(proto)
    with pytest.raises(ValueError, match="not valid ONNX"):
        graph.check(model_of(helper.make_node("Relu", ["nothing"], ["y"])))
    later = model_of(helper.make_node("Relu", ["x"], ["y"]))
    later.opset_import[0].version = 21
    with pytest.raises(ValueError, match="opsets"):
        graph.check(later)


def test_files_share_their_weights_and_answer_as_before(tmp_path: Path) -> None:
    tiny = case("wafer")
    graphs = {f"{kind}.onnx": tiny.graph(kind) for kind in KINDS}
    graph.save_sharing(tmp_path, graphs)
    x = agreement.questions(tmp_path / "question.onnx", tiny.inputs)
    close(agreement.step_answers(tmp_path / "step.onnx", tiny.initial, x, 3), tiny.expected)
    for name in ("model.onnx", "dynamic.onnx"):
        close(agreement.file_answers(tmp_path / name, tiny.inputs), tiny.expected)
    shared = {t.raw_data for g in graphs.values() for t in g.graph.initializer if len(t.raw_data) >= graph.SHARED_FROM}
    assert shared and not any(t.HasField("data_location") for t in tiny.graph("model").graph.initializer)
    weights = (tmp_path / "weights.bin").read_bytes()
    assert all(content in weights for content in shared)
    assert sum(map(len, shared)) <= len(weights) < sum(map(len, shared)) + graph.ALIGNMENT * len(shared)
    for name, proto in graphs.items():
        assert (tmp_path / name).stat().st_size < len(proto.SerializeToString())


@pytest.mark.slow
def test_the_preset_paper_is_built_trains_and_is_exported() -> None:
    """A token for every cell, 36 layer applications: for a GPU, but nothing of it is left to chance."""
    config = Config().override(**PRESETS["paper"] | {"model.classes": 9, "run.batch": 2, "run.seeds": (0,)})
    params = model.initialise(config.model, jax.random.key(0))
    assert model.count_parameters(config.model, params) == 560_642
    flops = matmul_flops(lambda inputs: model.forward(config, params, inputs), model.blank_inputs(config.model, 1))
    assert 21.9e9 < flops < 22.1e9
    grids = np.random.default_rng(0).integers(0, 256, (4, 26, 26, 2), np.uint8)
    data = on_device({"inputs": grids, "labels": np.arange(4)})
    step = jax.jit(partial(train_step.train_step, config, Toy({})))
    state = train_step.init(config, data, 0)
    losses = []
    for _ in range(3):
        state, metrics = step(state, data)
        losses.append(float(metrics["loss"]))
    assert np.isfinite(losses).all() and losses[2] != losses[1]
    inputs = grids[:1].astype(np.float32)
    proto = graph.export(config, state.params, "model", METADATA, inputs)
    logits = open_session(proto.SerializeToString()).run(["logits"], {"inputs": inputs})[0]
    expected = np.moveaxis(np.asarray(model.forward(config, state.params, grids[:1]).logits), 0, 1)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits, expected, atol=2e-3)
