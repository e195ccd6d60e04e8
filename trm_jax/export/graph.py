"""ONNX files of a trained model: graphs that onnxruntime and TensorRT 10 take, checked before they are written.

The recursion is written out, because a scan becomes nested loops that lose shapes; only the adaptive file has a loop,
since it must stop by itself. Only this file, `trm_jax.export.rewrite` and `trm_jax.export.int8` make ONNX.
"""

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

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.network.encoders import question_features
from trm_jax.edge.format import WEIGHTS, Metadata, write_metadata
from trm_jax.export.rewrite import fold_constants, nodes, optimize, weight_names
from trm_jax.support.files import one_line, replacing
from trm_jax.support.schema import require

OPSET = 20
"""The newest that TensorRT 10.3 of JetPack 6 reads."""
IR_VERSION = 10
SHARED_FROM, ALIGNMENT = 1024, 4096
"""Bytes of the smallest weight that files share, and of a memory page, where each shared weight begins."""
ANSWERS = ("logits", "probabilities", "halt")
FEATURES = "features"
"""Output of models that take images: what tells an unknown map."""
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
        **{"model.dtype": "float32", "model.matmul_precision": "highest", "recursion.unroll": True,
           "recursion.remat": False, "recursion.segment": 0, "recursion.gradient": "full"}
    )  # fmt: skip


def initial_states(config: Config, params: Any) -> dict[str, np.ndarray]:
    """First y and z of one input by name; no z in a model without it."""
    states = zip("yz", model.initial(for_export(config), params, 1), strict=True)
    return {name: np.asarray(state) for name, state in states if state is not None}


def all_steps(config: Config, params: Any, temperature: float) -> Callable[..., tuple]:
    """Function from inputs (B, ...) to logits, probabilities (B, N_sup, ...), halting probability (B, N_sup), features.

    Features are given by models that take images alone, as by all functions here.
    """

    def forward(inputs):
        x = model.embed(config, params, inputs, inference=True)
        outputs = model.answers_to(config, params, x, inference=True)
        return *_answers(jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), outputs), temperature), *_features(
            config, x
        )

    return forward


def question(config: Config, params: Any, temperature: float) -> Callable[..., tuple]:
    """Function from inputs to the question x, which stays the same in every supervision step."""

    def embed(inputs):
        x = model.embed(config, params, inputs, inference=True)
        return x, *_features(config, x)

    return embed


def single_step(config: Config, params: Any, temperature: float) -> Callable[..., tuple]:
    """Function from x, y and z to the next y and z and its answers: one supervision step."""

    def step(x, y, z=None):
        y, z = model.supervision_step(config, params, x, y, z, inference=True)
        # Times one, or jax2onnx joins the reshapes of several views before and after this output, and it is gone.
        states = (y * jnp.float32(1),) if z is None else (y * jnp.float32(1), z)
        return *states, *_answers(model.heads(config, params, y, inference=True), temperature)

    return step


def adaptive(config: Config, params: Any, temperature: float) -> Callable[..., tuple]:
    """Function from one input (1, ...) and a threshold to answers and steps used.

    It stops after the first supervision step whose halting probability is above the threshold, at most N_sup.
    """

    def forward(inputs, threshold):
        x = model.embed(config, params, inputs, inference=True)

        def advance(states):
            y, z = states if len(states) == 2 else (states[0], None)
            states = model.supervision_step(config, params, x, y, z, inference=True)
            output = model.heads(config, params, states[0], inference=True)
            return tuple(state for state in states if state is not None), output.logits, output.q_halt

        def unsure(carry):
            _, _, halt, steps = carry
            return (steps < config.recursion.N_sup) & (jax.nn.sigmoid(halt[0]) <= threshold)

        def turn(carry):
            states, _, _, steps = carry
            return *advance(states), steps + 1

        first = advance(tuple(state for state in model.initial(config, params, 1) if state is not None))
        _, logits, halt, steps = jax.lax.while_loop(unsure, turn, (*first, jnp.int32(1)))
        return *_answers(model.StepOutput(logits, halt, halt), temperature), *_features(config, x), steps[None]

    return forward


def _features(config: Config, x: Any) -> tuple:
    return (question_features(config.model, x),) if config.model.encoder else ()


def _answers(output: model.StepOutput, temperature: float) -> tuple:
    return output.logits, jax.nn.softmax(output.logits / temperature), jax.nn.sigmoid(output.q_halt)


FUNCTIONS = {
    "model": all_steps, "dynamic": all_steps, "adaptive": adaptive, "question": question, "step": single_step
}  # fmt: skip


