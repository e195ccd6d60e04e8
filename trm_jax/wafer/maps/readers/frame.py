"""Columns of a pickled pandas frame of any age, as lists, without pandas and without running what the pickle says."""

import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from trm_jax.support.unpickle import Call, Named, unpickle
from trm_jax.wafer.maps.readers.pickled import Array, Dtype

# Names are only kept, never called: columns that nobody needs may be of any class of these.
_CLASSES = {"pandas", "pyarrow", "datetime", "decimal", "pytz", "dateutil", "zoneinfo"}
_FUNCTIONS = {
    "_unpickle_block", "new_block", "_new_Index", "__pyx_unpickle_NDArrayBacked",
    "_restore_array", "type_for_alias", "py_buffer", "chunked_array", "datetime", "date", "timedelta",
}  # fmt: skip
INDEX = "(index)"
"""The column that the row index becomes."""
NEEDED = frozenset(("waferMap", "failureType", "trianTestLabel", "trainTestLabel", "lotName", "waferIndex"))
_NUMPY = {"_reconstruct", "_frombuffer", "scalar", "ndarray", "dtype"}
_BUILTIN = {("_codecs", "encode"), ("functools", "partial")}
_BUILTIN |= {(m, n) for m in ("builtins", "__builtin__") for n in ("slice", "bytes", "bytearray")}
_MAX_COLUMNS = 1000


