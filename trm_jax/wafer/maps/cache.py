"""Prepared wafer maps: a directory that is mapped into memory instead of being read.

``flat.npy`` has the cells, ``wafers.npy`` one record a wafer, ``rejected.csv`` what was left out, ``manifest.json`` the
source, the meaning of the codes, counts, checksums of the other files, and the notice that must travel with copies of
WM-811K.
"""

import csv
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from trm_jax.support.files import DAMAGE, one_line, replacing_directory, sha256
from trm_jax.wafer.maps.answers import plain_cell
from trm_jax.wafer.maps.validate import LARGEST_SIDE, SMALLEST_SIDE, ReadResult, Rejected, find_copies
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN, Wafers

FORMAT = 1
NOTICE = """\
Copyright 2015 Jyh-Shing Roger Jang. Redistribution and use of this data set, with or without modification, are \
permitted provided that (1) redistribution in any form retains the above copyright notice and this list of conditions; \
(2) redistribution and use in any form is accompanied by the citations: M.-J. Wu, J.-S. R. Jang, J.-L. Chen, "Wafer \
Map Failure Pattern Recognition and Similarity Ranking for Large-Scale Data Sets," IEEE Trans. Semiconductor \
Manufacturing 28(1):1-12, 2015, doi:10.1109/TSM.2014.2364237; and MIR-WM811K: Dataset for wafer map failure pattern \
recognition, 2015."""
NO_SUMS = "it has no checksums and is read without knowing that it is whole; prepare it again to have them"
_CONTENT = ("flat.npy", "wafers.npy", "rejected.csv")
_FILES = {*_CONTENT, "manifest.json"}
_RECORD = np.dtype(
    [("start", "<i8"), ("height", "<i2"), ("width", "<i2"), ("label", "i1"), ("row", "<i8"), ("group", "<i4")]
    + [("fold", "i1"), ("official", "i1"), ("clean", "?")]
)


def is_cache(path: Path) -> bool:
    """Whether this directory was written by ``write_cache``."""
    return (path / "manifest.json").is_file()


def source_sha256(path: Path) -> str:
    """Checksum of a file, or of the names and checksums of all files below a folder, in hexadecimal."""
    if path.is_file():
        return sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    names = "".join(f"{source_sha256(file)} {file.relative_to(path).as_posix()}\n" for file in files)
    return hashlib.sha256(os.fsencode(names)).hexdigest()


def notice(path: Path) -> str:
    """The data notice that a source asks for: that of WM-811K for its pickle and its .npz, that of a cache for a cache.

    Other maps have none that is known here.
    """
    if is_cache(path):
        return str(read_manifest(path)["notice"])
    is_wm811k = path.suffix == ".pkl" or (path.suffix == ".npz" and "wm811k" in str(path.absolute()).lower())
    return NOTICE if is_wm811k else ""


def counts(result: ReadResult) -> dict[str, Any]:
    """How many maps, labels, classes, copies and contradictions there are."""
    wafers, copies = result.wafers, find_copies(result.wafers)
    labelled = wafers.label[wafers.label != UNKNOWN]
    return {
        "maps": len(wafers),
        "labelled": len(labelled),
        "unlabelled": len(wafers) - len(labelled),
        "rejected": len(result.rejected),
        "duplicates": int(copies.duplicate.sum()),
        "conflicts": int(copies.conflict.sum()),
        "not clean": int((~wafers.clean).sum()),
        "classes": dict(zip(CLASSES, np.bincount(labelled, minlength=len(CLASSES)).tolist(), strict=True)),
    }