def export(config: Config, params: Any, kind: Kind, metadata: Metadata, samples: Any) -> onnx.ModelProto:
    """A checked graph of the model: all steps for one input or any number, stopping by itself, or a single step.

    ``samples`` are inputs (N, ...), of which only shape and type count. Raises ValueError where the graph has an
    operator that TensorRT 10 does not take, or is not valid ONNX.
    """
    require(metadata.temperature > 0, f"temperature must be positive, got {metadata.temperature}")
    config = for_export(config)
    # Kernels as numpy arrays: a transposed one is then a constant of its own, not a node.
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.asarray(leaf) if path[-1].key == "kernel" else jnp.asarray(leaf), params
    )
    batch = "B" if kind == "dynamic" else 1
    inputs: dict[str, Any] = {"inputs": jax.ShapeDtypeStruct((batch, *samples.shape[1:]), samples.dtype)}
    features = (FEATURES,) if config.model.encoder else ()
    outputs: tuple[str, ...] = (*ANSWERS, *features)
    if kind == "step":
        states = initial_states(config, params)
        shape = next(iter(states.values())).shape
        inputs = dict.fromkeys(("x", *states), jax.ShapeDtypeStruct(shape, jnp.float32))
        outputs = (*(f"{name}_next" for name in states), *ANSWERS)
    elif kind == "question":
        outputs = ("x", *features)
    elif kind == "adaptive":
        inputs["threshold"] = jax.ShapeDtypeStruct((), jnp.float32)
        outputs = (*ANSWERS, *features, "steps")
    traced = _traced(FUNCTIONS[kind](config, params, metadata.temperature), inputs, outputs)
    names = weight_names(params)
    graph = optimize(fold_constants(optimize(traced, names), set(names.values())), names)
    exported = tuple(output.name for output in graph.graph.output)
    require(exported == outputs, f"the exported graph has outputs {', '.join(exported)}, not {', '.join(outputs)}")
    return with_metadata(graph, metadata)


def _traced(function: Callable[..., tuple], inputs: dict[str, Any], outputs: tuple[str, ...]) -> onnx.ModelProto:
    serde = logging.getLogger("onnx_ir.serde")
    level = serde.level
    serde.setLevel(logging.ERROR)  # says of every shape computed in the graph that its type is not written down
    try:
        names = {"input_names": list(inputs), "output_names": list(outputs)}
        with jax.default_device(jax.local_devices(backend="cpu")[0]):  # whose forms the exporter follows
            return to_onnx(function, list(inputs.values()), opset=OPSET, **names)
    finally:
        serde.setLevel(level)


def with_metadata(graph: onnx.ModelProto, metadata: Metadata) -> onnx.ModelProto:
    """The graph with its metadata and the version of the format set, checked."""
    graph.ir_version = IR_VERSION
    graph.producer_name, graph.producer_version, graph.doc_string = "trm_jax", "", ""
    del graph.metadata_props[:]
    for name, text in write_metadata(metadata).items():
        graph.metadata_props.add(key=name, value=text)
    check(graph)
    return graph


def check(graph: onnx.ModelProto) -> None:
    """Raise ValueError in one line for an invalid graph, another opset, or operators that TensorRT 10 lacks."""
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(f"the exported graph is not valid ONNX: {one_line(error)[:300]}") from error
    opsets = {entry.domain: entry.version for entry in graph.opset_import}
    require(opsets == {"": OPSET}, f"the exported graph has opsets {opsets}, not only {OPSET}")
    used = {node.op_type for node in nodes(graph.graph)}
    refused = used - TENSORRT | (used & FLOAT_ONLY if "QuantizeLinear" in used else set())
    require(not refused, f"TensorRT 10 does not take {', '.join(sorted(refused))}")


def to_half(graph: onnx.ModelProto, metadata: Metadata) -> onnx.ModelProto:
    """The same graph computing in float16 between float32 inputs and outputs. Raises ValueError if nothing changed."""
    half = convert_float_to_float16(_with_own_outputs(graph), keep_io_types=True)
    types = {tensor.data_type for tensor in half.graph.initializer}
    require(onnx.TensorProto.FLOAT16 in types, "the conversion to float16 changed no weight")
    return with_metadata(optimize(half), metadata)


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
    weights, offsets = bytearray(), dict[bytes, int]()
    for name, graph in graphs.items():
        light = onnx.ModelProto()
        light.CopyFrom(graph)
        for tensor in light.graph.initializer:
            content = tensor.raw_data
            if len(content) >= SHARED_FROM:
                if content not in offsets:
                    weights.extend(bytes(-len(weights) % ALIGNMENT))
                    offsets[content] = len(weights)
                    weights.extend(content)
                entries = {"location": WEIGHTS, "offset": str(offsets[content]), "length": str(len(content))}
                tensor.ClearField("raw_data")
                tensor.data_location = onnx.TensorProto.EXTERNAL
                tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in entries.items())
        save(directory / name, light)
    with replacing(directory / WEIGHTS) as temporary:
        temporary.write_bytes(weights)
