"""Operations and bytes of an exported graph, and how many kernels it may become on a GPU."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trm_jax.support.schema import require

PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})
"""Operators that run on tensor cores, each in a kernel of its own."""
VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten"})
"""Operators that move no byte."""
MOVES = VIEWS | {"Transpose", "Concat", "Slice", "Split", "Pad", "Expand", "Gather", "Cast"}
"""Operators without arithmetic."""
REFUSED = frozenset({"Loop", "Scan", "If", "QuantizeLinear"})


class Cost(NamedTuple):
    """What a graph does to one sample."""

    nodes: int
    flops: float
    product_flops: float
    """Operations of matrix products and convolutions."""
    kernels: int
    """Each product is one, and so is all that lies between products; one that only changes a view is none."""
    product_reads: float
    """Elements of activations that products read."""
    other_traffic: float
    """Elements of activations that other kernels read and all kernels write."""
    weights: float
    """Elements of weights."""


def _inferred(graph: onnx.ModelProto) -> tuple[onnx.GraphProto, dict[str, tuple[int, ...]]]:
    """The graph and the shape of every tensor in it."""
    inferred = onnx.shape_inference.infer_shapes(graph, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dimensions = value.type.tensor_type.shape.dim
        require(all(d.HasField("dim_value") for d in dimensions), f"{value.name} has no fixed size: take model.onnx")
        shapes[value.name] = tuple(dimension.dim_value for dimension in dimensions)
    for node in inferred.node:
        require(node.op_type not in REFUSED, f"the graph has a {node.op_type}, which is not counted: take model.onnx")
        missing = [name for name in (*node.input, *node.output) if name and name not in shapes]
        require(not missing, f"the size of {missing[:1]} is unknown")
    return inferred, shapes


def count(graph: onnx.ModelProto) -> Cost:
    """Cost of a graph. Raises ValueError for one with a loop or with unknown sizes."""
    inferred, shapes = _inferred(graph)
    nodes, weights = inferred.node, {tensor.name for tensor in inferred.initializer}
    sizes, label = {name: math.prod(shape) for name, shape in shapes.items()}, _kernels(nodes)
    readers: dict[str, set[int]] = {value.name: {-1} for value in inferred.output}
    for node, kernel in zip(nodes, label, strict=True):
        for name in node.input:
            readers.setdefault(name, set()).add(kernel)
    kernels, product_reads, other_traffic, used = 0, 0, 0, set[str]()
    for kernel in np.unique(label):
        members = [node for node, number in zip(nodes, label, strict=True) if number == kernel]
        if all(node.op_type in VIEWS for node in members):
            continue
        inputs = {name for node in members for name in node.input if name}
        written = {name for node in members for name in node.output}
        read = sum(sizes[name] for name in inputs - written - weights)
        is_product = members[0].op_type in PRODUCTS
        product_reads, other_traffic = product_reads + read * is_product, other_traffic + read * (not is_product)
        other_traffic += sum(sizes[name] for name in written if readers.get(name, set()) - {kernel})
        used |= inputs & weights
        kernels += 1
    flops = [(_flops(node, shapes), node.op_type in PRODUCTS) for node in nodes]
    total, products = sum(number for number, _ in flops), sum(number for number, is_product in flops if is_product)
    return Cost(len(nodes), total, products, kernels, product_reads, other_traffic, sum(sizes[name] for name in used))


def _flops(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """A multiplication and an addition are two; other arithmetic is one an element of the larger side."""
    outputs = math.prod(shapes[node.output[0]])
    if node.op_type in ("MatMul", "Gemm"):
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return 2.0 * outputs * shapes[node.input[0]][-2 if transposed else -1]
    if node.op_type == "Conv":
        return 2.0 * outputs * math.prod(shapes[node.input[1]][1:])
    return 0.0 if node.op_type in MOVES else float(max(outputs, math.prod(shapes[node.input[0]])))


def _kernels(nodes: Sequence[onnx.NodeProto]) -> np.ndarray:
    """Number of the kernel of each node: every product is one, and so are neighbours between products."""
    writer = {name: index for index, node in enumerate(nodes) for name in node.output}
    edges = [(writer[name], index) for index, node in enumerate(nodes) for name in node.input if name in writer]
    product = np.array([node.op_type in PRODUCTS for node in nodes])
    depth = np.zeros(len(nodes), int)
    for before, after in edges:  # in the order of the nodes
        # Products on the longest way here: a sum after a product is no part of what comes before it.
        depth[after] = max(depth[after], depth[before] + product[before])
    joined = [(a, b) for a, b in edges if not product[a] and not product[b] and depth[a] == depth[b]]
    rows, columns = np.array(joined, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(joined)), (rows, columns)), shape=(len(nodes), len(nodes)))
    labels: np.ndarray = connected_components(graph, directed=False)[1]
    return labels
