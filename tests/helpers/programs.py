"""Traced programs, read equation by equation."""

from collections.abc import Iterator
from typing import Any

from trm_jax.support.flops import bodies


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a program, in whatever loop or function it stands."""
    for equation in jaxpr.eqns:
        yield equation
        for body in bodies(equation.params):
            yield from equations(body)
