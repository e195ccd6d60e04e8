"""Wafer maps from wherever they are: a prepared cache, a file with a data set, or files and folders of maps."""

import os
from dataclasses import replace
from pathlib import Path

from trm_jax.support.files import ROOT, restore
from trm_jax.wafer.maps.cache import is_cache, read_cache
from trm_jax.wafer.maps.fab.bins import parse_pass_bins
from trm_jax.wafer.maps.readers.folder import find_files, read_files, read_folder
from trm_jax.wafer.maps.readers.formats import map_format, source_format, unpacked
from trm_jax.wafer.maps.validate import ReadOptions, ReadResult

_IN_DATA_ROOT = Path("wm811k") / "wm811k_labelled.npz"
_KINDS = "give a frame (.pkl, .parquet), an .npz, a cache, a map (.csv, .png, .xml, .sinf, .stdf) or a folder of them"
_PACKED = (".gz", ".zip")


def find(path: Path | None = None) -> Path | None:
    """The data to read: ``path``, else ``TRM_DATA``, else ``../shared/data`` beside the project, else None.

    The folder of all shared data stands for its WM-811K. An empty variable is not set. Raises FileNotFoundError if
    a place that was named explicitly, by argument or ``TRM_DATA``, does not exist.
    """
    variable = os.environ.get("TRM_DATA", "").strip()
    given = path or (Path(variable) if variable else None)
    if given is not None and not given.exists():
        origin = "" if path else " (from TRM_DATA)"
        raise FileNotFoundError(f"no wafer maps at {given}{origin}; {_KINDS}")
    place = given or ROOT.parent / "shared" / "data"
    return place / _IN_DATA_ROOT if (place / _IN_DATA_ROOT).is_file() else given


def read(path: Path, progress: bool = False, to_classify: bool = False, pass_bins: str = "") -> ReadResult:
    """Read a source of any kind, with the list of maps that were left out.

    ``to_classify``: a label that names none of the nine classes is no label, instead of a reason to leave the map out.
    ``pass_bins``: the bins of passing dies, such as "1" or "1,2", for files that have bins. Raises FileNotFoundError,
    or ValueError that says in one line what is wrong with the source.
    """
    restore(path)
    if not path.exists():
        raise FileNotFoundError(f"no wafer maps at {path}; {_KINDS}")
    options = ReadOptions(to_classify, parse_pass_bins(pass_bins), progress)
    if not path.is_dir():
        result = _read_file(path, options)
    elif is_cache(path):
        result = read_cache(path)
    else:
        inside = _data_file(path)
        result = _read_file(inside, options) if inside else read_folder(path, options)
    if not len(result.wafers):
        reason = f": {result.first_reason}" if result.rejected else ""
        raise ValueError(f"{path} has no wafer map that can be used{reason}")
    return result


def _read_file(path: Path, options: ReadOptions) -> ReadResult:
    if not path.is_file():
        raise ValueError(f"{path} is neither a file nor a directory; {_KINDS}")
    with unpacked(path) as plain:
        if map_format(plain):
            return read_files(plain.parent, [plain], options)
        found = source_format(plain)
        if found is None:
            raise ValueError(f"{path} is an unknown kind of file; {_KINDS}")
        try:
            result = found.read(plain, options)
        except ValueError as error:
            raise ValueError(str(error).replace(str(plain), str(path))) from error
    return result._replace(wafers=replace(result.wafers, source=path.name))


def _data_file(folder: Path) -> Path | None:
    """The file with a data set in a folder that has no maps of its own. Raises ValueError if there are several."""
    if find_files(folder)[0]:
        return None
    files = [f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")]
    found = sorted(f for f in files if source_format(f, by_name=True) or f.suffix.lower() in _PACKED)
    if len(found) > 1:
        raise ValueError(f"{folder} has {', '.join(file.name for file in found)[:200]}; name one of them")
    return found[0] if found else None
