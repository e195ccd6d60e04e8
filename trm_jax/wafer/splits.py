"""Which wafers to train on and which to test on.

Wafers of a lot share their process history and often their defect. A split that separates them tests on wafers that
are very like those it trained on, and its scores are too high. Only wafers with a label are used, and no copies.
"""

import warnings
from typing import Literal, NamedTuple

import numpy as np

from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN, Wafers

Kind = Literal["lot", "random", "official"]
VALIDATION_PARTS = 6
"""One of so many parts of the wafers that are not tested is for validation."""


class Split(NamedTuple):
    """Indices into the wafers, ascending, of the parts of one split."""

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def folds(wafers: Wafers, count: int = 4, kind: Kind = "lot", seed: int = 0) -> list[Split]:
    """Splits for cross-validation: every labelled and clean wafer is tested once, except with ``official``.

    ``lot``: lots are not separated; the folds that the source prescribes if it does, else ``count`` folds with similar
    class shares. ``random``: single wafers are dealt to the folds, to show how much that raises scores. ``official``:
    one split, by the Training and Test flags of the source, whatever ``count``. About a sixth of what is not tested
    is for validation, in whole lots except with ``random``.
    Raises ValueError where that is impossible, or where a class is missing from the training or test part; warns where
    it is only missing from validation.
    """
    usable = np.flatnonzero((wafers.label != UNKNOWN) & wafers.clean)
    if len(usable) == 0:
        raise ValueError(f"{wafers.source}: no wafer has a label, so there is nothing to split")
    label, group = wafers.label[usable], wafers.group[usable]
    lots = None if kind == "random" else group
    if kind == "official":
        parts = {"official": _official(wafers, usable)}
    elif kind == "lot" and (wafers.fold[usable] != UNKNOWN).any():
        parts = _prescribed(wafers, usable, count)
    else:
        number = deal(label, lots, count, seed)
        parts = {f"{kind}-{fold}": number == fold for fold in range(count)}
    splits = []
    for name, tested in parts.items():
        rest = np.flatnonzero(~tested)
        validates = deal(label[rest], None if lots is None else lots[rest], VALIDATION_PARTS, seed) == 0
        split = Split(name, usable[rest[~validates]], usable[rest[validates]], usable[tested])
        _check_classes(wafers, usable, split)
        splits.append(split)
    return splits


def all_lots(wafers: Wafers, seed: int = 0) -> Split:
    """All labelled and clean wafers to train on, except a sixth, in whole lots, for validation; nothing is tested.

    Of six such parts, the one whose share of every class is nearest to a sixth: otherwise a rare class that is in few
    lots may lose many of its wafers.
    """
    usable = np.flatnonzero((wafers.label != UNKNOWN) & wafers.clean)
    label = wafers.label[usable]
    number = deal(label, wafers.group[usable], VALIDATION_PARTS, seed)
    counts = np.array([np.bincount(label[number == part], minlength=len(CLASSES)) for part in range(VALIDATION_PARTS)])
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    validates = number == np.abs(shares - 1 / VALIDATION_PARTS).max(axis=1).argmin()
    split = Split("all-lots", usable[~validates], usable[validates], usable[:0])
    _check_classes(wafers, usable, split, ("train", "validation"))
    return split


def _official(wafers: Wafers, usable: np.ndarray) -> np.ndarray:
    """Mask of the wafers of the official test part."""
    flag = wafers.official[usable]
    if (flag == UNKNOWN).any():
        raise ValueError(
            f"{wafers.source}: {np.count_nonzero(flag == UNKNOWN):,} of {len(flag):,} labelled wafers have no Training "
            "or Test flag, so there is no official split; use the split by lots"
        )
    return flag == 1


def _prescribed(wafers: Wafers, usable: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Masks of the test part of each fold that the source prescribes."""
    fold, group = wafers.fold[usable], wafers.group[usable]
    numbers = np.unique(fold).tolist()
    if UNKNOWN in numbers:
        raise ValueError(f"{wafers.source}: {np.count_nonzero(fold == UNKNOWN):,} labelled wafers are in no fold")
    if len(numbers) != count:
        raise ValueError(f"{wafers.source} prescribes {len(numbers)} folds, so there cannot be {count}")
    pairs = np.unique(np.stack([group, fold]), axis=1)[0]
    separated = pairs[1:][pairs[1:] == pairs[:-1]]
    if len(separated):
        raise ValueError(f"{wafers.source}: the prescribed folds separate group {separated[0]}")
    return {f"lot-{number}": fold == number for number in numbers}


def deal(label: np.ndarray, group: np.ndarray | None, count: int, seed: int) -> np.ndarray:
    """Number of the part, 0 to ``count`` - 1, of every wafer: similar class shares in each, groups whole."""
    units, what = (len(label), "wafers") if group is None else (len(np.unique(group)), "lots")
    most = int(np.bincount(label).max())
    if not 2 <= count <= min(units, most):
        raise ValueError(
            f"cannot split {units:,} {what} ({most:,} wafers of the most frequent class) into {count} parts; "
            "there must be two parts or more, and something for each"
        )
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow to import

    kind = StratifiedKFold if group is None else StratifiedGroupKFold
    number = np.empty(len(label), np.int64)
    with warnings.catch_warnings():  # a class with fewer wafers than parts: `_check_classes` tells where it is missing
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for part, (_, chosen) in enumerate(kind(count, shuffle=True, random_state=seed).split(label, label, group)):
            number[chosen] = part
    return number


def _check_classes(
    wafers: Wafers, usable: np.ndarray, split: Split, parts: tuple[str, ...] = ("train", "test", "validation")
) -> None:
    """Every class of the data must be trained on and tested, or its score would mean nothing."""
    present = set(np.unique(wafers.label[usable]).tolist())
    for part in parts:
        missing = present - set(wafers.label[getattr(split, part)].tolist())
        if not missing:
            continue
        names = ", ".join(CLASSES[label] for label in sorted(missing))
        message = f"{wafers.source}: no wafer of class {names} in the {part} part of split {split.name}"
        if part != "validation":
            raise ValueError(f"{message}; use more wafers or fewer folds")
        warnings.warn(message, stacklevel=3)
