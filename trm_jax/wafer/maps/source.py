"""Wafer maps from wherever they are: a prepared cache, WM-811K as .npz or .pkl, or a folder of maps."""

import os
from pathlib import Path

from trm_jax.wafer.maps.cache import is_cache, read_cache
from trm_jax.wafer.maps.folder import read_folder
from trm_jax.wafer.maps.lswmd import read_pickle
from trm_jax.wafer.maps.maps import class_index, class_or_unknown
from trm_jax.wafer.maps.npz import read_npz
from trm_jax.wafer.maps.validate import Loaded

ROOT = Path(__file__).resolve().parents[3]
_IN_DATA_ROOT = Path("wm811k") / "wm811k_labelled.npz"
_KINDS = "give a cache, an .npz, a .pkl or a folder of maps"


def find(path: Path | None = None) -> Path | None:
    """The data to read: ``path``, else ``TRM_DATA``, else ``../shared/data`` beside the project, else None.

    The folder of all shared data stands for its WM-811K. Raises FileNotFoundError if a place that was named explicitly,
    by argument or ``TRM_DATA``, does not exist.
    """
    named = path or (Path(os.environ["TRM_DATA"]) if os.environ.get("TRM_DATA") else None)
    if named is not None and not named.exists():
        origin = "" if path else " (from TRM_DATA)"
        raise FileNotFoundError(f"no wafer maps at {named}{origin}; {_KINDS}")
    place = named or ROOT.parent / "shared" / "data"
    if (place / _IN_DATA_ROOT).is_file():
        return place / _IN_DATA_ROOT
    return named


def read(path: Path, progress: bool = False, to_classify: bool = False) -> Loaded:
    """Read a source of any kind, with the list of maps that were left out.

    ``to_classify``: a label that names none of the nine classes is no label, instead of a reason to leave the map out.
    Raises FileNotFoundError, or ValueError that says in one line what is wrong with the source.
    """
    if not path.exists():
        raise FileNotFoundError(f"no wafer maps at {path}; {_KINDS}")
    named = class_or_unknown if to_classify else class_index
    if path.is_dir():
        loaded = read_cache(path) if is_cache(path) else read_folder(path, progress, named)
    elif path.suffix == ".npz":
        loaded = read_npz(path, named)
    elif path.suffix in (".pkl", ".pickle"):
        loaded = read_pickle(path, progress, named)
    else:
        raise ValueError(f"{path} is an unknown kind of file; {_KINDS}")
    if not len(loaded.wafers):
        reason = f": row {loaded.rejected[0].row} {loaded.rejected[0].reason}" if loaded.rejected else ""
        raise ValueError(f"{path} has no wafer map that can be used{reason}")
    return loaded
