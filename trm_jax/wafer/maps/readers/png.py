"""Maps as grey pictures in PNG."""

import io
import struct
import warnings

import numpy as np

from trm_jax.support.files import one_line
from trm_jax.wafer.maps.fab.bins import FoundMap
from trm_jax.wafer.maps.validate import DEFAULTS, LARGEST_SIDE, ReadOptions

_MAX_BYTES = 4 * LARGEST_SIDE**2
_GREY = {0: 0, 127: 1, 128: 1, 255: 2}


def parse_png(content: bytes, options: ReadOptions = DEFAULTS) -> list[FoundMap]:
    """The map of a picture: grey values 0, 1, 2 as they are, or 0, 127 or 128, and 255 for them.

    Raises ValueError for other pictures.
    """
    return [FoundMap(_parse(content))]


def _parse(content: bytes) -> np.ndarray:
    if len(content) > _MAX_BYTES:
        raise ValueError(f"is a file of {len(content):,} bytes; sides are {LARGEST_SIDE} at most")
    try:
        from PIL import Image
    except ImportError:  # on a device
        raise ValueError("needs Pillow (pip install pillow), or save it as .csv") from None
    _check_chunks(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=["PNG"])
            # Before the pixels are unpacked.
            if max(image.size) > LARGEST_SIDE:
                raise ValueError(f"is {image.height} x {image.width}; sides are {LARGEST_SIDE} at most")
            if image.mode != "L":
                what = f"is an image of mode {image.mode}"
                raise ValueError(f"{what}; save it as 8-bit grey (mode L) of the codes, not as a figure")
            cells = np.array(image)
    except (OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"is damaged or not a PNG: {one_line(error)}") from None
    if cells.max(initial=0) <= 2:
        return cells
    strange = np.setdiff1d(cells, list(_GREY))
    if len(strange):
        raise ValueError(f"has a grey value {strange[0]}; they are 0, 1, 2 or 0, 128, 255")
    return np.select([cells == grey for grey in _GREY], list(_GREY.values())).astype(np.uint8)


def _check_chunks(content: bytes) -> None:
    """Refuse a PNG with a chunk that claims to be longer than the file."""
    place = 8
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        place += 12 + length
        if place > len(content):
            raise ValueError(f"is damaged or not a PNG: a chunk of {length:,} bytes reaches beyond the end")
