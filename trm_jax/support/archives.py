"""Zip archives and .npz files that may lie: what their headers say is checked before memory is taken for it."""

import math
import zipfile
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, NamedTuple

import numpy as np

# Real files shrink to a tenth. Beyond both limits an archive is made to fill the memory.
_MAX_UNPACKED, _MAX_RATIO = 2**28, 250
_MAX_MEMBERS = 50_000
_MAX_SIDE = 2**48


class Header(NamedTuple):
    """What an array in an archive says about itself."""

    shape: tuple[int, ...]
    dtype: np.dtype


class TooLarge(ValueError):
    """An archive that would unpack to more bytes than allowed."""


def unpacked_limit(size: int) -> int:
    """Bytes beyond which a packed file of ``size`` bytes is made to fill the memory."""
    return max(_MAX_UNPACKED, _MAX_RATIO * size)


def check_members(archive: zipfile.ZipFile, size: int, max_bytes: int | None = None) -> None:
    """Refuse an archive of ``size`` bytes that would unpack to more than ``max_bytes``, or to far more than its size.

    Raises TooLarge, or ValueError for other compression than numpy and PyTorch use.
    """
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise ValueError(f"it has {len(members):,} members")
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in members):
        raise ValueError("it is compressed by a method other than deflate")
    unpacked, limit = sum(info.file_size for info in members), unpacked_limit(size)
    if unpacked > min(limit, max_bytes or limit):
        raise TooLarge(f"it would unpack from {size:,} bytes to {unpacked:,}")


def read_array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in Fortran's order, and type of an array of numpy, whose cells come next in the file."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


class ArrayArchive:
    """An open .npz: ``headers`` by name, and the arrays themselves one by one, never objects.

    Raises one of DAMAGE for a file that is damaged, or whose headers do not account for its bytes.
    """

    def __init__(self, file: Path | BinaryIO, max_bytes: int | None = None):
        self._archive = zipfile.ZipFile(file)
        try:
            check_members(self._archive, self._size(), max_bytes)
            self._members = {i.filename[:-4]: i for i in self._archive.infolist() if i.filename.endswith(".npy")}
            self.headers = {name: self._header(name) for name in self._members}
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> "ArrayArchive":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._archive.close()

    def __getitem__(self, name: str) -> np.ndarray:
        with self._archive.open(self._members[name]) as member:
            return np.lib.format.read_array(member, allow_pickle=False)

    def _size(self) -> int:
        assert self._archive.fp is not None
        return self._archive.fp.seek(0, 2)

    def _header(self, name: str) -> Header:
        info = self._members[name]
        with self._archive.open(info) as member:
            shape, _, dtype = read_array_header(member)
            length = member.tell()
        if dtype.hasobject:
            raise ValueError(f"{name} is an array of objects, which could run code; save it as numbers")
        if dtype.itemsize == 0 or not all(0 <= side < _MAX_SIDE for side in shape):
            raise ValueError(f"{name} is an array of type {dtype} and shape {shape}")
        if length + math.prod(shape) * dtype.itemsize != info.file_size:
            entries = f"{math.prod(shape):,} entries"
            raise ValueError(f"{name} has a header for {entries}, and {info.file_size:,} bytes")
        return Header(shape, dtype)
