"""Frames as pandas 0.19 pickled them, of any number of maps, written opcode by opcode since no pandas still does."""

import pickle as op
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

COLUMNS = ["waferMap", "lotName", "trianTestLabel", "failureType", "dieSize", "waferIndex"]


class _Writer:
    """Python 3 writes protocol 4 with bytes; Python 2 protocol 2 with str, and counts what it remembers from 1."""

    def __init__(self, file: BinaryIO, python2: bool):
        self.file, self.python2, self.count = file, python2, int(python2)
        file.write(op.PROTO + (b"\x02" if python2 else b"\x04"))

    def put(self, *codes: bytes) -> None:
        self.file.write(b"".join(codes))

    def remember(self) -> int:
        self.put(op.LONG_BINPUT + struct.pack("<I", self.count) if self.python2 else op.MEMOIZE)
        self.count += 1
        return self.count - 1

    def recall(self, index: int) -> None:
        self.put(op.LONG_BINGET, struct.pack("<I", index))

    def integer(self, value: int) -> None:
        self.put(op.BININT, struct.pack("<i", value))

    def text(self, text: str) -> None:
        data = text.encode()
        self.put(op.BINUNICODE, struct.pack("<I", len(data)), data)
        self.remember()

    def data(self, data: bytes) -> None:
        self.put(op.BINSTRING if self.python2 else op.BINBYTES, struct.pack("<I", len(data)), data)
        self.remember()

    def named(self, module: str, name: str) -> int:
        if self.python2:
            self.put(f"c{module}\n{name}\n".encode())
        else:
            self.text(module), self.text(name)
            self.put(op.STACK_GLOBAL)
        return self.remember()

    def tuple(self) -> None:
        self.put(op.TUPLE)
        self.remember()

    def new(self, module: str, name: str) -> None:
        self.named(module, name)
        self.put(op.EMPTY_TUPLE, op.NEWOBJ)
        self.remember()


class _Frame(_Writer):
    def setup(self) -> None:
        """Names that every array needs; they stay below the frame on the stack, which nobody minds."""
        self.reconstruct = self.named("numpy.core.multiarray", "_reconstruct")
        self.ndarray = self.named("numpy", "ndarray")
        self.dtype = self.named("numpy", "dtype")

    def array(self, shape: Sequence[int], kind: str, data: bytes | None) -> None:
        """Without data the list of objects and two more opcodes are still to come."""
        self.recall(self.reconstruct), self.recall(self.ndarray)
        self.put(op.MARK), self.integer(0), self.tuple(), self.data(b"b")
        self.put(op.TUPLE3), self.remember(), self.put(op.REDUCE), self.remember()
        self.put(op.MARK), self.integer(1), self.put(op.MARK)
        for side in shape:
            self.integer(side)
        self.tuple(), self.recall(self.dtype), self.text(kind), self.integer(0), self.integer(1)
        self.put(op.TUPLE3), self.remember(), self.put(op.REDUCE), self.remember()
        self.put(op.MARK), self.integer(3), self.text("|" if kind in ("u1", "O8") else "<"), self.put(op.NONE * 3)
        for number in {"O": (-1, -1, 63), "U": (4 * int(kind[1:]), 4, 8)}.get(kind[0], (-1, -1, 0)):
            self.integer(number)
        self.tuple()
        self.put(op.BUILD, op.NEWFALSE)
        if data is not None:
            self.data(data), self.tuple(), self.put(op.BUILD)

    def objects(self, shape: Sequence[int]) -> None:
        self.array(shape, "O8", None)
        self.put(op.EMPTY_LIST), self.remember(), self.put(op.MARK)

    def end_objects(self) -> None:
        self.put(op.APPENDS), self.tuple(), self.put(op.BUILD)

    def words(self, word: str) -> None:
        """[['none']], or an empty array."""
        text = word.encode("utf-32-le")
        self.array((1, 1) if word else (0, 0), f"U{max(len(word), 1)}", text)

    def index(self, names: list[str]) -> None:
        self.named("pandas.indexes.base", "_new_Index"), self.named("pandas.indexes.base", "Index")
        self.put(op.EMPTY_DICT, op.MARK), self.text("data"), self.objects([len(names)])
        for name in names:
            self.text(name)
        self.end_objects(), self.text("name"), self.put(op.NONE, op.SETITEMS, op.TUPLE2, op.REDUCE)


def write_legacy_frame(
    path: Path,
    maps: Sequence[np.ndarray],
    labels: Sequence[str],
    lots: Sequence[str],
    parts: Sequence[str],
    repeat: int = 1,
    python2: bool = False,
) -> None:
    """Write a frame with every map ``repeat`` times; uint8 maps, "" for no label."""
    rows = len(maps) * repeat
    with path.open("wb") as file:
        frame = _Frame(file, python2)
        frame.setup()
        frame.new("pandas.core.frame", "DataFrame")
        frame.put(op.EMPTY_DICT, op.MARK), frame.text("_data")
        frame.new("pandas.core.internals", "BlockManager")
        frame.put(op.MARK, op.EMPTY_LIST, op.EMPTY_LIST, op.EMPTY_LIST, op.EMPTY_DICT), frame.text("0.14.1")
        frame.put(op.EMPTY_DICT, op.MARK), frame.text("axes"), frame.put(op.EMPTY_LIST, op.MARK)
        frame.index(COLUMNS), frame.put(op.APPENDS)
        frame.text("blocks"), frame.put(op.EMPTY_LIST, op.MARK)
        frame.put(op.EMPTY_DICT, op.MARK), frame.text("values"), frame.objects((4, rows))
        for _ in range(repeat):
            for cells in maps:
                frame.array(cells.shape, "u1", cells.tobytes())
        for turn in range(repeat):
            for lot in lots:
                frame.text(f"{lot}-{turn}")
        for column in (parts, labels):
            for word in [*column] * repeat:
                frame.words(word)
        frame.end_objects()
        frame.text("mgr_locs"), frame.array([4], "i8", np.arange(4).tobytes()), frame.put(op.SETITEMS)
        frame.put(op.EMPTY_DICT, op.MARK), frame.text("values")
        frame.array((2, rows), "f8", np.full((2, rows), 533.0).tobytes())
        frame.text("mgr_locs"), frame.named("__builtin__" if python2 else "builtins", "slice")
        frame.integer(4), frame.integer(6), frame.integer(1)
        frame.put(op.TUPLE3, op.REDUCE, op.SETITEMS, op.APPENDS, op.SETITEMS, op.SETITEM)
        frame.tuple(), frame.put(op.BUILD, op.SETITEMS, op.BUILD, op.STOP)
