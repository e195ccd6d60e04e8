"""Arrays of a pickle, built from what numpy's own would get, checked to the last byte, without running anything."""

import functools
import math
import pickle
import re
from typing import Any

import numpy as np

_MAX_SIDE = 2**31
_DTYPE = re.compile(r"[iufbOSUMm][1-9]\d{0,3}")


class Dtype:
    """Type of an array's entries; the order of bytes arrives as state."""

    __slots__ = ("order", "text")

    def __init__(self, text: Any):
        if type(text) is not str or not _DTYPE.fullmatch(text):
            kind = text[:40] if type(text) is str else type(text).__name__
            raise pickle.UnpicklingError(f"it has an array of type {kind!r}, which a frame of wafer maps does not need")
        # Times are numbers.
        self.text, self.order = text.replace("M", "i").replace("m", "i"), "="

    def build(self, state: Any) -> None:
        """Take over the order of bytes from what numpy's dtype would get."""
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("it has an array of an unknown type")
        self.order = state[1]

    def numpy(self) -> np.dtype:
        """The type in numpy."""
        return _numpy(self.order + self.text)


@functools.lru_cache(1000)
def _numpy(text: str) -> np.dtype:
    return np.dtype(text)


class Array:
    """An array of a pickle. Two-dimensional ones of small integers, the maps, stand in ``cells`` from ``begin`` on."""

    __slots__ = ("begin", "cells", "data", "shape")

    def __init__(self, cells: bytearray):
        self.cells, self.begin = cells, -1
        self.shape: tuple[int, ...] = ()
        self.data: Any = None

    def build(self, state: Any) -> None:
        """Take shape, type and bytes, or the list of objects, from what numpy's array would get."""
        if type(state) is not tuple or len(state) != 5 or self.data is not None or self.begin >= 0:
            raise pickle.UnpicklingError("it builds an array in an unknown way")
        self.fill(state[1], state[2], state[3], state[4])

    def fill(self, shape: Any, dtype: Any, fortran: Any, data: Any) -> None:
        """Check that shape and type account for the data to the last byte, and keep it."""
        known = type(shape) is tuple and 0 < len(shape) <= 3
        if not known or not all(type(side) is int and 0 <= side < _MAX_SIDE for side in shape):
            raise pickle.UnpicklingError("it has an array whose shape is not one to three lengths")
        if type(dtype) is not Dtype:
            raise pickle.UnpicklingError("it has an array without a type")
        self.shape = shape
        if type(data) is str:
            data = data.encode("latin1")
        if dtype.text[0] == "O":
            if type(data) is not list or math.prod(shape) != len(data):
                raise pickle.UnpicklingError(f"it has an array of shape {shape} without as many objects")
            self.data = data
            return
        size = math.prod(shape) * int(dtype.text[1:]) * (4 if dtype.text[0] == "U" else 1)
        if type(data) is not bytes or len(data) != size:
            raise pickle.UnpicklingError(f"it has an array of shape {shape} and type {dtype.text} without its bytes")
        if len(shape) == 2 and dtype.text == "u1" and not fortran:
            self.begin = len(self.cells)
            self.cells += data
            return
        if dtype.text[0] == "U":
            # Not by numpy, whose strings can have characters that crash Python.
            text, length = data.decode("utf-32-be" if dtype.order == ">" else "utf-32-le"), int(dtype.text[1:])
            self.data = [text[begin : begin + length].rstrip("\0") for begin in range(0, len(text), length)]
            return
        values = np.frombuffer(data, dtype.numpy()).reshape(shape, order="F" if fortran else "C")
        if len(shape) == 2 and values.dtype.kind in "iufb":
            with np.errstate(invalid="ignore"):
                small = values.astype(np.uint8)
            if (small == values).all():
                self.begin = len(self.cells)
                self.cells += small.tobytes()
                return
        self.data = values

    def __len__(self) -> int:
        if self.begin >= 0:
            return math.prod(self.shape)
        return self.data.size if isinstance(self.data, np.ndarray) else len(self.data or ())

    def items(self) -> list[Any]:
        """All entries in order of rows."""
        if self.begin >= 0:
            return list(self.cells[self.begin : self.begin + len(self)])
        return self.data.ravel().tolist() if isinstance(self.data, np.ndarray) else self.data or []
