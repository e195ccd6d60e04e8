"""A folder of wafer maps: one .csv or .png file each, in sub-folders named after the classes."""

import csv
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trm_jax.support.progress import each
from trm_jax.wafer.maps.maps import UNKNOWN, class_index
from trm_jax.wafer.maps.validate import LARGEST_SIDE, Loaded, Rejected, assemble, numbered

LABELS = "labels.csv"
_BETWEEN = re.compile(rb"[,;\s]+")
_LARGEST_FILE = 4 * LARGEST_SIDE**2  # bytes: two for a cell, and as many to spare
_GREY = {0: 0, 127: 1, 128: 1, 255: 2}


def read_folder(path: Path, progress: bool = False, named: Callable[[str], int] = class_index) -> Loaded:
    """Read all .csv and .png files of a folder and those below, in order of their names, which gives each its row.

    The name of its sub-folder labels a map; maps at the top, or under ``unlabelled``, have no label. A file
    ``labels.csv`` at the top with columns ``file`` and ``label``, ``lot`` or both takes precedence; a map without a lot
    is a group of its own. ``named`` gives the class of a label. Raises ValueError if there are no maps, or
    ``labels.csv`` does not fit them.
    """
    files = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in (".csv", ".png") and file != path / LABELS
    )
    if not files:
        raise ValueError(f"{path} has no wafer maps: expected one .csv or .png file a map, or a prepared cache")
    names = [file.relative_to(path).as_posix() for file in files]
    table = _read_table(path / LABELS, set(names))
    label = np.full(len(files), UNKNOWN, np.int8)
    lots, maps, faults = [], [], {}
    for index, (file, name) in enumerate(zip(each(files, progress, desc="reading", unit="map"), names, strict=True)):
        folder = "" if file.parent == path else file.parent.name
        entry = table.get(name, {})
        lots.append(entry.get("lot") or f"\n{name}")
        cells = np.zeros((0, 0), np.uint8)
        try:
            label[index] = named(entry.get("label", folder))
            cells = _read_png(file) if file.suffix.lower() == ".png" else _read_csv(file)
        except ValueError as error:
            faults[index] = str(error)
        maps.append(cells)
    height, width = np.array([cells.shape for cells in maps]).T
    columns: dict[str, np.ndarray] = {
        "label": label,
        "row": np.arange(len(files)),
        "group": numbered(lots),
    }
    flat = np.concatenate([cells.ravel() for cells in maps])
    wafers, rejected, _ = assemble(flat, height, width, columns, path.name, faults)
    return Loaded(wafers, [Rejected(row, f"({names[row]!r}) {reason}") for row, reason in rejected], tuple(names))


def parse_csv(text: bytes) -> np.ndarray:
    """Cells of a map from rows of 0, 1 and 2 with commas, semicolons or blanks between; (height, width) uint8.

    Raises ValueError for another cell, naming line and cell, and for rows of different length.
    """
    rows = [(number, _BETWEEN.split(line.strip())) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not rows:
        raise ValueError("is empty")
    for number, row in rows:
        wrong = [cell for cell in row if cell not in (b"0", b"1", b"2")]
        if wrong:
            raise ValueError(f"has a cell {wrong[0][:20].decode('latin1')!r} in line {number}; cells are 0, 1 or 2")
        if len(row) != len(rows[0][1]):
            raise ValueError(f"has {len(row)} cells in line {number}, {len(rows[0][1])} in line {rows[0][0]}")
    return np.array([row for _, row in rows]).view(np.uint8) - ord("0")


def _read_csv(path: Path) -> np.ndarray:
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"is a file of {path.stat().st_size:,} bytes; sides are {LARGEST_SIDE} at most")
    return parse_csv(path.read_bytes())


def _read_png(path: Path) -> np.ndarray:
    """Grey values 0, 1, 2 as they are, or 0, 127 or 128, and 255 for them."""
    from PIL import Image  # not needed, and not there, where maps are read on a device

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=["PNG"])
        with image:
            # Before the pixels are unpacked.
            if max(image.size) > LARGEST_SIDE:
                raise ValueError(f"is {image.height} x {image.width}; sides are {LARGEST_SIDE} at most")
            if image.mode != "L":
                raise ValueError(f"is an image of mode {image.mode}; save it as 8-bit grey (mode L)")
            cells = np.array(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"is damaged or no PNG: {' '.join(str(error).split())}") from None
    if cells.max(initial=0) <= 2:
        return cells
    strange = np.setdiff1d(cells, list(_GREY))
    if len(strange):
        raise ValueError(f"has a grey value {strange[0]}; they are 0, 1, 2 or 0, 128, 255")
    return np.select([cells == grey for grey in _GREY], list(_GREY.values())).astype(np.uint8)


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
            reason = "occurs twice" if name in table else "is no .csv or .png file of this folder"
            raise ValueError(f"{path}, line {number}: {name!r} {reason}")
        table[name] = {key: value.strip() for key, value in line.items() if key in ("label", "lot")}
    return table
