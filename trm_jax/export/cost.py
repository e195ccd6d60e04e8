"""Operations and bytes of an exported graph, and how many kernels it may become on a GPU."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trm_jax.support.schema import require

PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})
VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten"})
"""Operators that move no byte."""
MOVES = VIEWS | {"Transpose", "Concat", "Slice", "Split", "Pad", "Expand", "Gather", "Cast"}
"""Operators without arithmetic."""
REFUSED = frozenset({"Loop", "Scan", "If", "QuantizeLinear"})


class Node(NamedTuple):
    """What a node of a graph does."""

    kind: str
    flops: float
    reads: frozenset[str]
    """Activations."""
    weights: frozenset[str]
    writes: tuple[str, ...]

    @property
    def is_product(self) -> bool:
        """Whether it runs on tensor cores, in a kernel of its own."""
        return self.kind in PRODUCTS


class Counted(NamedTuple):
    """A graph, counted."""

    nodes: list[Node]
    sizes: dict[str, int]
    """Elements of every tensor."""
    outputs: frozenset[str]

    @property
    def product_flops(self) -> float:
        """Operations of all products."""
        return sum(node.flops for node in self.nodes if node.is_product)

    @property
    def flops(self) -> float:
        """All operations."""
        return sum(node.flops for node in self.nodes)


class Traffic(NamedTuple):
    """Number of kernels, and the elements that they read and write."""

    kernels: int
    products: float
    """Elements of activations that products alone read."""
    others: float
    weights: float


def count(graph: onnx.ModelProto) -> Counted:
    """Operations and sizes of every node. Raises ValueError for a graph with a loop or with unknown sizes."""
    inferred = onnx.shape_inference.infer_shapes(graph, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    weights = frozenset(shapes)
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dimensions = value.type.tensor_type.shape.dim
        require(all(d.HasField("dim_value") for d in dimensions), f"{value.name} has no fixed size: take model.onnx")
        shapes[value.name] = [dimension.dim_value for dimension in dimensions]
    nodes = []
    for node in inferred.node:
        require(node.op_type not in REFUSED, f"the graph has a {node.op_type}, which is not counted: take model.onnx")
        inputs = frozenset(name for name in node.input if name)
        missing = [name for name in (*inputs, *node.output) if name not in shapes]
        require(not missing, f"the size of {missing[:1]} is unknown")
        flops = _flops(node, shapes)
        nodes.append(Node(node.op_type, flops, inputs - weights, inputs & weights, tuple(node.output)))
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    return Counted(nodes, sizes, frozenset(value.name for value in inferred.output))


def _flops(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> float:
    """A multiplication and an addition are two; other arithmetic is one an element of the larger side."""
    outputs = math.prod(shapes[node.output[0]])
    if node.op_type in ("MatMul", "Gemm"):
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return 2.0 * outputs * shapes[node.input[0]][-2 if transposed else -1]
    if node.op_type == "Conv":
        return 2.0 * outputs * math.prod(shapes[node.input[1]][1:])
    return 0.0 if node.op_type in MOVES else float(max(outputs, math.prod(shapes[node.input[0]])))


def kernels(counted: Counted) -> np.ndarray:
    """Number of the kernel of each node: every product is one, and so are neighbours between products."""
    nodes = counted.nodes
    writer = {name: index for index, node in enumerate(nodes) for name in node.writes}
    edges = [(writer[name], index) for index, node in enumerate(nodes) for name in node.reads if name in writer]
    depth = np.zeros(len(nodes), int)
    for before, after in edges:  # in the order of the nodes
        # Products on the longest way here: a sum after a product is no part of what comes before it.
        depth[after] = max(depth[after], depth[before] + nodes[before].is_product)
    joined = [
        (before, after) for before, after in edges
        if not nodes[before].is_product and not nodes[after].is_product and depth[before] == depth[after]
    ]  # fmt: skip
    rows, columns = np.array(joined, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(joined)), (rows, columns)), shape=(len(nodes), len(nodes)))
    labels: np.ndarray = connected_components(graph, directed=False)[1]
    return labels


def traffic(counted: Counted) -> Traffic:
    """What crosses the borders of kernels; one that only changes a view is none."""
    label = kernels(counted)
    readers: dict[str, set[int]] = {name: {-1} for name in counted.outputs}
    for node, kernel in zip(counted.nodes, label, strict=True):
        for name in node.reads:
            readers.setdefault(name, set()).add(kernel)
    count, products, others, weights = 0, 0.0, 0.0, set[str]()
    for kernel in np.unique(label):
        members = [node for node, number in zip(counted.nodes, label, strict=True) if number == kernel]
        if all(node.kind in VIEWS for node in members):
            continue
        written = {name for node in members for name in node.writes}
        read = sum(counted.sizes[name] for name in {name for node in members for name in node.reads} - written)
        others += sum(counted.sizes[name] for name in written if readers.get(name, set()) - {kernel})
        is_product = len(members) == 1 and members[0].is_product
        products, others = products + read * is_product, others + read * (not is_product)
        weights.update(*(node.weights for node in members))
        count += 1
    return Traffic(count, products, others, float(sum(counted.sizes[name] for name in weights)))
