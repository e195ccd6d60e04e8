"""Dataclasses as options: checked types, plain values in and out, and refusal of what is unknown."""

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def changed_fields(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Dotted names of the options in which two nested dicts of options differ."""
    a, b = _flat(old), _flat(new)
    return [name for name in {**a, **b} if name not in a or name not in b or a[name] != b[name]]


def _flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in options.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat


def option_at(options: Any, path: str) -> Any:
    """What a dotted option is set to in nested dicts; None where it or its section is missing."""
    for name in path.split("."):
        options = options.get(name) if isinstance(options, dict) else None
    return options


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The known word that is most like a misspelt one, as a piece of its message; empty where none is like it."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


def from_dict(value: Any, kind: Any) -> Any:
    """Rebuild a dataclass, with its tuples, from what JSON knows. Raises ValueError for an unknown option."""
    if isinstance(kind, type) and is_dataclass(kind):
        known = {f.name: f.type for f in fields(kind)}
        require(isinstance(value, dict), f"expected options by name, got {value!r}")
        for name in value:
            require(name in known, f"unknown option {name!r}{did_you_mean(name, known)}; known are {', '.join(known)}")
        return kind(**{name: from_dict(v, known[name]) for name, v in value.items()})
    if isinstance(kind, types.UnionType):
        part = optional_dataclass(kind)
        return from_dict(value, part) if part and isinstance(value, dict) else value
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    return value


def optional_dataclass(kind: Any) -> Any:
    """The dataclass D of a type ``D | None``; None for other types."""
    return next((part for part in typing.get_args(kind) if is_dataclass(part)), None)


def replace_nested(config: Any, options: Mapping[str, Any], prefix: str = "") -> Any:
    """Copy of a dataclass with dotted options changed, e.g. ``{"model.encoder.image": 52}``.

    An optional section that is None starts from its defaults. Raises ValueError for an unknown option or a value of the
    wrong type.
    """
    known = {f.name: f.type for f in fields(config)}
    sections: dict[str, dict[str, Any]] = {}
    changes: dict[str, Any] = {}
    for path, value in options.items():
        name, dot, rest = path.partition(".")
        if name not in known:
            what = f"option {prefix}{name}" if prefix or not dot else f"section {name!r}"
            parent = prefix.rstrip(".") or "the config"
            raise ValueError(f"unknown {what}{did_you_mean(name, known, prefix)}; {parent} has {', '.join(known)}")
        if dot:
            sections.setdefault(name, {})[rest] = value
        else:
            changes[name] = from_dict(value, known[name])
    for name, values in sections.items():
        current = changes.get(name, getattr(config, name))
        if current is None and optional_dataclass(known[name]):
            current = optional_dataclass(known[name])()
        require(is_dataclass(current), f"option {prefix}{name} has no parts; set {prefix}{name} itself")
        changes[name] = replace_nested(current, values, f"{prefix}{name}.")
    return dataclasses.replace(config, **changes)


def check_types(config: Any, prefix: str = "") -> None:
    """Refuse a value that is not of its field's declared type: a wrong option must not run silently.

    ``prefix`` is what stands before the name of a field where the user gives it, such as "run.".
    """
    for f in fields(config):
        value = getattr(config, f.name)
        if not _matches(value, f.type):
            raise ValueError(f"{prefix}{f.name} must be {describe_type(f.type)}, got {value!r}")


def _matches(value: Any, kind: Any) -> bool:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return value in arguments
    if isinstance(kind, types.UnionType):
        return any(_matches(value, part) for part in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_matches(v, arguments[0]) for v in value)
        return len(value) == len(arguments) and all(map(_matches, value, arguments))
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if kind in (int, bool):
        return type(value) is kind
    return isinstance(value, kind)


def describe_type(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    return getattr(kind, "__name__", str(kind)) if typing.get_origin(kind) is None else str(kind)


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Options from ``section.name=value`` words. Raises ValueError for a word without an equals sign."""
    options = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"expected option=value, got {word!r}")
        try:
            options[path] = json.loads(text)
        except json.JSONDecodeError:
            options[path] = text
    return options
