"""Names of the nine classes as sources write them."""

from trm_jax.data.wafer_maps import CLASSES, UNKNOWN

_UNLABELLED = ("", "unlabelled", "unlabeled", "nan")


def _plain(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter not in "-_ \t")


_INDEX = {_plain(name): index for index, name in enumerate(CLASSES)} | {word: UNKNOWN for word in _UNLABELLED}


def class_index(word: str) -> int:
    """Index into CLASSES, whatever the case, hyphens, underscores and spaces; UNKNOWN for an empty word.

    The word "none" is the class of wafers without a pattern, not a missing label. Raises ValueError for any other word.
    """
    if _plain(word) not in _INDEX:
        raise ValueError(f"unknown class {word!r}; known are {', '.join(CLASSES)}")
    return _INDEX[_plain(word)]


def class_or_unknown(word: str) -> int:
    """Index into CLASSES, or UNKNOWN for any word that names no class: how maps to classify are read."""
    return _INDEX.get(_plain(word), UNKNOWN)
