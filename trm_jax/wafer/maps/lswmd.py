"""WM-811K as it is downloaded: the pickled frame LSWMD.pkl."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trm_jax.support.files import DAMAGE
from trm_jax.wafer.maps.frame import Array, read_columns
from trm_jax.wafer.maps.validate import LOT_BLOCK, ReadResult, build_wafers, factorize
from trm_jax.wafer.maps.wafers import UNKNOWN, class_index

_MAX_WORDS = 4  # in a field
_PARTS = {"training": 0, "test": 1}


def read_pickle(path: Path, progress: bool = False, label_index: Callable[[str], int] = class_index) -> ReadResult:
    """Read columns ``waferMap`` and, as far as they are there, ``failureType``, ``lotName`` and ``trianTestLabel``.

    An empty label means an unlabelled wafer; one that names no class, or several, is a reason to leave the map out.
    ``label_index`` gives the class of a label. Wafers of a lot are a group. Raises ValueError, in one line, for a
    file that is damaged, is not such a frame or asks for anything that such a frame does not need.
    """
    try:
        columns, cells = read_columns(path, progress)
        if "waferMap" not in columns:
            raise pickle.UnpicklingError(f"it has no column 'waferMap', only {', '.join(sorted(columns))[:200]}")
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged or not a frame of wafer maps: {' '.join(str(error).split())}") from error
    count = len(columns["waferMap"])
    errors: dict[int, str] = {}
    label = _coded(columns.get("failureType"), count, label_index, errors)
    official = _coded(columns.get("trianTestLabel"), count, _part, errors)
    start, height, width = _placed(columns.pop("waferMap"), errors)
    row = np.arange(count)
    arrays = {"label": label, "official": official, "row": row, "group": _groups(columns.get("lotName"), row)}
    return build_wafers(np.frombuffer(cells, np.uint8), height, width, arrays, path.name, errors, start)


def _part(word: str) -> int:
    if word.casefold() not in _PARTS:
        raise ValueError(f"unknown part {word!r}; known are Training and Test")
    return _PARTS[word.casefold()]


def _coded(values: list[Any] | None, count: int, code: Callable[[str], int], errors: dict[int, str]) -> np.ndarray:
    """Numbers of the words in a column, and UNKNOWN where it is empty; int8 (count,)."""
    codes = np.full(count, UNKNOWN, np.int8)
    known: dict[tuple[str, ...], int] = {}
    # One object may stand in many rows.
    seen: dict[int, tuple[str, ...]] = {}
    for index, value in enumerate(values or ()):
        if id(value) not in seen:
            seen[id(value)] = tuple(sorted(words(value)))
        labels = seen[id(value)]
        try:
            if labels not in known:
                if len(labels) > 1:
                    raise ValueError(f"has {len(labels)} labels, such as {labels[0][:40]!r} and {labels[1][:40]!r}")
                known[labels] = code(labels[0][:40]) if labels else UNKNOWN
            codes[index] = known[labels]
        except ValueError as error:
            errors.setdefault(index, str(error))
    return codes


def words(value: Any, depth: int = 4) -> set[str]:
    """Different words in a field that may be a word, nested lists or arrays of words, or one of many kinds of nothing.

    None, NaN, zeros and empty arrays are nothing. What is neither becomes a word that is no class.
    """
    if isinstance(value, str | bytes):
        text = value if isinstance(value, str) else value.decode("latin1")
        return {text.strip()} - {""}
    if isinstance(value, Array | list | tuple):
        # Short files can describe lists that take forever to go through.
        if not depth or len(value) > _MAX_WORDS:
            return {f"(a list of {len(value):,})"}
        items = value.items() if isinstance(value, Array) else value
        return set().union(*(words(item, depth - 1) for item in items))
    if isinstance(value, int | float):
        return set() if value == 0 or value != value else {f"{value}"}
    return set() if value is None else {f"({type(value).__name__})"}


def _placed(maps: list[Any], errors: dict[int, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start in the cells, height and width of every map; zeros for those that are not maps."""
    places = np.zeros((3, len(maps)), np.int64)
    used: dict[int, int] = {}
    for index, value in enumerate(maps):
        if not isinstance(value, Array):
            errors[index] = "is not an array"
        elif len(value.shape) != 2:
            errors[index] = f"has {len(value.shape)} dimensions instead of two"
        elif value.begin < 0:
            errors[index] = "is empty" if not math.prod(value.shape) else "has cells other than 0, 1 and 2"
        elif used.setdefault(id(value), index) != index:
            errors[index] = f"is the array of row {used[id(value)]} once more"
        else:
            places[:, index] = value.begin, *value.shape
    return places[0], places[1], places[2]


def _groups(lots: list[Any] | None, row: np.ndarray) -> np.ndarray:
    """Number of each wafer's lot; a wafer whose lot is not named is a lot of its own."""
    if lots is None:
        return row // LOT_BLOCK
    return factorize(" ".join(sorted(words(lot))) or f"\n{index}" for index, lot in enumerate(lots))
