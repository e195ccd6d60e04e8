"""Arithmetic of a computation, counted from its program and not from a formula."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def matmul_flops(function: Callable, *arguments) -> int:
    """Floating-point operations of the matrix products and convolutions in a call, two for each multiplication.

    Loops of known length count every turn; a while loop counts one, since its number of turns depends on the data.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = _shape(equation.invars[0])
            inner = math.prod(shape[axis] for axis in contracted)
            total += 2 * math.prod(_shape(equation.outvars[0])) * inner
        elif equation.primitive.name == "conv_general_dilated":
            kernel, order = _shape(equation.invars[1]), equation.params["dimension_numbers"].rhs_spec
            inner = math.prod(kernel) // kernel[order[0]]  # all but the output channels; inputs are those of a group
            total += 2 * math.prod(_shape(equation.outvars[0])) * inner
        turns = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        total += turns * sum(_count(body) for body in bodies(equation.params))
    return total


def _shape(variable) -> tuple[int, ...]:
    return variable.aval.shape


def bodies(params: Mapping[str, Any]) -> Iterator[Jaxpr]:
    """The programs inside an equation with these parameters: of a loop, a branch or a function."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item
