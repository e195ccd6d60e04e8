"""Wafer maps from an .npz file: all cells in one array, sizes and labels beside it, no pickles inside."""

import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trm_jax.support.files import DAMAGE
from trm_jax.wafer.maps.maps import UNKNOWN, class_index
from trm_jax.wafer.maps.validate import LOT_BLOCK, Loaded, assemble

_EXPECTED = {"flat": "u", "height": "iu", "width": "iu", "label": "iu", "row": "iu", "clean": "b"}
_EXPECTED |= {"lot_block": "iu", "fold": "iu", "official": "iu"}
_OPTIONAL = ["fold", "official", "clean"]
_KINDS = {"u": "bytes", "i": "integers", "b": "truth values", "U": "strings"}
# Real maps shrink to a tenth. Beyond both limits the file is made to fill the memory.
_LARGE, _SHRINKS = 2**28, 250
_LONGEST = 2**15 - 1


def read_npz(path: Path, named: Callable[[str], int] = class_index) -> Loaded:
    """Read ``flat``, ``height``, ``width``, and as far as they are there ``label`` with ``classes``, ``row``,
    ``clean``, ``lot_block``, ``fold`` and ``official``. ``named`` gives the class of a word in ``classes``.

    Raises ValueError, in one line, for a damaged file, an array of objects, or sizes that contradict each other: all
    that is told from the headers, before anything is allocated.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            present = _check_headers(archive)
        with np.load(path, allow_pickle=False) as arrays:
            values = {name: arrays[f"{name}.npy"] for name in present if name != "flat"}
            for name in ("height", "width"):
                if ((values[name] < 0) | (values[name] > _LONGEST)).any():
                    raise ValueError(f"{name} has entries that are no sides of a map")
            cells = int((values["height"].astype(np.int64) * values["width"].astype(np.int64)).sum())
            if cells != present["flat"]:
                raise ValueError(f"height * width adds up to {cells:,} cells, but flat has {present['flat']:,}")
            values["flat"] = arrays["flat.npy"]
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged or no file of wafer maps: {' '.join(str(error).split())}") from error
    return _loaded(path, values, named)


def _check_headers(archive: zipfile.ZipFile) -> dict[str, int]:
    """Lengths of the arrays that are there, by name, from their headers alone."""
    members = {info.filename[:-4]: info for info in archive.infolist() if info.filename.endswith(".npy")}
    missing = {"flat", "height", "width"} - set(members)
    if missing:
        raise ValueError(f"it has no array {', '.join(sorted(missing))}")
    if "label" in members and "classes" not in members:
        raise ValueError("it has labels, but no array 'classes' that names them")
    lengths = {name: _length(archive, info) for name, info in members.items() if name in {*_EXPECTED, "classes"}}
    for name, length in lengths.items():
        if name not in ("flat", "classes") and length != lengths["height"]:
            raise ValueError(f"{name} has {length:,} entries, height has {lengths['height']:,}")
    return lengths


def _length(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
        header = member.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} is an array of objects, which could run code; save it as numbers")
    if dtype.kind not in _EXPECTED.get(name, "U") or len(shape) != 1 or (name == "flat" and dtype.itemsize > 1):
        kind = _KINDS[_EXPECTED.get(name, "U")[0]]
        raise ValueError(f"{name} must be one row of {kind}, not {dtype} of shape {shape}")
    if header + math.prod(shape) * dtype.itemsize != info.file_size:
        raise ValueError(f"{name} has a header for {shape[0]:,} entries, and {info.file_size:,} bytes")
    if info.file_size > max(_LARGE, _SHRINKS * info.compress_size):
        raise ValueError(f"{name} would grow from {info.compress_size:,} bytes to {info.file_size:,}")
    return shape[0]


def _loaded(path: Path, values: dict[str, np.ndarray], named: Callable[[str], int]) -> Loaded:
    count = len(values["height"])
    row = values.get("row", np.arange(count))
    columns: dict[str, np.ndarray] = {name: values[name] for name in _OPTIONAL if name in values}
    for name in {"fold", "official"} & set(columns):
        if ((columns[name] < UNKNOWN) | (columns[name] > 100)).any():
            raise ValueError(f"{path}: {name} has entries outside -1 to 100")
    columns |= {"row": row, "group": values.get("lot_block", row // LOT_BLOCK)}
    faults: dict[int, str] = {}
    if "label" in values:
        label = values["label"].astype(np.int64)
        try:
            indices = np.array([*map(named, values["classes"].tolist()), UNKNOWN])
        except ValueError as error:
            raise ValueError(f"{path}, classes: {error}") from None
        bad = (label < UNKNOWN) | (label >= len(indices) - 1)
        faults = {int(index): f"has label {label[index]}, which is no index into classes" for index in bad.nonzero()[0]}
        columns["label"] = indices[np.where(bad, UNKNOWN, label)]
    try:
        return assemble(values["flat"], values["height"], values["width"], columns, str(path.name), faults)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
