"""Frames of wafer maps: WM-811K as it is downloaded, the pickled LSWMD.pkl, and copies of it."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trm_jax.support.files import DAMAGE, one_line
from trm_jax.wafer.maps.readers.frame import INDEX, read_columns
from trm_jax.wafer.maps.readers.pickled import Array
from trm_jax.wafer.maps.validate import DEFAULTS, LOT_BLOCK, ReadOptions, ReadResult, build_wafers, factorize
from trm_jax.wafer.maps.wafers import UNKNOWN

_MAX_WORDS = 4  # in a field
_ARRAY = re.compile(r"\[+\s*['\"]?([^\[\]'\",]*)['\"]?\s*\]+")
_MAX_REPEATED = 2**28  # cells of all rows, where a map stands in many
_PARTS = {"training": 0, "test": 1}


def read_pickle(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """Read a pickled frame as `read_frame` does.

    Raises ValueError, in one line, for a file that is damaged, is not such a frame or asks for anything that such a
    frame does not need.
    """
    try:
        return read_frame(*read_columns(path, options.progress), path.name, options)
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged or not a frame of wafer maps: {one_line(error)}") from error


def read_frame(columns: dict[str, list[Any]], cells: bytearray, name: str, options: ReadOptions) -> ReadResult:
    """Maps of the columns of a frame, whose cells are in ``cells``: ``waferMap`` and, as far as they are there,
    ``failureType``, ``lotName``, ``waferIndex``, the row index, and ``trianTestLabel`` or ``trainTestLabel``.

    An empty label means an unlabelled wafer; one that names no class, or several, is a reason to leave the map out, and
    so are numbers. Wafers of a lot are a group. A map that occurs in several rows is read again where it is only to be
    classified. Raises ValueError for a frame without maps.
    """
    if "waferMap" not in columns:
        raise ValueError(f"it has no column 'waferMap', only {', '.join(sorted(columns))[:200]}")
    count = len(columns["waferMap"])
    notes = _numbers(columns)
    errors = dict.fromkeys(range(count), notes[0]) if notes and not options.to_classify else {}
    label = _coded(None if notes else columns.get("failureType"), count, options.label, errors)
    part = columns.get("trianTestLabel", columns.get("trainTestLabel"))
    official = _coded(part, count, _part, {} if options.to_classify else errors)
    start, height, width = _placed(columns.pop("waferMap"), cells, errors, repeats=options.to_classify)
    row = np.arange(count)
    arrays = {"label": label, "official": official, "row": row, "group": _groups(columns.get("lotName"), row)}
    read = build_wafers(np.frombuffer(cells, np.uint8), height, width, arrays, name, errors, start)
    names = {
        kind: tuple(map(_name, columns[column]))
        for kind, column in (("lot", "lotName"), ("wafer", "waferIndex"), ("index", INDEX))
        if column in columns
    }
    return read._replace(names=names, notes=notes)


def _name(value: Any) -> str:
    """A name as text; numbers are names, too."""
    if isinstance(value, int | float):
        return "" if value != value else f"{value:.15g}"
    return " ".join(sorted(words(value)))


def _numbers(columns: dict[str, list[Any]]) -> tuple[str, ...]:
    """What to say about labels that are numbers, which every copy of the data counts in another order."""
    if "failureType" not in columns and "failureNum" in columns:
        return ("labels are not read: it has no column failureType, and the numbers in failureNum name no class",)
    found = {type(value) for value in columns.get("failureType", ()) if type(value) in (int, float) and value == value}
    if found and any(value for value in columns["failureType"] if type(value) in (int, float) and value == value):
        return ("labels are not read: failureType has numbers; replace them by the names of the classes",)
    return ()


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
        # An array that was turned into text: [['Loc']], or [].
        inside = _ARRAY.fullmatch(text)
        return {(inside[1] if inside else text).strip()} - {""}
    if isinstance(value, Array | list | tuple):
        # Short files can describe lists that take forever to go through.
        if not depth or len(value) > _MAX_WORDS:
            return {f"(a list of {len(value):,})"}
        items = value.items() if isinstance(value, Array) else value
        return set().union(*(words(item, depth - 1) for item in items))
    if isinstance(value, int | float):
        return set() if value == 0 or value != value else {f"{value:g}"}
    return set() if value is None else {f"({type(value).__name__})"}


def _placed(
    maps: list[Any], cells: bytearray, errors: dict[int, str], repeats: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start in the cells, height and width of every map; zeros for those that are not maps."""
    places = np.zeros((3, len(maps)), np.int64)
    used: dict[int, int] = {}
    repeated = 0
    for index, value in enumerate(maps):
        if isinstance(value, Array) and len(value.shape) == 1:
            _stack(value, cells)
        if not isinstance(value, Array):
            errors[index] = "is not an array"
        elif len(value.shape) != 2:
            errors[index] = f"has {len(value.shape)} dimensions instead of two"
        elif value.begin < 0:
            errors[index] = "is empty" if not math.prod(value.shape) else "has cells other than 0, 1 and 2"
        elif used.setdefault(id(value), index) != index and not repeats:
            errors[index] = f"is the array of row {used[id(value)]} once more"
        else:
            places[:, index] = value.begin, *value.shape
            repeated += math.prod(value.shape)
    if repeated > max(_MAX_REPEATED, 4 * len(cells)):
        raise ValueError(f"its rows have {repeated:,} cells, but only {len(cells):,} of their own")
    return places[0], places[1], places[2]


def _stack(value: Array, cells: bytearray) -> None:
    """Make one map of an array of its rows, as a copy through parquet has it."""
    rows = [row for row in value.items() if isinstance(row, Array) and len(row.shape) == 1 and len(row)]
    if rows and len(rows) == len(value) and len({len(row) for row in rows}) == 1:
        content = np.array([row.items() for row in rows])
        if content.dtype.kind in "iub" and 0 <= content.min() <= content.max() <= np.iinfo(np.uint8).max:
            value.begin, value.shape = len(cells), content.shape
            cells += content.astype(np.uint8).tobytes()


def _groups(lots: list[Any] | None, row: np.ndarray) -> np.ndarray:
    """Number of each wafer's lot; a wafer whose lot is not named is a lot of its own."""
    if lots is None:
        return row // LOT_BLOCK
    return factorize(" ".join(sorted(words(lot))) or f"\n{index}" for index, lot in enumerate(lots))
