"""ONNX files of a trained model: graphs that onnxruntime and TensorRT 10 take, checked before they are written.

The recursion is written out, because a scan becomes nested loops that lose shapes; only the adaptive file has a loop,
since it must stop by itself. Only this file, `trm_jax.export.rewrite` and `trm_jax.export.int8` make ONNX.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax2onnx import to_onnx
from onnxconverter_common.float16 import convert_float_to_float16

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.edge.format import WEIGHTS, Metadata
from trm_jax.export.rewrite import folded, nodes, tidy, weight_names
from trm_jax.support.files import replacing
from trm_jax.support.schema import require

OPSET = 20
"""The newest that TensorRT 10.3 of JetPack 6 reads."""
IR_VERSION = 10
SHARED_FROM, ALIGNMENT = 1024, 4096
"""Bytes of the smallest weight that files share, and of a page, at whose borders weights can be mapped."""
ANSWERS = ("logits", "probabilities", "halt")
Kind = Literal["model", "dynamic", "adaptive", "question", "step"]

# What onnx-tensorrt 10 lists (docs/operators.md), as far as graphs of ours may need it.
TENSORRT = frozenset(
    """
    Abs Add And ArgMax Cast CastLike Ceil Clip Concat Constant ConstantOfShape Conv Cos DequantizeLinear Div Einsum
    Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gemm GlobalAveragePool Greater GreaterOrEqual
    Identity If LayerNormalization Less LessOrEqual Log LogSoftmax Loop MatMul Max MaxPool Mean Min Mod Mul Neg Not
    Or Pad Pow QuantizeLinear Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
    Relu Reshape Scan ScatterElements ScatterND Shape Sigmoid Sign Sin Slice Softmax Split Sqrt Squeeze Sub Sum Tanh
    Tile Transpose Unsqueeze Where
    """.split()  # noqa: SIM905
)
FLOAT_ONLY = frozenset({"Einsum"})
"""Operators that TensorRT takes in floating point, but not in a quantized file."""


def for_export(config: Config) -> Config:
    """The same model with its recursion written out in float32, which is what the exporter can follow."""
    return config.override(
        **{"model.forward_only": True, "model.dtype": "float32", "recursion.unroll": True, "recursion.remat": False,
           "recursion.segment": 0, "recursion.gradient": "full"}
    )  # fmt: skip


def input_shape(config: Config) -> tuple[tuple[int, ...], Any]:
    """Shape of one input and its type: a wafer grid of float32 values 0..255, or int32 tokens."""
    if config.model.patch:
        return (config.model.image, config.model.image, 2), jnp.float32
    return (config.model.cells,), jnp.int32


def answers(config: Config, params: Any, temperature: float) -> Callable[..., tuple]:
    """Function from inputs (B, ...) to logits, probabilities (B, N_sup, ...) and halting probability (B, N_sup)."""

    def whole(inputs):
        readings = model.forward(config, params, inputs)
        return _answers(jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), readings), temperature)

    return whole


def question(config: Config, params: Any, temperature: float) -> Callable[..., tuple]:
    """Function from inputs to the question x, which stays the same in every supervision step."""
    return lambda inputs: (model.embed(config, params, inputs),)


def step_answers(config: Config, params: Any, temperature: float) -> Callable[..., tuple]:
    """Function from x, y and z to the next y and z and its answers: one supervision step."""

    def step(x, y, z=None):
        y, z = model.supervision_step(config, params, x, y, z)
        # Times one, or jax2onnx joins the reshapes of several views before and after this output, and it is gone.
        states = (y * jnp.float32(1),) if z is None else (y * jnp.float32(1), z)
        return *states, *_answers(model.read(config, params, y), temperature)

    return step


def adaptive_answers(config: Config, params: Any, temperature: float) -> Callable[..., tuple]:
    """Function from one input (1, ...) and a threshold to answers and steps used.

    It stops after the first supervision step whose halting probability is above the threshold, at most N_sup.
    """

    def adaptive(inputs, threshold):
        x = model.embed(config, params, inputs)

        def advance(states):
            states = model.supervision_step(config, params, x, states[0], states[1] if len(states) == 2 else None)
            reading = model.read(config, params, states[0])
            return tuple(state for state in states if state is not None), reading.logits, reading.halt

        def going(carry):
            _, _, halt, steps = carry
            return (steps < config.recursion.N_sup) & (jax.nn.sigmoid(halt[0]) <= threshold)

        def turn(carry):
            states, _, _, steps = carry
            return *advance(states), steps + 1

        first = advance(tuple(state for state in model.initial(config, params, 1) if state is not None))
        _, logits, halt, steps = jax.lax.while_loop(going, turn, (*first, jnp.int32(1)))
        return *_answers(model.Reading(logits, halt, halt), temperature), steps[None]

    return adaptive


def _answers(reading: model.Reading, temperature: float) -> tuple:
    return reading.logits, jax.nn.softmax(reading.logits / temperature), jax.nn.sigmoid(reading.halt)


def export(config: Config, params: Any, kind: Kind, about: Metadata) -> onnx.ModelProto:
    """A checked graph of the model: all steps for one input or any number, stopping by itself, or a single step.

    Raises ValueError where the graph has an operator that TensorRT 10 does not take, or is no valid ONNX.
    """
    require(about.temperature > 0, f"temperature must be positive, got {about.temperature}")
    config = for_export(config)
    # Kernels as numpy arrays: a transposed one is then a constant of its own, not a node.
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.asarray(leaf) if path[-1].key == "kernel" else jnp.asarray(leaf), params
    )
    (shape, dtype), batch = input_shape(config), "B" if kind == "dynamic" else 1
    inputs: dict[str, Any] = {"inputs": jax.ShapeDtypeStruct((batch, *shape), dtype)}
    outputs: tuple[str, ...] = ANSWERS
    if kind == "step":
        states = ("y", "z") if config.model.use_z else ("y",)
        state = jax.ShapeDtypeStruct((1, config.model.state_tokens, config.model.width), jnp.float32)
        inputs = dict.fromkeys(("x", *states), state)
        outputs = (*(f"{name}_next" for name in states), *ANSWERS)
    elif kind == "question":
        outputs = ("x",)
    elif kind == "adaptive":
        inputs["threshold"] = jax.ShapeDtypeStruct((), jnp.float32)
        outputs = (*ANSWERS, "steps")
    graphs = {"model": answers, "dynamic": answers, "adaptive": adaptive_answers, "question": question,
              "step": step_answers}  # fmt: skip
    function = graphs[kind](config, params, about.temperature)
    traced = _traced(function, inputs, outputs)
    names = weight_names(params)
    graph = tidy(folded(tidy(traced, names), set(names.values())), names)
    found = tuple(output.name for output in graph.graph.output)
    require(found == outputs, f"the exported graph has outputs {', '.join(found)}, not {', '.join(outputs)}")
    return finished(graph, about)


def _traced(function: Callable[..., tuple], inputs: dict[str, Any], outputs: tuple[str, ...]) -> onnx.ModelProto:
    serde = logging.getLogger("onnx_ir.serde")
    level = serde.level
    serde.setLevel(logging.ERROR)  # says of every shape computed in the graph that its type is not written down
    try:
        traced: Any = to_onnx(
            function,
            list(inputs.values()),
            opset=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
        )
    finally:
        serde.setLevel(level)
    return traced


def finished(graph: onnx.ModelProto, about: Metadata) -> onnx.ModelProto:
    """The graph with its metadata and the version of the format set, checked."""
    graph.ir_version = IR_VERSION
    graph.producer_name, graph.producer_version, graph.doc_string = "trm_jax", "", ""
    del graph.metadata_props[:]
    for name, value in about._asdict().items():
        graph.metadata_props.add(key=name, value=json.dumps(value))
    check(graph)
    return graph


def check(graph: onnx.ModelProto) -> None:
    """Raise ValueError in one line for an invalid graph, another opset, or operators that TensorRT 10 lacks."""
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(f"the exported graph is no valid ONNX: {' '.join(str(error).split())[:300]}") from error
    opsets = {entry.domain: entry.version for entry in graph.opset_import}
    require(opsets == {"": OPSET}, f"the exported graph has opsets {opsets}, not only {OPSET}")
    used = {node.op_type for node in nodes(graph.graph)}
    refused = used - TENSORRT | (used & FLOAT_ONLY if "QuantizeLinear" in used else set())
    require(not refused, f"TensorRT 10 does not take {', '.join(sorted(refused))}")


def to_half(graph: onnx.ModelProto, about: Metadata) -> onnx.ModelProto:
    """The same graph computing in float16 between float32 inputs and outputs. Raises ValueError if nothing changed."""
    half = convert_float_to_float16(_with_own_outputs(graph), keep_io_types=True)
    kinds = {tensor.data_type for tensor in half.graph.initializer}
    require(onnx.TensorProto.FLOAT16 in kinds, "the conversion to float16 changed no weight")
    return finished(tidy(half), about)


def _with_own_outputs(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy where no node reads an output of the graph: the converter would give it the wrong type."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    for output in copy.graph.output:
        inner = f"{output.name}_inner"
        for node in copy.graph.node:
            for names in (node.input, node.output):
                names[:] = [inner if name == output.name else name for name in names]
        copy.graph.node.append(onnx.helper.make_node("Identity", [inner], [output.name], f"node_{output.name}"))
    return copy


def save(path: Path, graph: onnx.ModelProto) -> None:
    """Write a graph with its weights, whole or not at all."""
    with replacing(path) as temporary:
        onnx.save(graph, temporary)


def save_sharing(directory: Path, graphs: Mapping[str, onnx.ModelProto]) -> None:
    """Write graphs by file name with their weights in one file beside them, each once for all of them."""
    held, places = bytearray(), dict[bytes, int]()
    for name, graph in graphs.items():
        light = onnx.ModelProto()
        light.CopyFrom(graph)
        for tensor in light.graph.initializer:
            content = tensor.raw_data
            if len(content) >= SHARED_FROM:
                if content not in places:
                    held.extend(bytes(-len(held) % ALIGNMENT))
                    places[content] = len(held)
                    held.extend(content)
                entries = {"location": WEIGHTS, "offset": str(places[content]), "length": str(len(content))}
                tensor.ClearField("raw_data")
                tensor.data_location = onnx.TensorProto.EXTERNAL
                tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in entries.items())
        save(directory / name, light)
    with replacing(directory / WEIGHTS) as temporary:
        temporary.write_bytes(held)
