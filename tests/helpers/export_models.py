"""Tiny models to export, and graphs that are written by hand."""

from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trm_jax.core.config import Config
from trm_jax.core.network import model

pytest.importorskip("jax2onnx", reason="ONNX files need an older jax: pip install -e .[export]")

from trm_jax.edge.format import Metadata
from trm_jax.export import graph
from trm_jax.export.measures import agreement

SMALL = {"model.width": 8, "model.layers": 1, "model.heads": 2, "recursion.N_sup": 3, "recursion.T": 1,
         "recursion.n": 1}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "wafer": {"model.classes": 9, "model.encoder": {"patch": 4, "image": 12, "widths": (4,), "views": 2},
              "model.grid": (3, 3), "model.readout": "mean_max", "model.halt_token": "mean", "model.norm": "pre"},
    "joint": {"model.form": "joint", "model.combine": "concat", "model.mixer": "attention",
              "model.positions": "rotary_2d", "model.relations": "boxes", "model.box": (2, 2)},
    "no_z": {"model.use_z": False, "model.mixer": "swiglu"},
    "prefix": {"model.prefix_tokens": 2, "model.prefix_width": 10, "model.mixer": "attention", "recursion.remat": True,
               "model.positions": "rotary_1d", "model.separate_nets": True},
    "convolution": {"model.mixer": "convolution", "model.grid": (2, 5), "model.norm": "pre"},
}  # fmt: skip
CONFIGS["members"] = CONFIGS["wafer"] | {"model.members": 2}
METADATA = Metadata(["one", "two"], {"kind": "x"}, 1.7, 0.8, {"a": [1]}, {"commit": "c"}, {})
every_model = pytest.mark.parametrize("name", list(CONFIGS))
every_net = pytest.mark.parametrize("name", [name for name in CONFIGS if name != "members"])
"""What the page takes: no nets that answer together."""


class Case:
    """A tiny model whose halting probabilities differ, its inputs and what JAX answers."""

    def __init__(self, name: str):
        self.config = Config().override(**SMALL).override(**CONFIGS[name])
        self.params = model.initialise(self.config.model, jax.random.key(0))
        for number, net in enumerate([self.params] if "halting" in self.params else self.params.values()):
            kernel = jax.random.normal(jax.random.key(1 + number), net["halting"]["kernel"].shape)
            net["halting"] = {"kernel": kernel, "bias": jnp.zeros(2)}
        image = self.config.model.encoder is not None
        blank = model.blank_inputs(self.config.model, 6)
        values = np.random.default_rng(0).integers(0, 256 if image else 6, blank.shape)
        self.inputs = values.astype(np.float32 if image else np.int32)
        outputs = jax.jit(lambda inputs: model.forward(self.config, self.params, inputs))(self.inputs)
        logits, halt = (np.moveaxis(np.asarray(leaf), 0, 1) for leaf in (outputs.logits, outputs.q_halt))
        probabilities = np.exp(logits / 1.7) / np.exp(logits / 1.7).sum(axis=-1, keepdims=True)
        self.expected = agreement.Answers(logits, probabilities, 1 / (1 + np.exp(-halt)))
        self.initial = graph.initial_states(self.config, self.params)
        self.graphs: dict[str, onnx.ModelProto] = {}

    def graph(self, kind: str) -> onnx.ModelProto:
        if kind not in self.graphs:
            self.graphs[kind] = graph.export(self.config, self.params, kind, METADATA, self.inputs)
        return self.graphs[kind]

    def saved(self, kind: str, folder: Path) -> Path:
        graph.save(folder / f"{kind}.onnx", self.graph(kind))
        return folder / f"{kind}.onnx"


@cache
def case(name: str) -> Case:
    """The same model for all tests."""
    return Case(name)


def close(answers: agreement.Answers, expected: agreement.Answers) -> None:
    for values, other in zip(answers, expected, strict=True):
        assert values.dtype == np.float32 and values.shape == other.shape
        np.testing.assert_allclose(values, other, atol=3e-5)
    assert np.ptp(expected.logits) > 0.1 and np.ptp(expected.halt) > 0.01


def model_of(
    *nodes: onnx.NodeProto,
    weights: dict[str, np.ndarray] | None = None,
    inputs: dict[str, list[int]] | None = None,
    outputs: dict[str, list[int]] | None = None,
) -> onnx.ModelProto:
    """A graph from ``x`` to ``y``, both (2, 3) float32, or from and to what is given by name and shape."""
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        for shapes in (inputs or {"x": [2, 3]}, outputs or {"y": [2, 3]})
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    proto = helper.make_graph(list(nodes), "g", *ends, initializer=initializers)
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def tensors(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Weights and constants by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
