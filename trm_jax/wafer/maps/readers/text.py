"""Maps in text files: grids of codes or bins as spreadsheets, numpy and testers write them, and lists of dies."""

import codecs
import csv
import re
from collections.abc import Sequence

import numpy as np

from trm_jax.wafer.maps.fab.bins import LARGEST_FILE, Die, FoundMap, broken, cell_codes, place
from trm_jax.wafer.maps.validate import DEFAULTS, LARGEST_SIDE, SMALLEST_SIDE, ReadOptions

_MAX_GRID = 4 * LARGEST_SIDE**2  # bytes: two for a cell, and as many to spare
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_COLUMNS = {
    "x": ("x", "xcoord", "xcoordinate", "diex", "xindex", "xpos", "col", "column"),
    "y": ("y", "ycoord", "ycoordinate", "diey", "yindex", "ypos", "row"),
    "bin": ("bin", "hardbin", "hbin", "hbinnum", "bincode", "binnumber", "softbin", "sbin", "passfail", "result"),
    "lot": ("lot", "lotid", "lotname"),
    "wafer": ("wafer", "waferid", "waferno", "wafernumber", "waferindex", "slot"),
}
_DIGITS = re.compile(r"-?\d{1,6}")


def decode(content: bytes) -> str:
    """The text of a file in UTF-8, or UTF-16 with a mark, without the mark; other bytes as Latin-1."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) if encoding == "utf-8" else 0 :].decode(encoding, "replace")
    return content.decode("latin-1")


def parse_text(content: bytes, options: ReadOptions = DEFAULTS) -> list[FoundMap]:
    """The maps of a text file: of a list of dies one a wafer, else its grid. Raises ValueError for other text."""
    text = decode(content)
    first = next((line for line in text.splitlines()[:100] if line.strip() and not line.startswith("#")), "")
    if "waferMap" in first:
        raise ValueError("is a frame saved as text, whose maps are cut; save it as a pickle or as parquet")
    first = first[:1000]
    names = ["".join(filter(str.isalnum, name)).casefold() for name in _split(first)]
    found = {kind: next((name for name in known if name in names), None) for kind, known in _COLUMNS.items()}
    columns = {kind: names.index(name) for kind, name in found.items() if name is not None}
    if {"x", "y", "bin"} <= columns.keys():
        return _wafers(text, columns, options)
    if len(names) == 3 and all(map(_DIGITS.fullmatch, _split(first))) and text.count("\n") > SMALLEST_SIDE:
        return _wafers(f"x,y,bin\n{text}", {"x": 0, "y": 1, "bin": 2}, options)
    return [FoundMap(parse_csv(content, options))]


def _split(line: str) -> list[str]:
    return [cell.strip().strip('"').strip() for cell in line.split(_delimiter([line]))]


def _delimiter(lines: Sequence[str]) -> str | None:
    """What stands between cells; None is any blanks."""
    return next((mark for mark in ",;\t" if any(mark in line for line in lines)), None)


def _wafers(text: str, columns: dict[str, int], options: ReadOptions) -> list[FoundMap]:
    """One map for each lot and wafer of a list of dies, in order of appearance."""
    if len(text) > LARGEST_FILE:
        raise ValueError(f"is a list of {len(text):,} characters; {LARGEST_FILE:,} are read")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    delimiter = _delimiter(lines[1:2])
    dies: dict[tuple[str, str], list[Die]] = {}
    known: dict[str, str] = {}
    rows = csv.reader(lines, delimiter=delimiter) if delimiter else map(str.split, lines)
    next(rows)  # names
    number = 1
    try:
        for row in rows:
            number += 1
            x, y = (int(float(row[columns[name]])) for name in "xy")
            if max(abs(x), abs(y)) >= 2**31:
                raise ValueError
            result = known.setdefault(row[columns["bin"]].strip(), row[columns["bin"]].strip())
            wafer = tuple(row[columns[name]].strip() if name in columns else "" for name in ("lot", "wafer"))
            dies.setdefault(wafer, []).append(Die(x, y, result))  # type: ignore[arg-type]
    except (ValueError, IndexError, OverflowError, csv.Error):
        raise ValueError(f"is a list of dies, but line {number} is no die: {lines[number - 1][:40]!r}") from None
    return [place(found, options.pass_bins, *wafer) for wafer, found in dies.items()] or [broken("has no die")]


def parse_csv(content: bytes, options: ReadOptions = DEFAULTS) -> np.ndarray:
    """Cells of a grid of codes 0, 1, 2, or of bins if it is known which pass; (height, width) uint8.

    Commas, semicolons, tabs or blanks stand between cells, or nothing; cells may be in quotes or have decimals; a dot
    or an empty cell is no die; names of columns and rows that only count are left out. Raises ValueError for another
    cell, naming line and cell, and for rows of different length.
    """
    if len(content) > _MAX_GRID:
        raise ValueError(f"is a file of {len(content):,} bytes; sides are {LARGEST_SIDE} at most")
    lines = [(n, line) for n, line in enumerate(decode(content).splitlines(), 1) if line.strip() and line[0] != "#"]
    if not lines:
        raise ValueError("is empty")
    numbers = [number for number, _ in lines]
    rows = _without_counts(_cells([line for _, line in lines]), numbers)
    return grid(rows, numbers, options)


def grid(rows: list[list[str]], numbers: Sequence[int], options: ReadOptions) -> np.ndarray:
    """Cells (height, width) uint8 of rows of text, which stand in these lines; errors as of `parse_csv`."""
    different = set().union(*rows)
    two_digits = all(len(cell) == 2 for cell in different)
    codes = cell_codes(different, options.pass_bins, two_digits)
    for number, row in zip(numbers, rows, strict=True):
        wrong = next((cell for cell in row if cell not in codes), None)
        if wrong is not None:
            hint = "; for bins say which pass: --pass-bins 1" if wrong.isalnum() else ""
            raise ValueError(f"has a cell {wrong[:20]!r} in line {number}; cells are 0, 1 or 2{hint}")
        if len(row) != len(rows[0]):
            raise ValueError(f"has {len(row)} cells in line {number}, {len(rows[0])} in line {numbers[0]}")
    return np.array([[codes[cell] for cell in row] for row in rows], np.uint8)


def _cells(lines: list[str]) -> list[list[str]]:
    delimiter = _delimiter(lines)
    if delimiter:
        rows = [[cell.strip().strip('"') for cell in line.split(delimiter)] for line in lines]
        if all(len(row) > 1 and not row[-1] for row in rows):  # what ends with a comma has no cell after it
            rows = [row[:-1] for row in rows]
        return rows
    rows = [line.split() for line in lines]
    same_length = len({len(line) for line in lines}) == 1
    if same_length and all(len(row) == 1 and len(row[0]) > 1 for row in rows) and len(lines) > 1:
        return [list(row[0]) for row in rows]
    if same_length and len({len(row) for row in rows}) > 1 and not any("".join(line[1::2]).strip() for line in lines):
        return [[cell.strip() for cell in line[::2]] for line in lines]
    return rows


def _without_counts(rows: list[list[str]], numbers: list[int]) -> list[list[str]]:
    """Without a first line of 0, 1, 2, ... over the columns, and a first column of them, as pandas writes."""
    head = rows[0][1:] if rows[0][0] == "" else rows[0]
    if len(head) < SMALLEST_SIDE or head != [str(place) for place in range(len(head))]:
        return rows
    if len(head) < len(rows[0]):
        if [row[0] for row in rows[1:]] != [str(place) for place in range(len(rows) - 1)]:
            return rows
        rows = [row[1:] for row in rows]
    del numbers[0]
    return rows[1:]
