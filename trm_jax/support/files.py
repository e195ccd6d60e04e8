"""Files that are written completely or not at all, their checksums, and what reading a damaged one raises."""

import hashlib
import json
import os
import pickle
import re
import shutil
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

try:
    from lzma import LZMAError
except ImportError:  # some builds of Python have no lzma
    LZMAError = zlib.error  # type: ignore[assignment, misc]

ROOT = Path(__file__).resolve().parents[2]
"""The folder of the project, where ``runs`` and ``checkpoints`` lie."""
# What readers raise for a file that is cut off, overwritten or made to mislead.
DAMAGE = (
    ValueError, TypeError, AttributeError, RuntimeError, LookupError, EOFError, OSError, OverflowError, MemoryError,
    zipfile.BadZipFile, zlib.error, LZMAError, struct.error, pickle.UnpicklingError,
    SyntaxError, tokenize.TokenError,  # numpy parses headers as Python
)  # fmt: skip

RUN_KINDS = {
    "a study": "arms", "a wafer run": "wafers.json", "wafer baselines": "options.json", "a single run": "config.json",
}  # fmt: skip
"""Kinds of runs, and the file or folder by which each is known."""


def not_the_file(head: bytes) -> str:
    """What stands in place of a data file, judged by its first bytes, as the end of a sentence; empty if nothing."""
    text = head[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "is a Git-LFS pointer, not the file itself: run `git lfs pull`, or download it from its page"
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "is a web page, not the file itself: download it again, logged in if the page asks for it"
    return "" if head else "is empty"


def one_line(error: Exception) -> str:
    """The message of an error without line breaks; of a long one the beginning and the end, where the reason stands."""
    text = " ".join(str(error).split())
    return text if len(text) <= 600 else f"{text[:200]} ... {text[-400:]}"


def message_of(error: Exception) -> str:
    """What an error says to a user: of one of the system the file and the reason, without its number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place on success and disappears on failure.

    The file is on the disk before it gets its name, and the name before this returns: a power loss leaves the old file
    or the new one.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_directory(path: Path, may_hold: Collection[str] = ()) -> Iterator[Path]:
    """A temporary directory beside ``path`` that takes its place on success and disappears on failure.

    Nothing is removed that the program did not make: what ``path`` already has must be among the names that the new
    directory has too, or fit one of the patterns in ``may_hold``; else ValueError, and ``path`` stays as it is.
    """
    restore(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} exists and is not a directory")
    temporary, old = (path.with_name(f"{path.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        require_own(path, [*may_hold, *(entry.name for entry in temporary.iterdir())])
        for directory, _, names in os.walk(temporary):
            for name in [*names, "."]:
                sync(Path(directory) / name)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        sync(path.parent)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for leftover in (temporary, old):
            if leftover.exists():
                shutil.rmtree(leftover)


def require_own(path: Path, patterns: Collection[str]) -> None:
    """Raise ValueError where a directory has anything whose name fits none of the patterns; it may be missing."""
    for entry in sorted(path.iterdir()) if path.exists() else ():
        if not any(fnmatch(entry.name, pattern) for pattern in patterns):
            raise ValueError(f"{path} has {entry.name}, which was not made here; it was left as it is")


def restore(path: Path) -> None:
    """Put the old directory back in its place if a process was killed while it replaced it."""
    if path.exists() or not path.parent.is_dir():
        return
    pattern = re.compile(re.escape(path.name) + r"\.(\d+)\.old")
    for match in filter(None, map(pattern.fullmatch, sorted(os.listdir(path.parent)))):
        if not _is_running(int(match[1])):
            os.rename(path.with_name(match[0]), path)
            return


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def check_folder(path: Path, option: str = "--output") -> None:
    """Raise ValueError if nothing can be written in this folder, which need not exist: to be called before the work."""
    parent = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if not parent.is_dir():
        raise ValueError(f"{parent} is a file, and results need a folder; choose another {option}")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"the folder {parent} cannot be written to; choose another {option}")


def check_file(path: Path, force: bool = False, option: str = "--output") -> None:
    """Raise ValueError if this file cannot be written, or exists: to be called before the work.

    With ``force`` an existing file is replaced, but nothing that is not a regular file.
    """
    folder = path.resolve().parent
    if not folder.is_dir():
        raise ValueError(f"{option}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{option}: the folder {folder} cannot be written to")
    if path.is_dir():
        raise ValueError(f"{option}: {path} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise ValueError(f"{option}: {path} is not a regular file")
    if path.exists() and not force:
        raise ValueError(f"{option}: {path} exists; give another name, or --force to replace it")


def sync(path: Path) -> None:
    """Wait until a file or directory is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises ValueError for one that is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}; make it again") from None


def refuse_existing(directory: Path) -> None:
    """Raise FileExistsError for a directory that exists: nothing is overwritten by mistake."""
    if directory.exists():
        raise FileExistsError(f"{directory} exists; choose another directory or remove it")


def sha256(path: Path) -> str:
    """Checksum of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def refuse_path(name: str, what: str) -> str:
    """The name of a new folder. Raises ValueError for one that would lead elsewhere, such as ``../x``."""
    if name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise ValueError(f"{what} {name!r} must be the plain name of a folder, without / and not '..'")
    return name


def run_folder(output: Path, name: str, kind: str) -> Path:
    """Where a run of a kind goes, a key of `RUN_KINDS`; the folder need not exist.

    Raises ValueError for a name that leads out of ``output``, a folder that cannot be written, or one that holds a run
    of another kind.
    """
    directory = output / refuse_path(name, "--name")
    check_folder(directory)
    for other, file in RUN_KINDS.items():
        if other != kind and (directory / file).exists():
            raise ValueError(f"{directory} holds {other}, not {kind}; choose another --name")
    return directory


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
