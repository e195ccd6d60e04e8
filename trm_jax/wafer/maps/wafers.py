"""Wafer maps of many sizes in one flat array, with their labels and the lots that must not be torn apart.

A cell is 0 where there is no die (or it was not tested), 1 for a passing die, 2 for a failing die.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

CLASSES = ("Center", "Donut", "Edge-Loc", "Edge-Ring", "Loc", "Near-full", "Random", "Scratch", "none")
NONE = CLASSES.index("none")  # wafers without a pattern
NO_DIE, PASS, FAIL = 0, 1, 2
LOT = 25  # wafers in a full lot
_MAX_CELLS = 2**24  # of all maps that are worked on at a time
UNKNOWN = -1  # in label, fold and official: the source does not say


@dataclass(frozen=True)
class Wafers:
    """N wafer maps. ``flat`` may be a memory map; everything else has one entry a wafer."""

    flat: np.ndarray
    """uint8, the cells of all maps, row by row."""
    start: np.ndarray
    """int64 (N,), where a map begins in ``flat``."""
    height: np.ndarray
    """int16 (N,), rows of a map."""
    width: np.ndarray
    """int16 (N,), columns of a map."""
    label: np.ndarray
    """int8 (N,), index into CLASSES, or UNKNOWN."""
    row: np.ndarray
    """int64 (N,), position in the source."""
    group: np.ndarray
    """int32 (N,), lot or block of lots; no split may have wafers of a group on both sides."""
    fold: np.ndarray
    """int8 (N,), fold that the source prescribes, or UNKNOWN."""
    official: np.ndarray
    """int8 (N,), 0 for the official training part, 1 for the official test part, or UNKNOWN."""
    clean: np.ndarray
    """bool (N,), False for a later copy of an identical map, and for identical maps with contradicting labels."""
    source: str
    """What the maps are, for people to read; begins with "synthetic" where they are generated."""

    def __len__(self) -> int:
        return len(self.start)

    def map(self, index: int) -> np.ndarray:
        """One map at its native size, (height, width) uint8."""
        start, height, width = int(self.start[index]), int(self.height[index]), int(self.width[index])
        return np.asarray(self.flat[start : start + height * width]).reshape(height, width)

    def take(self, chosen: np.ndarray) -> "Wafers":
        """The wafers at these indices, or where this mask is True; the cells are shared, not copied."""
        per_wafer = [field.name for field in fields(self) if field.name not in ("flat", "source")]
        return replace(self, **{name: getattr(self, name)[chosen] for name in per_wafer})

    def iter_same_shape(self, max_batch: int = 4096) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All maps of one size together, so that work on them is one array operation.

        Yields indices (k,) and maps (k, height, width), at most ``max_batch`` at a time, and fewer large ones.
        """
        sizes = self.height.astype(np.int64) * 2**16 + self.width
        order = np.argsort(sizes, kind="stable")
        borders = np.flatnonzero(np.diff(sizes[order])) + 1
        for same in np.split(order, borders) if len(self) else ():
            height, width = int(self.height[same[0]]), int(self.width[same[0]])
            batch = max(1, min(max_batch, _MAX_CELLS // (height * width)))
            for begin in range(0, len(same), batch):
                part = same[begin : begin + batch]
                cells = self.start[part][:, None] + np.arange(height * width)
                yield part, self.flat[cells].reshape(len(part), height, width)


def packed(maps: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The fields of `Wafers` that hold these maps, each (height, width) uint8."""
    height, width = np.array([cells.shape for cells in maps], np.int16).reshape(-1, 2).T
    area = height.astype(np.int64) * width
    flat = np.concatenate([np.zeros(0, np.uint8), *(cells.ravel() for cells in maps)])
    return {"flat": flat, "start": np.cumsum(area) - area, "height": height, "width": width}


_UNLABELLED = ("", "unlabelled", "unlabeled", "nan", "null", "unknown")
_OTHER_NAMES = {
    "edgelocal": "Edge-Loc", "local": "Loc", "scratches": "Scratch", "donuts": "Donut",
    "normal": "none", "clean": "none", "nodefect": "none", "nopattern": "none",
}  # fmt: skip


def _normalized(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter not in "-_ \t")


_INDEX = {_normalized(name): index for index, name in enumerate(CLASSES)} | {word: UNKNOWN for word in _UNLABELLED}
_INDEX |= {word: CLASSES.index(name) for word, name in _OTHER_NAMES.items()}


def class_index(word: str) -> int:
    """Index into CLASSES, whatever the case, hyphens, underscores and spaces; UNKNOWN for an empty word.

    Common other names of a class are known, too. The word "none" is the class of wafers without a pattern, not a
    missing label. Raises ValueError for any other word.
    """
    if _normalized(word) not in _INDEX:
        near = difflib.get_close_matches(_normalized(word), _INDEX, 1, 0.75)
        hint = f" (did you mean {CLASSES[_INDEX[near[0]]]}?)" if near and _INDEX[near[0]] != UNKNOWN else ""
        raise ValueError(f"unknown class {word!r}; known are {', '.join(CLASSES)}{hint}")
    return _INDEX[_normalized(word)]


def class_or_unknown(word: str) -> int:
    """Index into CLASSES, or UNKNOWN for any word that names no class: how maps to classify are read."""
    return _INDEX.get(_normalized(word), UNKNOWN)
