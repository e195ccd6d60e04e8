"""Wafer maps from an .npz file: all cells in one array, sizes and labels beside it, no pickles inside."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from trm_jax.support.archives import ArrayArchive, Header, TooLarge, read_array_header
from trm_jax.support.files import DAMAGE, one_line
from trm_jax.wafer.maps.fab.bins import FoundMap
from trm_jax.wafer.maps.validate import (
    DEFAULTS,
    LARGEST_SIDE,
    LOT_BLOCK,
    ReadOptions,
    ReadResult,
    build_wafers,
    check_counts,
)
from trm_jax.wafer.maps.wafers import CLASSES, NONE, UNKNOWN

_KINDS = {"flat": "iu", "height": "iu", "width": "iu", "label": "iu", "row": "iu", "clean": "b", "classes": "U"}
_KINDS |= {"lot_block": "iu", "fold": "iu", "official": "iu"}
_OPTIONAL = ["fold", "official", "clean"]
_NAMES = {"i": "integers", "b": "truth values", "U": "strings"}
_LIMITS = {
    "height": (0, 2**15 - 1), "width": (0, 2**15 - 1), "row": (0, 2**53), "lot_block": (0, 2**31 - 1),
    "fold": (UNKNOWN, 100), "official": (UNKNOWN, 100),
}  # fmt: skip
MIXED = ("Center", "Donut", "Edge-Loc", "Edge-Ring", "Loc", "Near-full", "Scratch", "Random")
"""Patterns in the order of MixedWM38 (Wang et al., IEEE Trans. Semiconductor Manufacturing 33(4), 2020)."""
_MAX_CLASSES, _MAX_NAME = 10_000, 100


def read_npz(
    file: Path | BinaryIO,
    options: ReadOptions = DEFAULTS,
    name: str = "",
    max_bytes: int | None = None,
    max_maps: int | None = None,
) -> ReadResult:
    """Read ``flat``, ``height``, ``width``, and as far as they are there ``label`` with ``classes``, ``row``,
    ``clean``, ``lot_block``, ``fold`` and ``official``; or ``arr_0`` and ``arr_1`` as MixedWM38 has them.

    Raises ValueError, in one line, for a damaged file, an array of objects, or sizes that contradict each other: all
    that is known from the headers, before memory is taken; TooLarge for more bytes or maps than allowed. Errors call
    the file ``name``, its path if not given.
    """
    name = name or str(file)
    try:
        with ArrayArchive(file, max_bytes) as archive:
            if "flat" not in archive.headers and (stacked := _stacked(archive)):
                return _read_stacked(*stacked, name.rpartition("/")[2], options, max_maps)
            headers = {key: header for key, header in archive.headers.items() if key in _KINDS}
            _check_headers(headers)
            count = headers["height"].shape[0]
            if count > (max_maps or count):
                raise TooLarge(f"more than {max_maps:,} maps")
            check_counts(count, headers["flat"].shape[0])
            arrays = {key: _integers(key, archive[key]) for key in headers if key not in ("flat", "classes")}
            cells = int((arrays["height"] * arrays["width"]).sum())
            if cells != headers["flat"].shape[0]:
                raise ValueError(
                    f"height * width adds up to {cells:,} cells, but flat has {headers['flat'].shape[0]:,}"
                )
            classes = _words(archive["classes"]) if "classes" in headers else []
            flat = _bytes(archive["flat"])
    except TooLarge as error:
        raise TooLarge(f"{name}: {error}") from None
    except DAMAGE as error:
        raise ValueError(f"{name} is damaged or not a file of wafer maps: {one_line(error)}") from error
    try:
        return _build(name.rpartition("/")[2], flat, arrays, classes, options)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _check_headers(headers: Mapping[str, Header]) -> None:
    """Refuse arrays that are missing, of another type, or of another length than the others."""
    missing = {"flat", "height", "width"} - set(headers)
    if missing:
        raise ValueError(f"it has no array {', '.join(sorted(missing))}")
    if "label" in headers and "classes" not in headers:
        raise ValueError("it has labels, but no array 'classes' that names them")
    count = headers["height"].shape[:1]
    for name, (shape, dtype) in headers.items():
        if dtype.kind not in _KINDS[name] or len(shape) != 1 or (name == "flat" and dtype.kind not in "iu"):
            raise ValueError(f"{name} must be one row of {_NAMES[_KINDS[name][0]]}, not {dtype} of shape {shape}")
        if name not in ("flat", "classes") and shape != count:
            raise ValueError(f"{name} has {shape[0]:,} entries, height has {count[0]:,}")
    if "classes" in headers:
        (entries,), dtype = headers["classes"]
        if entries > _MAX_CLASSES or dtype.itemsize > 4 * _MAX_NAME:
            raise ValueError(f"classes has {entries:,} names of up to {dtype.itemsize // 4:,} characters")


def _stacked(archive: ArrayArchive) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Maps of one size (N, height, width) and labels (N, 8), if the archive has no other arrays."""
    maps = [name for name, (shape, dtype) in archive.headers.items() if len(shape) == 3 and dtype.kind in "iu"]
    labels = [name for name, (shape, _) in archive.headers.items() if len(shape) == 2 and shape[1] == len(MIXED)]
    if len(maps) != 1 or len(labels) > 1 or len(archive.headers) > len(maps + labels):
        return None
    return archive[maps[0]], archive[labels[0]] if labels else None