def write_cache(path: Path, result: ReadResult, manifest: dict[str, Any]) -> dict[str, Any]:
    """Write a cache in place of ``path``, whole or not at all; returns its manifest, the one given with counts added.

    Raises ValueError if ``path`` is anything but a cache, without other files, or an empty directory.
    """
    if path.exists():
        names = {entry.name for entry in path.iterdir()} if path.is_dir() else {path.name}
        if names and not _FILES - {"rejected.csv"} <= names <= _FILES:
            raise ValueError(f"{path} exists and is not a cache, or not only a cache; give another --output")
    wafers = result.wafers
    area = wafers.height.astype(np.int64) * wafers.width
    manifest = {
        "format": FORMAT,
        **manifest,
        "codes": {"0": "no die, or not tested", "1": "passing die", "2": "failing die"},
        "class_order": list(CLASSES),
        "cells": int(area.sum()),
        "counts": counts(result),
    }
    with replacing_directory(path) as temporary:
        _write_flat(temporary / "flat.npy", wafers, area)
        records = np.empty(len(wafers), _RECORD)
        for name in _RECORD.names or ():
            records[name] = getattr(wafers, name)
        records["start"] = np.cumsum(area) - area
        np.save(temporary / "wafers.npy", records)
        with (temporary / "rejected.csv").open("w", newline="", encoding="utf-8") as file:
            rows = [(row, plain_cell(reason)) for row, reason in result.rejected]
            csv.writer(file, lineterminator="\n").writerows([Rejected._fields, *rows])
        manifest["checksums"] = {name: sha256(temporary / name) for name in _CONTENT}
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def read_cache(path: Path) -> ReadResult:
    """Map a cache into memory, with the list of what was left out when it was made; a note where it has no checksums.

    Raises ValueError if it was made by another version, or its files are not what was written.
    """
    manifest = read_manifest(path)
    try:
        if not all((path / name).is_file() for name in _FILES):
            raise ValueError(f"it has not all of {', '.join(sorted(_FILES))}")
        flat = np.load(path / "flat.npy", mmap_mode="r", allow_pickle=False)
        records = np.load(path / "wafers.npy", mmap_mode="r", allow_pickle=False)
        with (path / "rejected.csv").open(newline="", encoding="utf-8") as file:
            rejected = [Rejected(int(row), reason) for row, reason in list(csv.reader(file, strict=True))[1:]]
        sizes = manifest["cells"], manifest["counts"]["maps"], manifest["counts"]["rejected"]
        if flat.dtype != np.uint8 or records.dtype != _RECORD or flat.ndim != 1 or records.ndim != 1:
            raise ValueError("its arrays have other types")
        if sizes != (len(flat), len(records), len(rejected)):
            raise ValueError(f"its files have other sizes than its manifest says: {sizes}")
        columns = {name: records[name].copy() for name in _RECORD.names or ()}
        wafers = Wafers(flat, **columns, source=str(manifest["source"]))
        _check_wafers(wafers)
        sums = manifest.get("checksums")
        damaged = [name for name in _CONTENT if sums is not None and sha256(path / name) != sums[name]]
        if damaged:
            raise ValueError(f"{', '.join(damaged)} is not what was written (wrong SHA-256)")
    except (*DAMAGE, csv.Error) as error:
        raise ValueError(f"{path} is damaged; prepare it again: {one_line(error)}") from error
    return ReadResult(wafers, rejected, notes=() if sums is not None else (NO_SUMS,))


def is_prepared(path: Path, origin: dict[str, Any]) -> bool:
    """Whether a directory was prepared from this source, and is whole; what it lacks is said on stderr.

    Raises ValueError if it was prepared from another source.
    """
    if not is_cache(path):
        return False
    known = read_manifest(path)
    if any(known[name] != origin[name] for name in ("sha256", "selection")):
        raise ValueError(f"{path} was prepared from {known['source']} or another selection; --force replaces it")
    try:
        faults = [f"{path}: {note}" for note in read_cache(path).notes]
    except ValueError as error:
        faults = [str(error)]
    for fault in faults:
        print(fault, file=sys.stderr)
    return not faults


def _check_wafers(wafers: Wafers) -> None:
    """Raise ValueError for maps outside of the cells or of wrong size, and for labels beyond the classes."""
    sides = np.concatenate([wafers.height, wafers.width])
    end = wafers.start + wafers.height.astype(np.int64) * wafers.width
    inside = (wafers.start >= 0) & (end >= wafers.start) & (end <= len(wafers.flat))
    if not inside.all() or ((sides < SMALLEST_SIDE) | (sides > LARGEST_SIDE)).any():
        raise ValueError("a map reaches outside the cells")
    if ((wafers.label < UNKNOWN) | (wafers.label >= len(CLASSES))).any():
        raise ValueError("it has labels that are not classes")


def read_manifest(path: Path) -> dict[str, Any]:
    """What a cache says about itself. Raises ValueError if this version cannot read it."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        version = manifest["format"], manifest["class_order"]
        missing = {"source", "sha256", "selection", "notice", "cells", "counts"} - set(manifest)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(f"{path / 'manifest.json'} is damaged; prepare the maps again: {error}") from None
    if version != (FORMAT, list(CLASSES)) or missing:
        raise ValueError(
            f"{path} was prepared by another version (format {version[0]}, not {FORMAT}); prepare it again"
        )
    return manifest


def _write_flat(path: Path, wafers: Wafers, area: np.ndarray) -> None:
    """The cells of all maps one after another; those that already are go in one piece."""
    end = wafers.start + area
    borders = np.flatnonzero(wafers.start[1:] != end[:-1]) + 1
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (int(area.sum()),)}
        np.lib.format.write_array_header_1_0(file, header)
        for first, last in zip([0, *borders], [*borders, len(area)], strict=True):
            if last > first:
                file.write(np.ascontiguousarray(wafers.flat[wafers.start[first] : end[last - 1]]).data)
