"""SHA256SUMS: a list beside files that says on reading whether they are what was written.

Its format is that of ``sha256sum --check``.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from trm_jax.support.files import sha256, sync, write_text

SUMS = "SHA256SUMS"


def files_below(directory: Path) -> list[str]:
    """Relative names of all files in a directory and below it, but not its own list."""
    paths = [path.relative_to(directory) for path in directory.rglob("*") if not path.is_dir()]
    return sorted(path.as_posix() for path in paths if path != Path(SUMS))


def write_sums(directory: Path, names: Sequence[str] = ()) -> None:
    """Write the checksums of these files of a directory, or of all in it and below, once they are on the disk."""
    names = names or files_below(directory)
    for name in names:
        sync(directory / name)
    write_text(directory / SUMS, "".join(f"{sha256(directory / name)}  {name}\n" for name in names))


def check_sums(directory: Path, names: Iterable[str]) -> None:
    """Compare these files with SHA256SUMS, which must list every one of them.

    Raises ValueError for a list that is missing or damaged, and for a file that is not listed, missing or changed.
    """
    sums = _read_sums(directory / SUMS)
    for name in sorted(names):
        path = directory / name
        if name not in sums:
            raise ValueError(f"{directory / SUMS} does not list {name}; copy the folder again")
        if not path.is_file():
            raise ValueError(f"{path} is missing, but {SUMS} lists it; copy the folder again")
        if sha256(path) != sums[name]:
            raise ValueError(f"{path} is not what was written (wrong SHA-256); copy the folder again")


def check_all(directory: Path, unlisted: Sequence[str] = ()) -> bool:
    """Compare every file of a directory, those that are listed and those that are there; False if it has no list.

    The files ``unlisted`` need not be in the list.

    Raises ValueError as `check_sums` does.
    """
    if not (directory / SUMS).exists():
        return False
    listed = _read_sums(directory / SUMS)
    check_sums(directory, {*listed, *(name for name in files_below(directory) if name not in unlisted)})
    return True


def _read_sums(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise ValueError(f"{path} is missing, so that nothing says whether the files are whole; copy the folder again")
    sums = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        digest, _, name = line.partition(" ")
        name = name[1:]  # after the blank or asterisk that says how the file was read
        if len(digest) != 64 or not name:
            raise ValueError(f"{path}, line {number}, is not a checksum and a file name; copy the folder again")
        sums[name] = digest.lower()
    return sums