def _read_stacked(
    maps: np.ndarray, marks: np.ndarray | None, name: str, options: ReadOptions, max_maps: int | None
) -> ReadResult:
    """MixedWM38: a wafer has any number of the eight patterns; several are no label here."""
    count, height, width = maps.shape
    if count > (max_maps or count):
        raise TooLarge(f"more than {max_maps:,} maps")
    row, errors, label = np.arange(count), {}, np.full(count, UNKNOWN)
    if marks is not None:
        if len(marks) != count or not np.isin(marks, (0, 1)).all():
            raise ValueError(f"it has {count:,} maps, but its labels are not 0 or 1 in as many rows")
        patterns = marks.sum(axis=1)
        single = np.array([CLASSES.index(name) for name in MIXED])[marks.argmax(axis=1)]
        label = np.where(patterns == 1, single, np.where(patterns == 0, NONE, UNKNOWN))
        several = [] if options.to_classify else np.flatnonzero(patterns > 1).tolist()
        errors = {index: f"has {patterns[index]} labels; a wafer to learn from has one" for index in several}
    check_counts(count, maps.size)
    sizes = np.full(count, height), np.full(count, width)
    columns = {"row": row, "group": row // LOT_BLOCK, "label": label}
    return build_wafers(_bytes(maps.reshape(-1)), *sizes, columns, name, errors)


def _bytes(flat: np.ndarray) -> np.ndarray:
    """Cells as bytes; numbers that are none become 255, which is no code."""
    return flat if flat.dtype == np.uint8 else np.where((flat < 0) | (flat > 255), 255, flat).astype(np.uint8)


def _integers(name: str, values: np.ndarray) -> np.ndarray:
    """The values as int64, truth values as they are. Raises ValueError for entries outside of what they mean."""
    low, high = _LIMITS.get(name, (-(2**62), 2**62))
    if values.dtype == bool:
        return values
    if len(values) and not low <= int(values.min()) <= int(values.max()) <= high:
        raise ValueError(f"{name} has entries outside {low} to {high}")
    return values.astype(np.int64)


def _words(values: np.ndarray) -> list[str]:
    """The strings of an array, not by numpy, whose strings can have characters that crash Python."""
    width = values.dtype.itemsize
    data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return [data[begin : begin + width].decode("utf-32-le").rstrip("\0") for begin in range(0, len(data), width)]


def _build(
    source: str,
    flat: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    classes: list[str],
    options: ReadOptions,
) -> ReadResult:
    row = arrays.get("row", np.arange(len(arrays["height"])))
    columns = {name: arrays[name] for name in _OPTIONAL if name in arrays}
    columns |= {"row": row, "group": arrays.get("lot_block", row // LOT_BLOCK)}
    errors: dict[int, str] = {}
    if "label" in arrays:
        label = arrays["label"]
        try:
            indices = np.array([*map(options.label, classes), UNKNOWN])
        except ValueError as error:
            raise ValueError(f"classes: {error}") from None
        bad = (label < UNKNOWN) | (label >= len(classes))
        errors = {int(index): f"has label {label[index]}, which is no index into classes" for index in bad.nonzero()[0]}
        columns["label"] = indices[np.where(bad, UNKNOWN, label)]
    return build_wafers(flat, arrays["height"], arrays["width"], columns, source, errors)


def parse_npy(content: bytes, options: ReadOptions = DEFAULTS) -> list[FoundMap]:
    """The map of a file with one array (height, width) of integers. Raises ValueError for other arrays."""
    file = io.BytesIO(content)
    try:
        shape, fortran, dtype = read_array_header(file)
        if len(shape) != 2 or dtype.kind not in "iu" or max(shape) > LARGEST_SIDE:
            raise ValueError(f"has an array of {dtype} and shape {shape}, not (height, width) of integers")
        cells = np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C")
    except DAMAGE as error:
        raise ValueError(f"is damaged or no map: {one_line(error)}") from None
    return [FoundMap(_bytes(cells))]
