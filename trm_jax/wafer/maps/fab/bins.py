"""What the dies of a file become: bins are passing or failing, dies of a list get their place, several maps a file."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from trm_jax.wafer.maps.validate import LARGEST_SIDE
from trm_jax.wafer.maps.wafers import FAIL, NO_DIE, PASS

LARGEST_FILE = 32 * 2**20
"""Bytes of a file of dies."""
NOTHING = frozenset(("", ".", "nan"))
"""Cells without a die, beside underscores."""
_NUMBER = re.compile(r"0*([012])(?:\.0*(?:e[+-]?0+)?)?", re.IGNORECASE | re.ASCII)
_VERDICTS = {"p": PASS, "pass": PASS, "passed": PASS, "f": FAIL, "fail": FAIL, "failed": FAIL}
_SPREAD, _SMALL = 50, 2500  # cells of a map for each of its dies, and those that any map may have
_SHOWN = 6  # bins in a message


class FoundMap(NamedTuple):
    """A map of a file, or the reason why it is none."""

    cells: np.ndarray
    """(height, width) uint8; (0, 0) if it is no map."""
    reason: str = ""
    lot: str = ""
    wafer: str = ""


class Die(NamedTuple):
    """A tested die."""

    x: int
    y: int
    result: str
    """A bin, or PASS or FAIL in words."""


def broken(reason: str, lot: str = "", wafer: str = "") -> FoundMap:
    """What stands for a map that cannot be used."""
    return FoundMap(np.zeros((0, 0), np.uint8), reason, lot, wafer)


def bin_name(text: str) -> str:
    """A bin in one spelling: 1, 01, 0x1 and 1.0 are the same."""
    text = re.sub(r"\.0*$", "", text.strip().casefold().removeprefix("0x"))
    return text.lstrip("0") or ("0" if text else "")


def parse_pass_bins(text: str) -> frozenset[str]:
    """The bins of ``--pass-bins``, with commas or blanks between."""
    return frozenset(bin_name(part) for part in re.split(r"[,\s]+", text.strip()) if part)


def is_nothing(cell: str) -> bool:
    """Whether a cell stands for no die in any file."""
    return cell.casefold() in NOTHING or (cell.count("_") == len(cell))


def cell_codes(cells: Collection[str], pass_bins: frozenset[str], all_hex: bool = False) -> dict[str, int]:
    """The code of each of the different cells of a grid; a cell that has none is left out.

    Without ``pass_bins`` cells are the codes 0, 1 and 2. With them they are bins, and 0 is no die where nothing else is
    and no passing bin either; so are -1, and FF in files of two digits. Raises ValueError where 0 could be both.
    """
    nothing = {cell for cell in cells if is_nothing(cell)}
    if pass_bins:
        nothing |= {cell for cell in cells if cell == "-1" or (all_hex and cell.casefold() == "ff")}
        if not nothing and "0" not in pass_bins:
            nothing = {cell for cell in cells if bin_name(cell) == "0"}
        return {c: NO_DIE if c in nothing else PASS if bin_name(c) in pass_bins else FAIL for c in cells}
    codes = {cell: _code(cell) for cell in cells if cell not in nothing}
    if nothing and NO_DIE in codes.values():
        example = repr(min(nothing))
        raise ValueError(f"has cells 0 and {example}, which both may be no die; say which bins pass: --pass-bins 0")
    return {cell: code for cell, code in codes.items() if code >= 0} | dict.fromkeys(nothing, NO_DIE)


def _code(cell: str) -> int:
    """The code that a number stands for, or -1."""
    number = _NUMBER.fullmatch(cell)
    return int(number[1]) if number else -1


def place(dies: Sequence[Die], pass_bins: frozenset[str], lot: str = "", wafer: str = "") -> FoundMap:
    """The map of a wafer's dies; of a die that was tested again the last result counts."""
    if not dies:
        return broken("has no die", lot, wafer)
    results = {die.result for die in dies}
    codes = {result: _VERDICTS.get(result.casefold()) for result in results}
    if pass_bins:
        codes = {result: code or (PASS if bin_name(result) in pass_bins else FAIL) for result, code in codes.items()}
    if None in codes.values():
        return broken(f"has {_listed(die.result for die in dies)}; say which pass, such as --pass-bins 1", lot, wafer)
    x, y = np.array([die.x for die in dies]), np.array([die.y for die in dies])
    height, width = (int(side.max() - side.min()) + 1 for side in (y, x))
    if max(height, width) > LARGEST_SIDE:
        return broken(f"is {height} x {width}; sides are {LARGEST_SIDE} at most", lot, wafer)
    if height * width > max(_SMALL, _SPREAD * len(dies)):
        return broken(f"has {len(dies)} dies in {height} x {width} places", lot, wafer)
    cells = np.zeros((height, width), np.uint8)
    cells[y - y.min(), x - x.min()] = np.array([codes[die.result] for die in dies], np.uint8)
    return FoundMap(cells, "", lot, wafer)


def _listed(results: Iterable[str]) -> str:
    """The bins and how many dies each has, the most frequent first."""
    counts: dict[str, int] = {}
    for result in results:
        counts[result[:20]] = counts.get(result[:20], 0) + 1
    most = sorted(counts.items(), key=lambda entry: -entry[1])
    listed = ", ".join(f"{name or 'empty'} ({count} dies)" for name, count in most[:_SHOWN])
    return f"bins {listed}" + (f" and {len(most) - _SHOWN} more" if len(most) > _SHOWN else "")
