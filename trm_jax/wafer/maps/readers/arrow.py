"""Frames of wafer maps as parquet or feather. Needs the extra ``parquet`` (pyarrow)."""

from pathlib import Path
from typing import Any

import numpy as np

from trm_jax.support.archives import unpacked_limit
from trm_jax.support.files import DAMAGE, one_line
from trm_jax.wafer.maps.readers.frame import INDEX, NEEDED
from trm_jax.wafer.maps.readers.lswmd import read_frame
from trm_jax.wafer.maps.readers.pickled import Array
from trm_jax.wafer.maps.validate import DEFAULTS, ReadOptions, ReadResult

FEATHER = b"ARROW1"
"""How a file of feather begins, which is one of Arrow."""


def read_arrow(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """Read the columns of a frame as `lswmd.read_frame` does.

    Raises ValueError, in one line, for a file that is damaged or has other columns.
    """
    try:
        import pyarrow
    except ImportError:
        raise ValueError(f"{path} needs pyarrow (pip install 'trm_jax[parquet]'), or save it as a pickle") from None
    try:
        table, cells = _table(path), bytearray()
        columns: dict[str, list[Any]] = {}
        for name in table.column_names:
            column = table.column(name).combine_chunks()
            kind = INDEX if name == "__index_level_0__" else name
            columns[kind] = _maps(column, cells) if name == "waferMap" else column.to_pylist()
        return read_frame(columns, cells, path.name, options)
    except (*DAMAGE, pyarrow.ArrowException) as error:
        raise ValueError(f"{path} is damaged or not a frame of wafer maps: {one_line(error)}") from None


def _table(path: Path) -> Any:
    """The columns that matter, if the file does not say that it unpacks to far more than its size."""
    from pyarrow import feather, parquet

    wanted = {*NEEDED, "failureNum", "__index_level_0__"}
    with path.open("rb") as file:
        if file.read(6) == FEATHER:
            names = [name for name in feather.read_table(path, memory_map=True).column_names if name in wanted]
            return feather.read_table(path, columns=names)
    opened = parquet.ParquetFile(path)
    meta = opened.metadata
    groups = [meta.row_group(index) for index in range(meta.num_row_groups)]
    values = sum(group.column(index).num_values for group in groups for index in range(meta.num_columns))
    if values > unpacked_limit(path.stat().st_size):
        raise ValueError(f"it would unpack to {values:,} values")
    return opened.read(columns=[name for name in opened.schema_arrow.names if name in wanted])


def _maps(column: Any, cells: bytearray) -> list[Any]:
    """An array for each map of a column of lists of rows; None for one that is no grid of bytes."""
    rows = column.flatten()
    lists = all(hasattr(kind, "value_type") for kind in (column.type, rows.type))
    if not lists or not str(rows.type.value_type).lstrip("u").startswith("int") or rows.null_count:
        raise ValueError("its column waferMap has no lists of rows of integers")
    values = np.asarray(rows.flatten())
    widths = np.diff(np.asarray(rows.offsets))
    heights = np.where(np.asarray(column.is_valid()), np.diff(np.asarray(column.offsets)), 0)
    if len(values) and not 0 <= values.min() <= values.max() <= np.iinfo(np.uint8).max:
        raise ValueError("its column waferMap has numbers that are no codes")
    begin = len(cells)
    cells += values.astype(np.uint8).tobytes()
    found: list[Any] = []
    row = 0
    for height in heights.tolist():
        mine = widths[row : row + height]
        even = height > 0 and (mine == mine[0]).all()
        array = Array(cells)
        array.begin, array.shape = begin, (height, int(mine[0]) if even else 0)
        found.append(array if even else None)
        row, begin = row + height, begin + int(mine.sum())
    return found
