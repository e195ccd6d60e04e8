"""Bodies of requests: wafer maps as JSON or as .npz, counted before anything is built from them."""

import io
import json
from typing import Any, NamedTuple

import numpy as np

from trm_jax.support.archives import TooLarge
from trm_jax.wafer.maps.readers.npz import read_npz
from trm_jax.wafer.maps.validate import LARGEST_SIDE, ReadOptions, ReadResult, build_wafers
from trm_jax.wafer.maps.wafers import FAIL

_FORM = '{"maps": [[[0, 1, 2, ...], ...], ...]}'


class Limits(NamedTuple):
    """What a client may send; more is refused, so that the device never runs out of memory."""

    body: int = 8 * 2**20
    """Bytes of a request."""
    unpacked: int = 2**24
    """Bytes of all arrays of an .npz."""
    maps: int = 2000
    """Maps of a request."""
    waiting: int = 8
    """Requests that wait while one is answered."""
    seconds: float = 10
    """Time for a body to arrive."""
    retry: float = 1
    """Seconds after which a request that may not wait is told so."""


def read_npz_body(body: bytes, limits: Limits) -> ReadResult:
    """Maps of an .npz in the layout of the data sets. Raises TooLarge, or ValueError for a body that is not one."""
    return read_npz(
        io.BytesIO(body), ReadOptions(to_classify=True), "the body", max_bytes=limits.unpacked, max_maps=limits.maps
    )


def read_json(body: bytes, limits: Limits) -> ReadResult:
    """Maps by their place in the list; what is not a map becomes a rejected one.

    Raises TooLarge for too many maps, and ValueError for a body of another form.
    """
    # A list takes twenty times the bytes of its brackets.
    if body.count(b"[") + body.count(b"{") > limits.maps * (LARGEST_SIDE + 1) + 1:
        raise TooLarge(f"the body: more than {limits.maps:,} maps")
    try:
        content = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"the body is not JSON in UTF-8 of the form {_FORM}") from None
    entries = content.get("maps") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"the body must be an object with a list of maps: {_FORM}")
    if len(entries) > limits.maps:
        raise TooLarge(f"the body: more than {limits.maps:,} maps")
    if all(isinstance(row, list) and row and not isinstance(row[0], list) for row in entries):
        raise ValueError(f"maps must be a list of maps; these are the rows of one: {_FORM}")
    maps = [_parse_map(entry) for entry in entries]
    errors = {index: cells for index, cells in enumerate(maps) if isinstance(cells, str)}
    arrays = [np.zeros((0, 0), np.uint8) if isinstance(cells, str) else cells for cells in maps]
    height, width = np.array([cells.shape for cells in arrays]).T
    flat, row = np.concatenate([cells.ravel() for cells in arrays]), np.arange(len(arrays))
    return build_wafers(flat, height, width, {"row": row, "group": row}, "a request", errors)


def _parse_map(entry: Any) -> np.ndarray | str:
    """The cells of a map (height, width) uint8, or the reason why it is not one."""
    rows = entry if isinstance(entry, list) else []
    sides = {len(row) if isinstance(row, list) else -1 for row in rows}
    if len(sides) != 1 or min(sides) < 1 or max(len(rows), *sides) > LARGEST_SIDE:
        return f"is not a list of rows of the same length, at most {LARGEST_SIDE}"
    for row in rows:
        for cell in row:
            if type(cell) is not int or not 0 <= cell <= FAIL:
                return f"has a cell {_short(cell)}; cells are 0, 1 or 2"
    return np.array(rows, np.uint8)


def _short(cell: Any) -> str:
    """A wrong cell as it stood in the JSON, if it is short."""
    return "that is a list" if isinstance(cell, list | dict) else json.dumps(cell)[:20]
