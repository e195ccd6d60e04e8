"""Wafer maps from wherever they are: a prepared cache, WM-811K as .npz or .pkl, or a folder of maps."""

import os
from pathlib import Path

from trm_jax.support.files import restore
from trm_jax.wafer.maps.cache import is_cache, read_cache
from trm_jax.wafer.maps.folder import read_folder
from trm_jax.wafer.maps.lswmd import read_pickle
from trm_jax.wafer.maps.npz import read_npz
from trm_jax.wafer.maps.validate import ReadResult
from trm_jax.wafer.maps.wafers import class_index, class_or_unknown

ROOT = Path(__file__).resolve().parents[3]
_IN_DATA_ROOT = Path("wm811k") / "wm811k_labelled.npz"
_KINDS = "give a cache, an .npz, a .pkl or a folder of maps"


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


def read(path: Path, progress: bool = False, to_classify: bool = False) -> ReadResult:
    """Read a source of any kind, with the list of maps that were left out.

    ``to_classify``: a label that names none of the nine classes is no label, instead of a reason to leave the map out.
    Raises FileNotFoundError, or ValueError that says in one line what is wrong with the source.
    """
    restore(path)
    if not path.exists():
        raise FileNotFoundError(f"no wafer maps at {path}; {_KINDS}")
    label_index = class_or_unknown if to_classify else class_index
    if path.is_dir():
        result = read_cache(path) if is_cache(path) else read_folder(path, progress, label_index)
    elif not path.is_file():
        raise ValueError(f"{path} is neither a file nor a directory; {_KINDS}")
    elif path.suffix == ".npz":
        result = read_npz(path, label_index)
    elif path.suffix in (".pkl", ".pickle"):
        result = read_pickle(path, progress, label_index)
    else:
        raise ValueError(f"{path} is an unknown kind of file; {_KINDS}")
    if not len(result.wafers):
        reason = f": row {result.rejected[0].row} {result.rejected[0].reason}" if result.rejected else ""
        raise ValueError(f"{path} has no wafer map that can be used{reason}")
    return result
