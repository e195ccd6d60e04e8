"""Tables of Sudoku grids as they are found: Sudoku-Extreme, Kaggle, spreadsheets, plain lists.

Read are commas, semicolons and tabs, quotes, any header of HEADERS or none, UTF-8 and UTF-16, .gz and, with pyarrow,
.parquet; grids over several lines, and every character of BLANKS for a blank.
"""

import csv
import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trm_jax.support.files import DAMAGE, not_the_file
from trm_jax.support.schema import require

BLANKS = ".0_*-"
SYMBOLS = "123456789ABCDEFG"
"""Digits of a board of side 16; smaller boards use the first of them."""
HEADERS = {
    "question": ("question", "questions", "quizzes", "quiz", "puzzle", "puzzles", "sudoku", "unsolved"),
    "answer": ("answer", "answers", "solution", "solutions", "solved"),
}
_MAX_BYTES = 2**32
_SIZES = (16, 36, 81, 256)
_Rows = list[tuple[int, list[str]]]


@dataclass(frozen=True)
class Table:
    """The needed columns of a file as strings, and where each row stands in it."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def refuse(self, bad: np.ndarray, column: str, reason: str) -> None:
        """Raise ValueError for the first row marked in `bad` (N,), if there is one."""
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(f"{self.path}, row {row + 1} (line {self.lines[row]}), column {column!r}: {reason}")


def read_table(path: Path) -> Table:
    """The columns question and, if there is one, answer, without white space.

    Raises FileNotFoundError, or ValueError that names the file and what is wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; give the path of a CSV file with a column 'question'")
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _text_rows(path)
    empty = f"{path} is empty: expected a header with a column 'question' and at least one row"
    require(len(rows) > 0, empty)
    header = rows[0][1]
    places = _places(path, header)
    records = rows[1:]
    if places is None:
        places, records = _places_by_content(path, header), rows
    require(len(records) > 0, empty)
    for number, (line, fields) in enumerate(records, start=1):
        if len(fields) != len(header):
            raise ValueError(f"{path}, row {number} (line {line}): {len(fields)} fields under {len(header)} columns")
    columns = {name: ["".join(fields[place].split()) for _, fields in records] for name, place in places.items()}
    return Table(path, columns, [line for line, _ in records])


def _places(path: Path, header: list[str]) -> dict[str, int] | None:
    """Column numbers by a header; None where the first row is a row of grids already."""
    names = [name.strip().lower() for name in header]
    found = {kind: [i for i, name in enumerate(names) if name in known] for kind, known in HEADERS.items()}
    if not found["question"] and any(map(_is_grid, header)):
        return None
    if len(found["question"]) != 1 or len(found["answer"]) > 1:
        raise ValueError(
            f"{path} must have one column 'question' (or {', '.join(HEADERS['question'][2:6])}) and at most one "
            f"'answer' (or {', '.join(HEADERS['answer'][2:4])}), its header is {[name[:40] for name in header]}"
        )
    return {kind: places[0] for kind, places in found.items() if places}


def _places_by_content(path: Path, fields: list[str]) -> dict[str, int]:
    """Column numbers in a file without a header: the first grid is the question, the second the answer."""
    grids = [place for place, field in enumerate(fields) if _is_grid(field)]
    require(len(grids) <= 2, f"{path} has no header and {len(grids)} columns of grids; name them question and answer")
    return dict(zip(HEADERS, grids, strict=False))


def _is_grid(field: str) -> bool:
    text = "".join(field.split()).upper()
    return len(text) in _SIZES and set(text) <= set(BLANKS + SYMBOLS)


def _text_rows(path: Path) -> _Rows:
    """Rows of a text file with their last lines."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as file:
                content = file.read(_MAX_BYTES + 1)
            require(len(content) <= _MAX_BYTES, f"it would unpack to more than {_MAX_BYTES:,} bytes")
        except DAMAGE as error:
            raise ValueError(f"{path} is damaged: {error}") from None
    reason = not_the_file(content[:512])
    require(not reason, f"{path} {reason}")
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    # Undecodable bytes become a character that no grid has, so that they are reported with their row.
    text = content.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        return [(reader.line_num, fields) for fields in reader if fields]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None


def _parquet_rows(path: Path) -> _Rows:
    """Header and rows of a Parquet file, numbered from 1."""
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except ImportError:
        raise ValueError(
            f"{path}: reading .parquet needs pyarrow (pip install pyarrow); or convert it to CSV"
        ) from None
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged or not a Parquet file: {error}") from None
    rows = [list(map(str, table.columns)), *table.astype(str).to_numpy().tolist()]
    return list(enumerate(rows, start=1))