class Partial(Named):
    """A function with its named arguments, which arrive as state; pandas 1.3 makes its blocks so."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        """How many dimensions a block has is known without it."""


def read_columns(path: Path, progress: bool = False) -> tuple[dict[str, list[Any]], bytearray]:
    """Columns by name, and the cells of all maps among their entries, which are of class Array.

    Raises pickle.UnpicklingError if the file is not a frame, or asks for anything that a frame does not need.
    """
    cells = bytearray()
    with path.open("rb", buffering=2**20) as file:
        frame = unpickle(
            file,
            path.stat().st_size,
            _admits,
            lambda name, arguments: _call(name, arguments, cells),
            f"reading {path.name}" if progress else "",
        )
    return _columns(frame), cells


def _admits(module: str, name: str) -> bool:
    top = module.split(".")[0]
    if top in _CLASSES:
        return name in _FUNCTIONS or (name[:1].isupper() and name.isalnum())
    return (name in _NUMPY and top == "numpy") or (module, name) in _BUILTIN


def _call(name: str, arguments: tuple, cells: bytearray) -> Any:
    if name == "_reconstruct":
        return Array(cells)
    match name, arguments:
        case "dtype", (text, *_):
            return Dtype(text)
        case "_frombuffer", (data, dtype, shape, order):
            array = Array(cells)
            array.fill(shape, dtype, order == "F", data)
            return array
        case "scalar", (Dtype() as dtype, data):
            array = Array(cells)
            array.fill((1,), dtype, False, data)
            return array.items()[0]
        case "encode", (str() as text, "latin1"):
            return text.encode("latin1")
        case "bytes", ():
            return b""
        case "bytearray" | "py_buffer", (bytes() as data,):
            return data
        case "bytearray", (str() as text, *_):
            return text.encode("latin1")
        case "partial", (Named(name=function),):
            return Partial(function)
        case "_restore_array", (
            (Call(arguments=(str() as kind,)), int() as count, _, int() as offset, [_, *data], *_),
        ):
            return _strings(kind, count, offset, data, cells)
        case (("dtype" | "_frombuffer" | "scalar" | "encode" | "bytes"), _):
            raise pickle.UnpicklingError(f"it calls {name} in an unknown way")
    return Call(name, arguments)


def _strings(kind: str, count: int, offset: int, data: list[Any], cells: bytearray) -> Array:
    """The strings of an array of pyarrow: where each begins, and all letters."""
    sizes: dict[str, np.dtype] = {"string": np.dtype("<i4"), "large_string": np.dtype("<i8")}
    match data:
        case [bytes() as places, bytes() as letters] if kind in sizes and min(count, offset) >= 0:
            starts = np.frombuffer(places, sizes[kind], count + 1, offset * sizes[kind].itemsize)
        case _:
            raise pickle.UnpicklingError(f"it has an array of {kind[:40]!r} of pyarrow")
    if starts[0] < 0 or starts[-1] > len(letters) or (np.diff(starts) < 0).any():
        raise pickle.UnpicklingError("it has strings of pyarrow that are not there")
    array = Array(cells)
    array.shape = (count,)
    array.data = [letters[begin:end].decode("utf-8", "replace") for begin, end in pairwise(starts.tolist())]
    return array


def _columns(frame: Any) -> dict[str, list[Any]]:
    """Columns of a frame: a manager of blocks, each a (columns, rows) array with its places among the columns.

    The row index is the column INDEX. Columns of an unknown kind are left out.
    """
    match frame:
        case Call(name="DataFrame", state={"_mgr": Call(name="BlockManager") as manager}):
            pass
        case Call(name="DataFrame", state={"_data": Call(name="BlockManager") as manager}):
            pass
        case _:
            raise pickle.UnpicklingError("it is not a frame of pandas")
    match manager:
        case Call(arguments=(tuple() as blocks, [names, *indices])):
            placed = [b.arguments[:2] for b in blocks if isinstance(b, Call) and len(b.arguments) >= 2]
        case Call(state=(_, _, _, {"0.14.1": {"axes": [names, *indices], "blocks": list() as blocks}})):
            placed = [(b.get("values"), b.get("mgr_locs")) for b in blocks if isinstance(b, dict)]
        case _:
            raise pickle.UnpicklingError("it is a frame of pandas before 0.14; save it again with a newer one")
    header = _array(names).items()
    if len(header) > _MAX_COLUMNS or len(placed) > len(header):
        raise pickle.UnpicklingError(f"it has {len(header):,} columns in {len(placed):,} blocks")
    columns: dict[str, list[Any]] = {}
    used: set[int] = set()
    for values, places in placed:
        numbers = _numbers(places, len(header))
        try:
            array = _array(values)
        except pickle.UnpicklingError:
            if {header[number] for number in numbers} & NEEDED:
                raise
            continue
        if id(array) in used:
            raise pickle.UnpicklingError("it has one array in two blocks")
        used.add(id(array))
        items = array.items()
        rows = len(items) // max(len(numbers), 1)
        if rows * len(numbers) != len(items):
            raise pickle.UnpicklingError("it has a block of other columns than it says")
        for index, number in enumerate(numbers):
            # A name that is not a word is not looked for.
            if type(header[number]) is str:
                columns[header[number]] = items[index * rows : (index + 1) * rows]
    rows = len(columns.get("waferMap", ()))
    if any(len(columns[name]) != rows for name in NEEDED & columns.keys()):
        raise pickle.UnpicklingError("its columns differ in length")
    return columns | _index(indices, rows)


def _index(indices: list[Any], rows: int) -> dict[str, list[Any]]:
    """The row index, where it says more than the position."""
    if len(indices) != 1 or (isinstance(indices[0], Call) and "RangeIndex" in str(_class(indices[0]))):
        return {}
    try:
        items = _array(indices[0]).items()
    except pickle.UnpicklingError:
        return {}
    return {INDEX: items} if len(items) == rows and items != list(range(rows)) else {}


def _class(call: Call) -> str:
    """Name of the class that a call makes an object of."""
    first = call.arguments[0] if call.arguments else None
    return first.name if isinstance(first, Named) else call.name


def _array(value: Any, depth: int = 6) -> Array:
    """The array inside an index or an array of strings."""
    if isinstance(value, Array):
        return value
    match value:
        case Call(state=(Call(state={"categories": categories}), Array() as codes, *_)) if depth:
            words = [*_array(categories, depth - 1).items(), None]
            array = Array(codes.cells)
            array.shape = codes.shape
            array.data = [words[code] if -1 <= code < len(words) - 1 else None for code in codes.items()]
            return array
    if isinstance(value, Call) and depth:
        parts = [*value.arguments, *(value.state if isinstance(value.state, tuple) else ())]
        parts += [part["data"] for part in value.arguments if isinstance(part, dict) and "data" in part]
        parts += value.state.values() if isinstance(value.state, dict) else ()
        parts += [part[0] for part in value.arguments if isinstance(part, list) and len(part) == 1]
        for part in parts:
            if isinstance(part, Array | Call) and part is not value and getattr(part, "name", "") != "StringDtype":
                return _array(part, depth - 1)
    raise pickle.UnpicklingError("it has columns of an unknown kind; save numbers, strings and arrays")


def _numbers(places: Any, columns: int) -> list[int]:
    match places:
        case Call(name="slice", arguments=(int() as first, int() as end, int() | None as step)):
            numbers = list(range(columns)[first : end : step or 1])
        case Array():
            numbers = places.items()
        case _:
            numbers = [-1]
    if not all(type(number) is int and 0 <= number < columns for number in numbers):
        raise pickle.UnpicklingError("it has a block of columns that are not there")
    return numbers
