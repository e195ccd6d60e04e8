"""Maps in SINF, the text format of probers: lines ``KEY:value``, and a line ``RowData:`` for each row of dies."""

from trm_jax.wafer.maps.fab.bins import FoundMap, bin_name
from trm_jax.wafer.maps.readers.text import decode, grid
from trm_jax.wafer.maps.validate import DEFAULTS, LARGEST_SIDE, ReadOptions

_MAX_BYTES = 8 * LARGEST_SIDE**2


def parse_sinf(content: bytes, options: ReadOptions = DEFAULTS) -> list[FoundMap]:
    """The map of a file. Passing are the bins of ``pass_bins``, else those that the file names as BCEQU.

    Raises ValueError for a file without rows, or with another number of rows or columns than it says.
    """
    if len(content) > _MAX_BYTES:
        raise ValueError(f"is a file of {len(content):,} bytes; sides are {LARGEST_SIDE} at most")
    header: dict[str, str] = {}
    rows, numbers = [], []
    for number, line in enumerate(decode(content).splitlines(), 1):
        key, colon, value = line.partition(":")
        if colon and key.strip().casefold() == "rowdata":
            rows.append(value.split())
            numbers.append(number)
        elif colon:
            header.setdefault(key.strip().casefold(), value.strip())
    if not rows:
        raise ValueError("is SINF without a line RowData")
    passing = options.pass_bins or frozenset(map(bin_name, header.get("bcequ", "").split()))
    cells = grid(rows, numbers, options._replace(pass_bins=passing))
    for name, length in zip(("rowct", "colct"), cells.shape, strict=True):
        if header.get(name, "").isdecimal() and int(header[name][:9]) != length:
            raise ValueError(f"says {name.upper()}:{header[name][:9]}, but has {length}")
    return [FoundMap(cells, "", header.get("lot", ""), header.get("wafer", ""))]
