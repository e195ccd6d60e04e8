"""Options as their dataclasses declare them: name, default and sentence of each, for help and documents."""

import ast
import dataclasses
import inspect
import itertools
import json
import typing
from typing import Any, NamedTuple

from trm_jax.support.schema import describe_type, optional_dataclass


class Option(NamedTuple):
    """An option by the name under which a user sets it."""

    name: str
    values: str
    default: str
    sentence: str


WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text"}


def in_words(kind: Any) -> str:
    """The values of a type as a user would say it."""
    if optional_dataclass(kind):
        return "a section, or null"
    if typing.get_origin(kind) is tuple:
        first, *others = typing.get_args(kind)
        return f"{'list of' if others == [...] else 'two'} {in_words(first)}s"
    return WORDS.get(kind) or describe_type(kind)


def _sentences(kind: Any) -> dict[str, str]:
    """The sentence under each field in the source of a dataclass, without what it inherits."""
    body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    return {
        ast.unparse(field.target): " ".join(ast.literal_eval(text.value).split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def options_of(kind: Any, prefix: str) -> list[Option]:
    """The fields of a dataclass and of those within it, in their order."""
    inherited = [part for part in reversed(kind.__mro__) if dataclasses.is_dataclass(part)]
    sentences = {name: sentence for part in inherited for name, sentence in _sentences(part).items()}
    found = []
    for field in dataclasses.fields(kind):
        if not field.compare:  # arrays
            continue
        part = field.type if dataclasses.is_dataclass(field.type) else optional_dataclass(field.type)
        if field.name in sentences:
            default = json.dumps(field.default)
            found.append(Option(prefix + field.name, in_words(field.type), default, sentences[field.name]))
        if part:
            found += options_of(part, f"{prefix}{field.name}.")
    return found
