"""Tables and lists of a report as Markdown."""

import re
from collections.abc import Iterable, Sequence

NUMBER = re.compile(r"[+\-\N{MINUS SIGN}<]?\s?\d")


def table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table, without a line break at its end; columns of numbers stand to the right, but for the first column."""
    lines = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    marks = [
        "---" if place == 0 or not _numeric(column) else "---:" for place, column in enumerate(zip(*lines, strict=True))
    ]
    head = [str(column).replace("|", "\\|") for column in columns]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, marks or ["---"] * len(head), *lines])


def _numeric(cells: Sequence[str]) -> bool:
    """Whether a column has a number wherever it has anything, and has one somewhere."""
    written = [cell for cell in cells if cell not in ("", "none")]
    return bool(written) and all(NUMBER.match(cell) for cell in written)


def without_html(text: str) -> str:
    """Markdown in which what would be raw HTML is text: names of files and arms are the user's."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def bullets(lines: Iterable[object]) -> str:
    """Lines as a list."""
    return "\n".join(f"- {line}" for line in lines)
