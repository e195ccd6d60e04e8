"""Files of named arrays: .pt of PyTorch (read without PyTorch and without running code), .safetensors and .npz."""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from trm_jax.support.files import DAMAGE, replacing

STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "BoolStorage": np.dtype("?"),
}


class Refused(ValueError):
    """A file that is whole but no file of weights."""


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read named arrays, in float32 where they are bfloat16.

    Raises FileNotFoundError, or ValueError that says in one line what is wrong with the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    readers: dict[str, Callable] = {".safetensors": load_file, ".npz": _read_npz}
    readers |= {".pt": _read_torch, ".pth": _read_torch}
    try:
        # Official checkpoints are called step_N, without an ending.
        if path.suffix not in readers and not zipfile.is_zipfile(path):
            raise Refused("is an unknown kind of file; give .pt, .safetensors or .npz")
        state = readers.get(path.suffix, _read_torch)(path)
    except Refused as error:
        raise ValueError(f"{path} {error}") from error
    except (*DAMAGE, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged or no file of named arrays: {reason}") from error
    return {name: _widened(value) for name, value in state.items()}


def write_state_dict(path: Path, state: dict[str, np.ndarray]) -> None:
    """Write named arrays as .safetensors or .npz, whole or not at all. Raises ValueError for another ending."""
    if path.suffix not in (".safetensors", ".npz"):
        raise ValueError(f"{path}: write .safetensors or .npz (PyTorch reads the first with safetensors.torch)")
    with replacing(path) as temporary:
        if path.suffix == ".safetensors":
            # It writes the memory as it lies, whatever the strides say.
            save_file({name: np.array(value, order="C") for name, value in state.items()}, temporary)
        else:
            with open(temporary, "wb") as file:
                np.savez(file, **{name: _widened(value) for name, value in state.items()})  # type: ignore[arg-type]


def _widened(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if value.dtype == ml_dtypes.bfloat16 else value


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        return dict(archive)


class _Storage(NamedTuple):
    data: np.ndarray


def _rebuild_tensor(storage: _Storage, offset: int, size: tuple, stride: tuple, *_: Any) -> np.ndarray:
    """Copy a tensor out of its storage; a shape that reaches outside is refused, since strides would read there."""
    reach = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
    inside = offset >= 0 and all(step >= 0 for step in stride) and all(length >= 0 for length in size)
    if not inside or (math.prod(size) and reach > len(storage.data)):
        raise pickle.UnpicklingError(f"a tensor of shape {size} reaches outside its storage")
    strides = [step * storage.data.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage.data[offset:], size, strides).copy()


class _Constructor:
    """A function without attributes: a pickle can set those of whatever it is handed."""

    __slots__ = ("_function",)
    _function: Callable

    def __init__(self, function: Callable):
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"it tries to set {name} of a function")

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Constructor(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Constructor(lambda tensor, *_: tensor),
    # By name, not as numpy's dtypes, which a pickle could change for the whole program.
    **{("torch", name): name for name in STORAGES},
}


class _WeightsOnly(pickle.Unpickler):
    """Unpickler of PyTorch's zip format that can build arrays and dicts and nothing else."""

    def __init__(self, archive: zipfile.ZipFile, root: str):
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a file of weights has no need of")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _, length = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"unknown kind of stored object {kind!r}")
        data = np.frombuffer(self._archive.read(f"{self._root}/data/{key}"), STORAGES[storage])
        if len(data) != length:
            raise pickle.UnpicklingError(f"storage {key} has {len(data)} values, {length} were promised")
        return _Storage(data)


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise Refused("is not in PyTorch's zip format; save it again with PyTorch 1.6 or newer")
    with zipfile.ZipFile(path) as archive:
        roots = [name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise Refused("is no PyTorch checkpoint: it has no data.pkl")
        order = f"{roots[0]}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise Refused("was written on a big-endian machine, which is not supported")
        state = _WeightsOnly(archive, roots[0]).load()
    if not isinstance(state, dict) or not all(isinstance(value, np.ndarray) for value in state.values()):
        raise Refused("holds no plain state dict of tensors")
    return dict(state)
