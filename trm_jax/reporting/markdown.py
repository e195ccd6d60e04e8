"""Tables and lists of a report as Markdown."""

from collections.abc import Iterable, Sequence


def table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table, without a line break at its end."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def bullets(lines: Iterable[object]) -> str:
    """Lines as a list."""
    return "\n".join(f"- {line}" for line in lines)
