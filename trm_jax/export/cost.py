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
    """What a node of a graph does; sizes in elements."""

    kind: str
    flops: float
    reads: tuple[str, ...]
    """Activations."""
    weights: tuple[str, ...]
    writes: tuple[str, ...]


class Counted(NamedTuple):
    """A graph, counted."""

    nodes: list[Node]
    sizes: dict[str, int]
    """Elements of every tensor."""
    ends: tuple[str, ...]
    """Inputs and outputs of the graph."""


class Traffic(NamedTuple):
    """Kernels, and elements that they read and write, if a partition of the nodes are kernels."""

    kernels: int
    products: float
    """Elements of activations that products alone read."""
    others: float
    weights: float


def is_product(node: Node) -> bool:
    """Whether a node runs on tensor cores, in a kernel of its own."""
    return node.kind in PRODUCTS


def count(graph: onnx.ModelProto) -> Counted:
    """Operations and sizes of every node. Raises ValueError for a graph with a loop or with unknown sizes."""
    inferred = onnx.shape_inference.infer_shapes(graph, strict_mode=True, data_prop=True).graph
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in inferred.initializer}
    weights = set(sizes)
    shapes = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dimensions = value.type.tensor_type.shape.dim
        shapes[value.name] = [dimension.dim_value for dimension in dimensions]
        require(all(d.HasField("dim_value") for d in dimensions), f"{value.name} has no fixed size: take model.onnx")
        sizes[value.name] = math.prod(shapes[value.name])
    nodes = []
    for node in inferred.node:
        require(node.op_type not in REFUSED, f"the graph has a {node.op_type}, which is not counted: take model.onnx")
        missing = [name for name in (*node.input, *node.output) if name and name not in sizes]
        require(not missing, f"the size of {missing[:1]} is unknown")
        reads = tuple(dict.fromkeys(name for name in node.input if name and name not in weights))
        held = tuple(dict.fromkeys(name for name in node.input if name in weights))
        nodes.append(Node(node.op_type, _flops(node, shapes), reads, held, tuple(node.output)))
    ends = tuple(value.name for value in (*inferred.input, *inferred.output))
    return Counted(nodes, sizes, ends)


def _flops(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> float:
    """A multiplication and an addition are two; other arithmetic is one an element of the larger side."""
    out = math.prod(shapes[node.output[0]])
    if node.op_type in ("MatMul", "Gemm"):
        flipped = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return 2.0 * out * shapes[node.input[0]][-2 if flipped else -1]
    if node.op_type == "Conv":
        return 2.0 * out * math.prod(shapes[node.input[1]][1:])
    return 0.0 if node.op_type in MOVES else float(max(out, math.prod(shapes[node.input[0]])))


def units(counted: Counted, fused: bool) -> np.ndarray:
    """Number of the kernel of each node: every product is one, and so are neighbours between products.

    With ``fused`` attention both of its products are one kernel with the softmax between them.
    """
    made = {name: index for index, node in enumerate(counted.nodes) for name in node.writes}
    depth, edges = np.zeros(len(counted.nodes), int), []
    heavy = [is_product(node) for node in counted.nodes]
    for index, node in enumerate(counted.nodes):
        before = [made[name] for name in node.reads if name in made]
        # Products on the longest way here: a sum after a product is no part of what comes before it.
        depth[index] = max((depth[one] + heavy[one] for one in before), default=0)
        edges += [(one, index) for one in before if not heavy[one] and not heavy[index] and depth[one] == depth[index]]
    label = _components(len(counted.nodes), edges)
    if not fused:
        return label
    softmax = {label[index] for index, node in enumerate(counted.nodes) if node.kind == "Softmax"}
    for index, node in enumerate(counted.nodes):
        for one in (made[name] for name in node.reads if name in made):
            inside = label[one] in softmax or label[index] in softmax
            plain = not (node.weights if heavy[index] else counted.nodes[one].weights)
            if inside and plain and heavy[one] != heavy[index]:
                edges.append((one, index))
    return _components(len(counted.nodes), edges)


def _components(count: int, edges: list[tuple[int, int]]) -> np.ndarray:
    rows, columns = np.array(edges, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(count, count))
    labels: np.ndarray = connected_components(graph, directed=False)[1]
    return labels


def traffic(counted: Counted, label: np.ndarray) -> Traffic:
    """What crosses the borders of kernels; kernels that only change a view do nothing."""
    readers: dict[str, set[int]] = {}
    maker: dict[str, int] = {}
    for index, node in enumerate(counted.nodes):
        maker |= dict.fromkeys(node.writes, label[index])
        for name in node.reads:
            readers.setdefault(name, set()).add(label[index])
    for name in counted.ends:
        readers.setdefault(name, set()).add(-1)
    kernels, products, others, weights = 0, 0.0, 0.0, set()
    for unit in np.unique(label):
        members = [node for node, one in zip(counted.nodes, label, strict=True) if one == unit]
        if all(node.kind in VIEWS for node in members):
            continue
        kernels += 1
        read = sum(counted.sizes[n] for n in {n for m in members for n in m.reads} if maker.get(n, -1) != unit)
        written = sum(counted.sizes[n] for m in members for n in m.writes if readers.get(n, set()) - {unit})
        weights |= {name for member in members for name in member.weights}
        alone = len(members) == 1 and is_product(members[0])
        products, others = products + read * alone, others + written + read * (not alone)
    return Traffic(kernels, products, others, float(sum(counted.sizes[name] for name in weights)))
