"""Files that are written completely or not at all, their checksums, and what reading a damaged one raises."""

import hashlib
import json
import os
import pickle
import shutil
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What readers raise for a file that is cut off, overwritten or made to mislead.
DAMAGE = (
    ValueError, TypeError, AttributeError, RuntimeError, LookupError, EOFError, OSError, OverflowError, MemoryError,
    zipfile.BadZipFile, zlib.error, pickle.UnpicklingError,
    SyntaxError, tokenize.TokenError,  # numpy parses headers as Python
)  # fmt: skip


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place on success and disappears on failure."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """A temporary directory beside ``path`` that takes its place on success and disappears on failure."""
    temporary, old = (path.with_name(f"{path.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            path.rename(old)
        try:
            temporary.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    finally:
        for leftover in (temporary, old):
            if leftover.exists():
                shutil.rmtree(leftover)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Checksum of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def refuse_other_options(path: Path, options: Mapping[str, Any], what: str) -> None:
    """Write to the JSON file ``path`` with which options everything beside it is made; its directory need not exist.

    Raises ValueError where it names other options and there is something beside it: ``what`` the directory holds.
    """
    text = json.dumps(options, indent=1, default=str)
    if path.exists() and any(entry != path for entry in path.parent.iterdir()):
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is damaged ({error}); choose another name or remove {path.parent}") from None
        wanted = json.loads(text)
        different = [name for name in known | wanted if known.get(name) != wanted.get(name)]
        if different:
            raise ValueError(
                f"{path.parent} holds {what} with other options ({', '.join(different)}); "
                "choose another --name or remove it"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
