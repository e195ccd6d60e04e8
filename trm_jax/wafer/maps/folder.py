"""A folder of wafer maps: one .csv or .png file each, in sub-folders named after the classes."""

import csv
import io
import os
import re
import stat
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trm_jax.support.progress import each
from trm_jax.wafer.maps.validate import LARGEST_SIDE, ReadResult, Rejected, build_wafers, factorize
from trm_jax.wafer.maps.wafers import UNKNOWN, class_index

LABELS = "labels.csv"
_BETWEEN = re.compile(rb"[,;\s]+")
_MAX_BYTES = 4 * LARGEST_SIDE**2  # two for a cell, and as many to spare
_GREY = {0: 0, 127: 1, 128: 1, 255: 2}


def read_folder(path: Path, progress: bool = False, label_index: Callable[[str], int] = class_index) -> ReadResult:
    """Read all .csv and .png files of a folder and those below, in order of their names, which gives each its row.

    The name of its sub-folder labels a map; maps at the top, or under ``unlabelled``, have no label. A file
    ``labels.csv`` at the top with columns ``file`` and ``label``, ``lot`` or both takes precedence; a map without a lot
    is a group of its own. ``label_index`` gives the class of a label. What cannot be read is rejected, also a directory
    or a pipe with such a name. Raises ValueError if there are no maps, or ``labels.csv`` does not fit them.
    """
    files = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in (".csv", ".png") and file != path / LABELS
    )
    if not files:
        raise ValueError(f"{path} has no wafer maps: expected one .csv or .png file a map, or a prepared cache")
    names = [printable(file.relative_to(path).as_posix()) for file in files]
    table = _read_table(path / LABELS, set(names))
    label = np.full(len(files), UNKNOWN, np.int8)
    lots, maps, errors = [], [], {}
    for index, (file, name) in enumerate(zip(each(files, progress, desc="reading", unit="map"), names, strict=True)):
        folder = "" if file.parent == path else printable(file.parent.name)
        entry = table.get(name, {})
        lots.append(entry.get("lot") or f"\n{name}")
        cells = np.zeros((0, 0), np.uint8)
        try:
            label[index] = label_index(entry.get("label", folder))
            cells = (_parse_png if file.suffix.lower() == ".png" else parse_csv)(_content(file))
        except ValueError as error:
            errors[index] = str(error)
        maps.append(cells)
    height, width = np.array([cells.shape for cells in maps]).T
    columns: dict[str, np.ndarray] = {"label": label, "row": np.arange(len(files)), "group": factorize(lots)}
    flat = np.concatenate([cells.ravel() for cells in maps])
    wafers, rejected, _ = build_wafers(flat, height, width, columns, printable(path.name), errors)
    return ReadResult(wafers, [Rejected(row, f"({names[row]!r}) {reason}") for row, reason in rejected], tuple(names))


def printable(name: str) -> str:
    """The name of a file as text that every encoding takes: bytes that are not UTF-8 become \\x.. escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _content(path: Path) -> bytes:
    """The bytes of a file that can be a map. Raises ValueError for what is not a file, too large or unreadable."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        if status.st_size > _MAX_BYTES:
            raise ValueError(f"is a file of {status.st_size:,} bytes; sides are {LARGEST_SIDE} at most")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None


def parse_csv(text: bytes) -> np.ndarray:
    """Cells of a map from rows of 0, 1 and 2 with commas, semicolons or blanks between; (height, width) uint8.

    Raises ValueError for another cell, naming line and cell, and for rows of different length.
    """
    rows = [(number, _BETWEEN.split(line.strip())) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not rows:
        raise ValueError("is empty")
    for number, row in rows:
        wrong = next((cell for cell in row if cell not in (b"0", b"1", b"2")), None)
        if wrong is not None:
            raise ValueError(f"has a cell {wrong[:20].decode('latin1')!r} in line {number}; cells are 0, 1 or 2")
        if len(row) != len(rows[0][1]):
            raise ValueError(f"has {len(row)} cells in line {number}, {len(rows[0][1])} in line {rows[0][0]}")
    return np.array([row for _, row in rows]).view(np.uint8) - ord("0")


def _parse_png(content: bytes) -> np.ndarray:
    """Grey values 0, 1, 2 as they are, or 0, 127 or 128, and 255 for them."""
    try:
        from PIL import Image
    except ImportError:  # on a device
        raise ValueError("needs Pillow (pip install pillow), or save it as .csv") from None
    _check_chunks(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=["PNG"])
            # Before the pixels are unpacked.
            if max(image.size) > LARGEST_SIDE:
                raise ValueError(f"is {image.height} x {image.width}; sides are {LARGEST_SIDE} at most")
            if image.mode != "L":
                raise ValueError(f"is an image of mode {image.mode}; save it as 8-bit grey (mode L)")
            cells = np.array(image)
    except (OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"is damaged or not a PNG: {' '.join(str(error).split())}") from None
    if cells.max(initial=0) <= 2:
        return cells
    strange = np.setdiff1d(cells, list(_GREY))
    if len(strange):
        raise ValueError(f"has a grey value {strange[0]}; they are 0, 1, 2 or 0, 128, 255")
    return np.select([cells == grey for grey in _GREY], list(_GREY.values())).astype(np.uint8)


def _check_chunks(content: bytes) -> None:
    """Refuse a PNG with a chunk that claims to be longer than the file."""
    place = 8
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        place += 12 + length
        if place > len(content):
            raise ValueError(f"is damaged or not a PNG: a chunk of {length:,} bytes reaches beyond the end")


def _read_table(path: Path, names: set[str]) -> dict[str, dict[str, str]]:
    """Lines of ``labels.csv`` by file, if there is one."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            columns, lines = reader.fieldnames or [], [(reader.line_num, line) for line in reader]
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    if "file" not in columns or not {"label", "lot"} & set(columns) or len(set(columns)) < len(columns):
        raise ValueError(f"{path} must have a column file, and label, lot or both; its header is {columns}")
    table: dict[str, dict[str, str]] = {}
    for number, line in lines:
        name = line["file"]
        if None in line or None in line.values():
            raise ValueError(f"{path}, line {number}: expected {len(columns)} fields")
        if name not in names or name in table:
            reason = "occurs twice" if name in table else "is not a .csv or .png file of this folder"
            raise ValueError(f"{path}, line {number}: {name!r} {reason}")
        table[name] = {key: value.strip() for key, value in line.items() if key in ("label", "lot")}
    return table
