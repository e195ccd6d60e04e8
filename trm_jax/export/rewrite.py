"""Rewrites of exported graphs that keep their answers: each weight once under its name, fewer nodes, nothing dead."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from flax.traverse_util import flatten_dict
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes import common as passes

FOLDED = frozenset(
    """
    Add Cast Concat ConstantOfShape Cos Div Expand Mod Mul Neg Pow Range Reshape Sin Slice Sqrt Sub Transpose Unsqueeze
    """.split()  # noqa: SIM905
)
"""Operators that are computed on export where their inputs are constants."""
ELEMENTWISE = frozenset({"Add", "Div", "Mul", "Sub"})


def weight_names(params: Any) -> dict[tuple, str]:
    """Dotted names of weights by shape and content, in every form in which a graph may hold them.

    A transposed kernel and one in the order of ONNX's convolution keep their name.
    """
    names: dict[tuple, str] = {}
    for path, leaf in flatten_dict(params, sep=".").items():
        values = np.asarray(leaf)
        forms = [values, values.T]
        if ".Convolution_" in path:
            forms.append(values.reshape(3, 3, -1, values.shape[-1]).transpose(3, 2, 0, 1))
        names |= {(form.shape, np.ascontiguousarray(form).tobytes()): path for form in forms}
    return names


def optimize(traced: onnx.ModelProto, names: Mapping[tuple, str] | None = None) -> onnx.ModelProto:
    """Store each weight once, under its name, and drop what has no effect: identities, unused nodes, zero biases."""
    graph = ir.serde.deserialize_model(traced)
    for apply in (
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.LiftSubgraphInitializersToMainGraphPass(),
        passes.IdentityEliminationPass(),
        passes.CommonSubexpressionEliminationPass(),
    ):
        apply(graph)
    for node in list(ir.traversal.RecursiveGraphIterator(graph.graph)):
        _simplify_node(node)
    passes.RemoveUnusedNodesPass()(graph)
    passes.DeduplicateHashedInitializersPass()(graph)
    for value in list(graph.graph.initializers.values()):
        assert value.const_value is not None
        content = value.const_value.numpy()
        value.name = (names or {}).get((content.shape, content.tobytes()), value.name)
    passes.RemoveUnusedNodesPass()(graph)
    passes.ClearMetadataAndDocStringPass()(graph)
    passes.NameFixPass()(graph)
    return ir.serde.serialize_model(graph)


def _simplify_node(node: ir.Node) -> None:
    """Rewrite one node where fewer operations give the same values."""
    if node.op_type == "Gemm" and len(node.inputs) == 3 and _all(node.inputs[2], 0):
        node.resize_inputs(2)  # a scalar bias stops static quantization
    elif node.op_type == "Mul":
        _divide_once(node)
    elif node.op_type == "Add":
        _skip_zeros(node)
    elif node.op_type == "Div":
        _sum_to_mean(node)
    if node.op_type in ELEMENTWISE:
        _drop_leading_ones(node)


def _divide_once(node: ir.Node) -> None:
    """``x * (1 / s)`` as ``x / s``: with what is around it onnxruntime then knows a root mean square norm."""
    for place, factor in enumerate(node.inputs):
        inverse = factor.producer() if factor is not None else None
        if inverse is not None and inverse.op_type == "Div" and _is_scalar(inverse.inputs[0], 1):
            node.op_type = "Div"
            for index, value in enumerate((node.inputs[1 - place], inverse.inputs[1])):
                node.replace_input_with(index, value)
            return


def _sum_to_mean(node: ir.Node) -> None:
    """A sum over axes divided by their size as a mean."""
    total, count = node.inputs
    summed = total.producer() if total is not None else None
    if summed is None or summed.op_type != "ReduceSum" or len(summed.inputs) != 2:
        return
    x, axes = summed.inputs
    if x is None or x.shape is None or axes is None or axes.const_value is None:
        return
    sizes = [x.shape[int(axis)] for axis in axes.const_value.numpy()]
    known = [size for size in sizes if isinstance(size, int)]
    if known and len(known) == len(sizes) and _is_scalar(count, float(np.prod(known))):
        node.op_type = "ReduceMean"
        node.attributes.update(summed.attributes)
        for index, value in enumerate((x, axes)):
            node.replace_input_with(index, value)


def _skip_zeros(node: ir.Node) -> None:
    """``x + 0`` as ``x``."""
    for place, zeros in enumerate(node.inputs):
        x, total = node.inputs[1 - place], node.outputs[0]
        if x is None or x.shape is None or total.is_graph_output() or not _all(zeros, 0):
            continue
        named = all(isinstance(size, int) or size.value is not None for size in x.shape)
        if named and x.shape == total.shape:
            ir.convenience.replace_all_uses_with(total, x)
            return


def _drop_leading_ones(node: ir.Node) -> None:
    """Constants as vectors where broadcasting makes (1, ..., 1, D) of them anyhow."""
    for place, constant in enumerate(node.inputs):
        other = node.inputs[1 - place]
        if constant is None or constant.const_value is None or other is None or other.shape is None:
            continue
        values = constant.const_value.numpy()
        if 1 < values.ndim <= len(other.shape) and values.size == values.shape[-1]:
            assert constant.graph is not None
            initializers, name = constant.graph.initializers, f"{constant.name}_vector"
            if name not in initializers:
                vector = ir.tensor(values.reshape(-1))
                kind = ir.TensorType(vector.dtype)
                constant.graph.register_initializer(
                    ir.Value(name=name, const_value=vector, shape=ir.Shape([values.size]), type=kind)
                )
            node.replace_input_with(place, initializers[name])


def _all(value: ir.Value | None, number: float) -> bool:
    """Whether a value is a constant that is this number everywhere."""
    if value is None or value.const_value is None:
        return False
    values = value.const_value.numpy()
    return values.size > 0 and bool((values == number).all())


def _is_scalar(value: ir.Value | None, number: float) -> bool:
    """Whether a value is a constant without dimensions, which therefore broadcasts nothing, that is this number."""
    return _all(value, number) and value is not None and value.shape is not None and len(value.shape) == 0


def fold_constants(graph: onnx.ModelProto, weights: set[str]) -> onnx.ModelProto:
    """The same graph with what depends on constants alone computed, such as angles of positions; weights stay."""
    known = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    known = {name: values for name, values in known.items() if name not in weights}
    remaining = []
    for node in graph.graph.node:
        if node.op_type in FOLDED and all(name in known for name in node.input):
            evaluator = ReferenceEvaluator(node, opsets={entry.domain: entry.version for entry in graph.opset_import})
            values = evaluator.run(None, {name: known[name] for name in node.input})
            for name, value in zip(node.output, values, strict=True):
                known[name] = np.asarray(value)
                graph.graph.initializer.append(onnx.numpy_helper.from_array(known[name], name))
        else:
            remaining.append(node)
    del graph.graph.node[:]
    graph.graph.node.extend(remaining)
    return graph


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of loop bodies and branches included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes(attribute.g)
