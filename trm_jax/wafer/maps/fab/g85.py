"""Maps in SEMI G85, the XML of map servers: a Map for each wafer, with its bins and a Row for each row of dies."""

import xml.etree.ElementTree as ElementTree

import numpy as np

from trm_jax.wafer.maps.fab.bins import FoundMap, bin_name, broken
from trm_jax.wafer.maps.readers.text import decode
from trm_jax.wafer.maps.validate import DEFAULTS, LARGEST_SIDE, ReadOptions
from trm_jax.wafer.maps.wafers import FAIL, NO_DIE, PASS

_MAX_BYTES = 16 * 2**20
_LETTERS = {"ascii": 1, "hexadecimal": 2, "decimal": 3, "integer2": 4}  # of a bin, by BinType


def parse_g85(content: bytes, options: ReadOptions = DEFAULTS) -> list[FoundMap]:
    """A map for each Map of a file. Passing are the bins of ``pass_bins``, else those of BinQuality Pass.

    Raises ValueError for what is not XML, for one with entities, which could be anything, and for one without a Map.
    """
    if len(content) > _MAX_BYTES:
        raise ValueError(f"is a file of {len(content):,} bytes; {_MAX_BYTES:,} are read")
    text = decode(content)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("is XML with a document type or entities, which a map does not need")
    try:
        root = ElementTree.fromstring(text.lstrip("\ufeff \t\r\n"))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"is damaged or not XML: {error}") from None
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]  # whatever its namespace
    maps = [root] if root.tag == "Map" else root.findall(".//Map")
    if not maps:
        raise ValueError(f"is XML of {root.tag[:40]!r} without a Map of SEMI G85")
    return [_one(element, options.pass_bins) for element in maps]


def _one(element: ElementTree.Element, pass_bins: frozenset[str]) -> FoundMap:
    device = element.find("Device")
    device = element if device is None else device
    names = (
        device.get("LotId") or element.get("LotId") or "",
        element.get("SubstrateId") or element.get("WaferId") or "",
    )
    rows = [row.text or "" for row in device.iter("Row")]
    letters = _LETTERS.get(device.get("BinType", "").casefold(), 2)
    split = [row.split() if len(row.split()) > 1 else _cut(row.strip(), letters) for row in rows]
    widths = {len(row) for row in split}
    if len(widths) != 1 or max(len(split), *widths) > LARGEST_SIDE:
        return broken(f"has no rows of the same length, at most {LARGEST_SIDE}", *names)
    quality = {bin_name(b.get("BinCode", "")): b.get("BinQuality", "").casefold() for b in device.iter("Bin")}
    nothing = bin_name(device.get("NullBin", "__"))
    passing = pass_bins or {name for name, good in quality.items() if good == "pass"}
    if not passing:
        return broken("does not say which bins pass; say it, such as --pass-bins 1", *names)
    codes = {cell: PASS if bin_name(cell) in passing else FAIL for cell in set().union(*split)}
    # Bins that are neither mark places without a product, such as alignment targets.
    absent = {nothing, *(name for name, good in quality.items() if good not in ("pass", "fail", "") and not pass_bins)}
    codes |= {cell: NO_DIE for cell in codes if bin_name(cell) in absent or not cell.strip("_. ")}
    return FoundMap(np.array([[codes[cell] for cell in row] for row in split], np.uint8), "", *names)


def _cut(row: str, letters: int) -> list[str]:
    return [row[place : place + letters] for place in range(0, len(row), letters)]
