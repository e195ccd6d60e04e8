"""The table of formats: how a file of each begins, what its name ends with, and what reads it."""

import gzip
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from trm_jax.support.archives import check_members, unpacked_limit
from trm_jax.support.files import DAMAGE, one_line
from trm_jax.wafer.maps.fab.bins import LARGEST_FILE, FoundMap
from trm_jax.wafer.maps.fab.g85 import parse_g85
from trm_jax.wafer.maps.fab.klarf import parse_klarf
from trm_jax.wafer.maps.fab.sinf import parse_sinf
from trm_jax.wafer.maps.fab.stdf import is_stdf, parse_stdf
from trm_jax.wafer.maps.readers.arrow import FEATHER, read_arrow
from trm_jax.wafer.maps.readers.lswmd import read_pickle
from trm_jax.wafer.maps.readers.npz import parse_npy, read_npz
from trm_jax.wafer.maps.readers.png import parse_png
from trm_jax.wafer.maps.readers.text import decode, parse_text
from trm_jax.wafer.maps.validate import ReadOptions, ReadResult

_HEAD = 4096
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"


class MapFormat(NamedTuple):
    """Files of one map or a few, of which a folder may have many."""

    name: str
    suffixes: tuple[str, ...]
    """A file of another suffix is no map; one of these is read by what it begins like, else by its suffix."""
    begins: Callable[[bytes], bool]
    parse: Callable[[bytes, ReadOptions], list[FoundMap]]
    max_bytes: int = LARGEST_FILE
    only: bool = True
    """Whether files of these suffixes are nothing else."""


class SourceFormat(NamedTuple):
    """Files that hold a whole data set."""

    name: str
    suffixes: tuple[str, ...]
    begins: Callable[[bytes], bool]
    read: Callable[[Path, ReadOptions], ReadResult]


def _bytes(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(marks)


def _text(*words: str) -> Callable[[bytes], bool]:
    return lambda head: decode(head).lstrip().startswith(words)


def _is_sinf(head: bytes) -> bool:
    return decode(head).lstrip().casefold().startswith(("device:", "lot:", "wafer:", "rowdata:"))


def _is_text_map(head: bytes) -> bool:
    """Whether the first line is one of a grid or of a list of dies."""
    lines = [line for line in decode(head).splitlines()[:20] if line.strip() and not line.startswith("#")]
    names = re.fullmatch(r'[\w ",;\t]*\bx\w*[",;\t ]+"?y\w*[\w ",;\t]*', lines[0], re.IGNORECASE) if lines else None
    return bool(lines) and bool(names or re.fullmatch(r'[\d\s,;."_-]+', lines[0]))


MAPS = (
    MapFormat("PNG", (".png",), _bytes(b"\x89PNG"), parse_png),
    MapFormat("STDF", (".stdf", ".std"), is_stdf, parse_stdf, 2**29),
    MapFormat("NumPy array", (".npy",), _bytes(b"\x93NUMPY"), parse_npy),
    MapFormat("SINF", (".sinf", ".sin"), _is_sinf, parse_sinf),
    MapFormat("SEMI G85", (".xml", ".g85"), _text("<?xml", "<Map", "<!DOCTYPE", "<!--"), parse_g85),
    MapFormat(
        "KLARF", (".klarf", ".klf", ".001", ".000"), _text("FileVersion", "Record FileRecord"), parse_klarf, only=False
    ),
    MapFormat("grid or list of dies", (".csv",), _is_text_map, parse_text),
    MapFormat("grid or list of dies", (".txt", ".tsv", ".map"), _is_text_map, parse_text, only=False),
)
SOURCES = (
    SourceFormat("npz", (".npz",), _bytes(_ZIP), read_npz),
    SourceFormat(
        "pickled frame",
        (".pkl", ".pickle", ".p"),
        _bytes(*(bytes((128, protocol)) for protocol in range(2, 6))),
        read_pickle,
    ),
    SourceFormat("parquet", (".parquet", ".pq"), _bytes(b"PAR1"), read_arrow),
    SourceFormat("feather", (".feather", ".arrow"), _bytes(FEATHER), read_arrow),
)
_SUFFIXES = {suffix for entry in MAPS for suffix in entry.suffixes}


def map_format(path: Path) -> MapFormat | None:
    """The format of a file of maps; None for what is none."""
    suffix = _suffix(path)
    if suffix not in _SUFFIXES:
        return None
    head = _head(path)
    begins = next((entry for entry in MAPS if entry.begins(head)), None)
    return begins or next((entry for entry in MAPS if suffix in entry.suffixes and entry.only), None)


def source_format(path: Path, by_name: bool = False) -> SourceFormat | None:
    """The format of a file with a data set, ``by_name`` without looking inside."""
    head = b"" if by_name else _head(path)
    begins = next((entry for entry in SOURCES if entry.begins(head)), None)
    return begins or next((entry for entry in SOURCES if _suffix(path) in entry.suffixes), None)


def content(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file, unpacked if it is a copy by gzip.

    Raises ValueError for what is not a file, too large or unreadable.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        if status.st_size > max_bytes:
            raise ValueError(f"is a file of {status.st_size:,} bytes; {max_bytes:,} are read")
        data = path.read_bytes()
        if data.startswith(_GZIP):
            data = zlib.decompressobj(31).decompress(data, max_bytes + 1)
            if len(data) > max_bytes:
                raise ValueError(f"unpacks to more than the {max_bytes:,} bytes that are read")
        return data
    except (OSError, zlib.error) as error:
        raise ValueError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The file itself; of a copy by gzip, or of a zip archive with one file, what is in it, for as long as this lasts.

    Raises ValueError for an archive that is damaged, has several files, or unpacks to far more than its size.
    """
    head = _head(path)
    if not head.startswith((_GZIP, _ZIP)):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            inside = _unpack(path, Path(folder), head.startswith(_ZIP))
        except DAMAGE as error:
            raise ValueError(f"{path} cannot be unpacked: {one_line(error)}") from error
        yield inside


def _unpack(path: Path, folder: Path, is_zip: bool) -> Path:
    size = path.stat().st_size
    if not is_zip:
        inside = folder / (path.stem if path.suffix.lower() == ".gz" else path.name)
        limit = unpacked_limit(size)
        with gzip.open(path) as packed, inside.open("wb") as file:
            while piece := packed.read(2**20):
                file.write(piece)
                if file.tell() > limit:
                    raise ValueError(f"it would unpack from {size:,} bytes to more than {limit:,}")
        return inside
    with zipfile.ZipFile(path) as archive:
        check_members(archive, size)
        files = [i for i in archive.infolist() if not i.is_dir() and not re.search(r"(^|/)(\.|__MACOSX/)", i.filename)]
        if any(info.filename.endswith(".npy") for info in files):
            return path
        if len(files) != 1:
            raise ValueError(f"it is an archive of {len(files):,} files; unpack it and give the folder")
        inside = folder / (Path(files[0].filename).name or "file")
        with archive.open(files[0]) as packed, inside.open("wb") as file:
            shutil.copyfileobj(packed, file)
    return inside


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def _head(path: Path) -> bytes:
    """The first bytes of a regular file, of a copy by gzip those of its content; none of anything else."""
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return b""
    if head.startswith(_GZIP) and _suffix(path) in _SUFFIXES:
        try:
            return zlib.decompressobj(31).decompress(head, _HEAD)
        except zlib.error:
            return b""
    return head
