"""Files of wafer maps, and folders of them with sub-folders named after the classes."""

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np

from trm_jax.support.terminal.progress import each
from trm_jax.wafer.maps.fab.bins import FoundMap, broken
from trm_jax.wafer.maps.readers.formats import content, map_format
from trm_jax.wafer.maps.validate import DEFAULTS, ReadOptions, ReadResult, Rejected, build_wafers, factorize
from trm_jax.wafer.maps.wafers import UNKNOWN, class_index

LABELS = "labels.csv"
_Table = dict[tuple[str, str], dict[str, str]]
"""Label and lot by file and wafer; an empty wafer is any."""


def read_folder(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """Read all maps of a folder and those below, in order of their names, which gives each its row.

    The nearest folder named after a class labels a map; maps at the top, or under ``unlabelled``, have no label. A file
    ``labels.csv`` at the top with columns ``file`` and ``label``, ``lot`` or both takes precedence, and with ``wafer``
    for files of several; a file without a lot is a group of its own. What cannot be read is rejected, also a directory
    or a pipe with such a name. Other files are counted in the notes; hidden ones are left out. Raises ValueError if
    there are no maps, or ``labels.csv`` does not fit them.
    """
    files, skipped = find_files(path)
    if not files:
        raise ValueError(f"{path} has no wafer maps: expected files such as .csv or .png, or a prepared cache")
    read = read_files(path, files, options, path / LABELS)
    kinds = Counter(file.suffix.lower() or "without a suffix" for file in skipped)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
    files_that = "file that is no map was" if len(skipped) == 1 else "files that are no maps were"
    note = f"{len(skipped):,} {files_that} left out: {listed}{', ...' * (len(kinds) > 6)}"
    return read._replace(notes=(note,) if skipped else ())


def find_files(path: Path) -> tuple[list[Path], list[Path]]:
    """What has the name of a map below a folder, in order of names, and all other files; nothing that is hidden."""
    maps, others = [], []
    for file in sorted(path.rglob("*")):
        if file != path / LABELS and not any(part.startswith(".") for part in file.relative_to(path).parts):
            if map_format(file):
                maps.append(file)
            elif file.is_file():
                others.append(file)
    return maps, others


def read_files(root: Path, files: list[Path], options: ReadOptions, labels_file: Path | None = None) -> ReadResult:
    """Read these files below a folder ``root``; errors as of `read_folder`."""
    names = [printable(file.relative_to(root).as_posix()) for file in files]
    table = _read_table(labels_file, set(names)) if labels_file else {}
    found: list[FoundMap] = []
    name_of: list[str] = []
    labels, lots, errors = [], [], {}
    for file, name in zip(each(files, options.progress, desc="reading", unit="map"), names, strict=True):
        for one in _maps(file, options):
            entry = table.get((name, one.wafer)) or table.get((name, "")) or {}
            reason, label = one.reason, UNKNOWN
            try:
                label = options.label(entry["label"]) if "label" in entry else _folder_label(file, root, options)
            except ValueError as error:
                reason = reason or str(error)
            if reason:
                errors[len(found)] = reason
            found.append(one._replace(lot=entry.get("lot") or one.lot))
            name_of.append(name)
            labels.append(label)
            lots.append(found[-1].lot or f"\n{name}")
    columns: dict[str, np.ndarray] = {
        "label": np.array(labels, np.int8),
        "row": np.arange(len(found)),
        "group": factorize(lots),
    }
    height, width = np.array([one.cells.shape for one in found]).T
    flat = np.concatenate([one.cells.ravel() for one in found])
    source = printable(root.name if labels_file else files[0].name)
    read = build_wafers(flat, height, width, columns, source, errors)
    kinds = {"file": name_of, "lot": [one.lot for one in found], "wafer": [one.wafer for one in found]}
    known = {kind: tuple(values) for kind, values in kinds.items() if any(values)}
    wafer = [f", wafer {one.wafer}" if one.wafer else "" for one in found]
    rejected = [Rejected(row, f"({name_of[row]!r}{wafer[row]}) {reason}") for row, reason in read.rejected]
    return read._replace(rejected=rejected, names=known)


def printable(name: str) -> str:
    """The name of a file as text that every encoding takes: bytes that are not UTF-8 become \\x.. escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _maps(file: Path, options: ReadOptions) -> list[FoundMap]:
    """The maps of a file, one that is broken for a file that cannot be read."""
    kind = map_format(file)
    assert kind is not None
    try:
        return kind.parse(content(file, kind.max_bytes), options)
    except ValueError as error:
        return [broken(str(error))]


def _folder_label(file: Path, root: Path, options: ReadOptions) -> int:
    """The class of the nearest folder that names one. Raises ValueError if there are only others."""
    folders = [folder.name for folder in file.parents if root in folder.parents]
    for folder in folders:
        try:
            return class_index(printable(folder))
        except ValueError:
            continue
    return options.label(printable(folders[0])) if folders else UNKNOWN


def _read_table(path: Path, names: set[str]) -> _Table:
    """Lines of ``labels.csv``, if there is one."""
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
    table: _Table = {}
    for number, line in lines:
        name = line["file"]
        if None in line or None in line.values():
            raise ValueError(f"{path}, line {number}: expected {len(columns)} fields")
        key = name, line.get("wafer", "").strip()
        if name not in names or key in table:
            reason = "occurs twice" if key in table else "is no map of this folder"
            raise ValueError(f"{path}, line {number}: {name!r} {reason}")
        table[key] = {kind: value.strip() for kind, value in line.items() if kind in ("label", "lot")}
    return table
