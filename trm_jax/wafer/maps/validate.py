"""Which wafer maps cannot be used, and which say what an earlier one has said or contradicted."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from trm_jax.wafer.maps.wafers import FAIL, NO_DIE, UNKNOWN, Wafers, class_index, class_or_unknown

SMALLEST_SIDE, LARGEST_SIDE = 5, 1024
LOT_BLOCK = 250  # consecutive wafers that stay together where the source names no lots: ten lots of 25
NAMES = ("file", "lot", "wafer", "index")
"""Kinds of names, in the order of the table of answers."""
_MAX_EMPTY, _MAX_REJECTED = 100_000, 300_000


class ReadOptions(NamedTuple):
    """How a source is read."""

    to_classify: bool = False
    """A label that names none of the nine classes is no label, instead of a reason to leave the map out."""
    pass_bins: frozenset[str] = frozenset()
    """Names of the bins of passing dies, as `bins.bin_name` writes them, for files that have bins."""
    progress: bool = False
    """Show a bar."""

    def label(self, word: str) -> int:
        """Index of the class that a label names, or UNKNOWN. Raises ValueError for one that names none."""
        return class_or_unknown(word) if self.to_classify else class_index(word)


DEFAULTS = ReadOptions()


class Rejected(NamedTuple):
    """A map that was left out, by its position in the source."""

    row: int
    reason: str


class ReadResult(NamedTuple):
    """What a source holds: the maps that can be used, and the others."""

    wafers: Wafers
    rejected: list[Rejected]
    names: Mapping[str, Sequence[str]] = MappingProxyType({})
    """What the source calls the maps: for some of NAMES the name by row."""
    notes: tuple[str, ...] = ()
    """What was not read, such as files that are no maps; a sentence each."""

    @property
    def first_reason(self) -> str:
        """Which map was rejected first, and why."""
        return f"row {self.rejected[0].row} {self.rejected[0].reason}" if self.rejected else ""


class Copies(NamedTuple):
    """Maps that are not the first of their kind, and maps that are identical but contradict in their labels."""

    duplicate: np.ndarray
    """bool (N,)"""
    conflict: np.ndarray
    """bool (N,)"""


def check_counts(maps: int, cells: int) -> None:
    """Refuse millions of maps that have hardly any cells, before something is built for each. Raises ValueError."""
    if maps > _MAX_EMPTY and 2 * cells < maps * SMALLEST_SIDE**2:
        raise ValueError(f"it has {maps:,} maps, but no more than {cells:,} cells")


def build_wafers(
    flat: np.ndarray,
    height: np.ndarray,
    width: np.ndarray,
    columns: dict[str, np.ndarray],
    source: str,
    errors: dict[int, str] | None = None,
    start: np.ndarray | None = None,
) -> ReadResult:
    """Wafers from maps that stand in ``flat``, without those that are broken.

    ``columns`` gives ``row`` and ``group``, and ``label``, ``fold``, ``official`` and ``clean`` as far as the source
    has them. ``errors`` are reasons that the reader knows already, by position. Without ``start`` the maps stand one
    after another. Raises ValueError if they reach outside ``flat``, or then do not fill it, or nearly all are broken.
    """
    check_counts(len(height), len(flat))
    height, width = height.astype(np.int64), width.astype(np.int64)
    errors = side_errors(height, width) | (errors or {})
    area = height.clip(0) * width.clip(0)
    if start is None:
        start = np.cumsum(area) - area
        if area.sum() != len(flat):
            raise ValueError(f"the sizes of the maps add up to {area.sum():,} cells, but there are {len(flat):,}")
    if (start < 0).any() or (start + area > len(flat)).any():
        raise ValueError(f"a map reaches outside the {len(flat):,} cells")
    errors = cell_errors(flat, start, area) | errors
    unknown = np.full(len(start), UNKNOWN, np.int8)
    columns = {"label": unknown, "fold": unknown, "official": unknown} | columns
    kept = np.ones(len(start), bool)
    kept[list(errors)] = False
    wafers = Wafers(
        flat=flat,
        start=start[kept],
        height=height[kept].astype(np.int16),
        width=width[kept].astype(np.int16),
        label=columns["label"][kept].astype(np.int8),
        row=columns["row"][kept].astype(np.int64),
        group=columns["group"][kept].astype(np.int32),
        fold=columns["fold"][kept].astype(np.int8),
        official=columns["official"][kept].astype(np.int8),
        clean=columns["clean"][kept].astype(bool) if "clean" in columns else np.ones(kept.sum(), bool),
        source=source,
    )
    if "clean" not in columns:
        copies = find_copies(wafers)
        wafers.clean[copies.duplicate | copies.conflict] = False
    return ReadResult(wafers, [Rejected(int(columns["row"][index]), errors[index]) for index in sorted(errors)])


def side_errors(height: np.ndarray, width: np.ndarray) -> dict[int, str]:
    """Reasons by position for maps that are empty, too small or too large."""
    shorter, longer = np.minimum(height, width), np.maximum(height, width)
    bad = np.flatnonzero((shorter < SMALLEST_SIDE) | (longer > LARGEST_SIDE))
    _check_rejected(len(bad), len(height))
    allowed = f"sides must be {SMALLEST_SIDE} to {LARGEST_SIDE} dies"
    return {
        int(index): "is empty" if shorter[index] <= 0 else f"is {height[index]} x {width[index]}; {allowed}"
        for index in bad
    }


def cell_errors(flat: np.ndarray, start: np.ndarray, area: np.ndarray) -> dict[int, str]:
    """Reasons by position for maps with other cells than 0, 1, 2, or without any die."""
    filled = np.flatnonzero(area)
    if not len(filled):
        return {}
    # Every second piece begins with the last cell of a map: beyond it there may be none.
    last = start[filled] + area[filled] - 1
    pieces = np.stack([start[filled], last], axis=1).ravel()
    highest = np.maximum(np.maximum.reduceat(flat, pieces)[::2], flat[last])
    bad = np.flatnonzero((highest > FAIL) | (highest == NO_DIE))
    _check_rejected(len(bad), len(area))
    return {
        int(filled[index]): f"has a cell {highest[index]}; cells are 0, 1 or 2" if highest[index] else "has no die"
        for index in bad
    }


def _check_rejected(broken: int, maps: int) -> None:
    if broken > max(_MAX_REJECTED, maps // 4):
        raise ValueError(f"{broken:,} of {maps:,} maps are broken: that is not what this project reads")


def factorize(names: Iterable[str]) -> np.ndarray:
    """The same number for the same name, from 0 in order of appearance; int64 (N,)."""
    numbers: dict[str, int] = {}
    return np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), np.int64)


def find_copies(wafers: Wafers) -> Copies:
    """Compare all maps by size and cells.

    Of identical maps the first with a label is the original, the first of all where none has one. They conflict if
    they carry two different labels; then every one with a label is marked.
    """
    if not len(wafers):
        return Copies(np.zeros(0, bool), np.zeros(0, bool))
    identical = np.unique(_fingerprints(wafers), return_inverse=True)[1]
    known = wafers.label != UNKNOWN
    order = np.lexsort((np.arange(len(wafers)), ~known, identical))
    duplicate = np.ones(len(wafers), bool)
    duplicate[order[np.flatnonzero(np.diff(identical[order], prepend=-1))]] = False
    lowest = np.full(identical.max() + 1, np.iinfo(np.int8).max, np.int8)
    highest = np.full(len(lowest), UNKNOWN, np.int8)
    np.minimum.at(lowest, identical[known], wafers.label[known])
    np.maximum.at(highest, identical[known], wafers.label[known])
    conflict = known & (lowest < highest)[identical]
    return Copies(duplicate, conflict)


def _fingerprints(wafers: Wafers) -> np.ndarray:
    """uint64 (N,). Among a million different maps, two alike have a probability of 3e-8."""
    cells = np.ascontiguousarray(wafers.flat).data
    ends = wafers.start + wafers.height.astype(np.int64) * wafers.width
    digests = bytearray()
    for begin, end, width in zip(wafers.start.tolist(), ends.tolist(), wafers.width.tolist(), strict=True):
        digest = hashlib.blake2b(cells[begin:end], digest_size=8, salt=width.to_bytes(2, "little"))
        digests += digest.digest()
    return np.frombuffer(digests, np.uint64)
