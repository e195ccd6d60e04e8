"""Files of named arrays: .pt of PyTorch (read without PyTorch and without running code), .safetensors and .npz."""

import io
import math
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from trm_jax.support.archives import ArrayArchive, check_members
from trm_jax.support.files import DAMAGE, replacing
from trm_jax.support.unpickle import Named, unpickle

STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "BoolStorage": np.dtype("?"),
}
_MAX_COPIES = 4
_MAX_PICKLE = 2**24  # bytes; that of the largest models is a few million


class Refused(ValueError):
    """A file that is undamaged but does not hold weights."""


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
    with ArrayArchive(path) as archive:
        return {name: archive[name] for name in archive.headers}


class _Storage(NamedTuple):
    data: np.ndarray


class _Dict(dict):
    """An OrderedDict of PyTorch; what it carries beside its items is not needed."""

    def build(self, state: Any) -> None:
        """Take no attributes."""


ADMITTED = {"OrderedDict": "collections", "_rebuild_tensor_v2": "torch._utils", "_rebuild_parameter": "torch._utils"}
ADMITTED |= dict.fromkeys(STORAGES, "torch")
"""Module of each name that a file of weights may mention."""


class _TorchFile:
    """What the pickle inside a file of PyTorch may ask for: dicts, and tensors in the storages beside it."""

    def __init__(self, archive: zipfile.ZipFile, root: str):
        self.archive, self.root = archive, root
        self.storages: dict[str, np.ndarray] = {}
        # Tied weights share a storage; a file that takes one a thousand times is made to fill the memory.
        self.bytes_left = 2**20 + _MAX_COPIES * sum(info.file_size for info in archive.infolist())

    def call(self, name: str, arguments: tuple) -> Any:
        """The result of one of the functions in ADMITTED."""
        if name == "OrderedDict" and not arguments:
            return _Dict()
        if name == "_rebuild_parameter" and arguments and isinstance(arguments[0], np.ndarray):
            return arguments[0]
        if name == "_rebuild_tensor_v2" and len(arguments) >= 4 and isinstance(arguments[0], _Storage):
            return self.tensor(*arguments[:4])
        raise pickle.UnpicklingError(f"it calls {name} in an unknown way")

    def tensor(self, storage: _Storage, offset: Any, size: Any, stride: Any) -> np.ndarray:
        """Copy a tensor out of its storage; a shape that reaches outside is refused, since strides would read there."""
        lengths = [size, stride] if type(size) is type(stride) is tuple else [(None,)]
        if type(offset) is not int or any(type(number) is not int for numbers in lengths for number in numbers):
            raise pickle.UnpicklingError("it has a tensor whose shape is not made of integers")
        if len(size) != len(stride) or len(size) > 8:
            raise pickle.UnpicklingError(f"it has a tensor of {len(size)} dimensions with {len(stride)} strides")
        count = math.prod(size)
        reach = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
        inside = 0 <= offset <= len(storage.data) and min((*size, *stride), default=0) >= 0
        if not inside or max(size, default=0) > sys.maxsize or (count and reach > len(storage.data)):
            raise pickle.UnpicklingError(f"a tensor of shape {size} reaches outside its storage")
        overlapping = any(step == 0 and length > 1 for length, step in zip(size, stride, strict=True))
        if count and (overlapping or count > len(storage.data)):
            raise pickle.UnpicklingError(f"a tensor of shape {size} takes values of its storage more than once")
        self.bytes_left -= count * storage.data.itemsize
        if self.bytes_left < 0:
            raise pickle.UnpicklingError(f"its tensors copy its storages more than {_MAX_COPIES} times")
        if not count:
            return np.zeros(size, storage.data.dtype)
        strides = [step * storage.data.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage.data[offset:], size, strides).copy()

    def load(self, reference: Any) -> _Storage:
        """The storage that a persistent id of PyTorch names: ("storage", type, key, device, length)."""
        if type(reference) is not tuple or len(reference) != 5:
            raise pickle.UnpicklingError("it has a stored object without a proper name")
        kind, storage, key, _, length = reference
        if kind != "storage":
            raise pickle.UnpicklingError(
                f"unknown kind of stored object {kind!r:.40}" if type(kind) is str else "unknown"
            )
        if type(storage) is not Named or storage.name not in STORAGES or type(key) is not str:
            raise pickle.UnpicklingError("it has a storage of an unknown type")
        if key not in self.storages:
            self.storages[key] = np.frombuffer(self.archive.read(f"{self.root}/data/{key}"), np.uint8)
        data = self.storages[key].view(STORAGES[storage.name])
        if type(length) is not int or len(data) != length:
            promised = length if type(length) is int else "others"
            raise pickle.UnpicklingError(f"storage {key} has {len(data)} values, {promised} were promised")
        return _Storage(data)


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise Refused("is not in PyTorch's zip format; save it again with PyTorch 1.6 or newer")
    with zipfile.ZipFile(path) as archive:
        check_members(archive, path.stat().st_size)
        roots = [name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise Refused("is not a PyTorch checkpoint: it has no data.pkl")
        order = f"{roots[0]}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise Refused("was written on a big-endian machine, which is not supported")
        size = archive.getinfo(f"{roots[0]}/data.pkl").file_size
        if size > _MAX_PICKLE:
            raise Refused(f"has a data.pkl of {size:,} bytes, more than {_MAX_PICKLE:,}")
        content, reader = io.BytesIO(archive.read(f"{roots[0]}/data.pkl")), _TorchFile(archive, roots[0])
        state = unpickle(
            content, size, lambda module, name: ADMITTED.get(name) == module, reader.call, load=reader.load
        )
    if not isinstance(state, dict) or not all(isinstance(value, np.ndarray) for value in state.values()):
        raise Refused("does not hold a plain state dict of tensors")
    return dict(state)
