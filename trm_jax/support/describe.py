"""Options as their dataclasses declare them: name, default and sentence of each, for help and documents."""

import ast
import dataclasses
import inspect
import itertools
import json
from typing import Any, NamedTuple

from trm_jax.support.schema import describe_type, optional_dataclass


class Option(NamedTuple):
    """An option by the name under which a user sets it."""

    name: str
    values: str
    default: str
    sentence: str


def options_of(kind: Any, prefix: str) -> list[Option]:
    """The fields of a dataclass and of those within it, in their order."""
    body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    sentences = {
        ast.unparse(field.target): " ".join(ast.literal_eval(text.value).split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    found = []
    for field in dataclasses.fields(kind):
        part = field.type if dataclasses.is_dataclass(field.type) else optional_dataclass(field.type)
        if field.name in sentences:
            default = json.dumps(field.default)
            found.append(Option(prefix + field.name, describe_type(field.type), default, sentences[field.name]))
        if part:
            found += options_of(part, f"{prefix}{field.name}.")
    return found
