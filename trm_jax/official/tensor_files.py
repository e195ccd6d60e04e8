"""Files of named arrays: .pt of PyTorch (read without PyTorch and without running code), .safetensors and .npz."""

import io
import json
import math
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from trm_jax.official.torch_files import write_torch
from trm_jax.support.archives import ArrayArchive, check_members
from trm_jax.support.files import DAMAGE, not_the_file, one_line, replacing
from trm_jax.support.unpickle import Named, NotAdmitted, unpickle

STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "BoolStorage": np.dtype("?"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
}
_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "device", "Size")
"""Names of PyTorch that the settings beside weights mention."""
MODEL_KEYS = ("model", "state_dict", "model_state_dict", "module")
"""Where training programs keep the weights in a larger dict."""
_MAX_COPIES = 4
_MAX_PICKLE = 2**24  # bytes; that of the largest models is a few million


class Refused(ValueError):
    """A file that is undamaged but does not hold weights."""


def read_state_dict(path: Path, key: str = "") -> dict[str, np.ndarray]:
    """Read named arrays, in float32 where they are bfloat16.

    In a larger dict the weights are those under one of MODEL_KEYS, or under ``key``. What else is there is named on
    standard error and left. Raises FileNotFoundError, or ValueError that says in one line what is wrong with the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    readers: dict[str, Callable] = {".safetensors": _read_safetensors, ".npz": _read_npz}
    with path.open("rb") as file:
        head = file.read(512)
    try:
        if reason := not_the_file(head):
            raise Refused(reason)
        content = readers.get(path.suffix, _read_torch)(path)
        state = _weights_in(path, content, key)
        quantized = [name for name, value in state.items() if value.dtype in (np.int8, np.uint8)]
        if quantized:
            raise Refused(_quantized(quantized, str(state[quantized[0]].dtype), state))
    except NotAdmitted as error:
        raise ValueError(
            f"{path} holds more than weights: {error}; if it is a whole model, save its state dict instead: "
            "torch.save(model.state_dict(), ...)"
        ) from error
    except Refused as error:
        raise ValueError(f"{path} {error}") from error
    except (*DAMAGE, SafetensorError) as error:
        raise ValueError(f"{path} is damaged or no file of named arrays: {one_line(error)}") from error
    return {name: _widened(value) for name, value in state.items()}


def _weights_in(path: Path, content: Any, key: str) -> dict[str, np.ndarray]:
    """The weights in what a file holds. Raises Refused where there are none, or the key has to be given."""
    if not isinstance(content, dict):
        raise Refused("does not hold a plain state dict of tensors")
    inside = [name for name, value in content.items() if isinstance(value, dict) and _arrays(value)]
    chosen = key or next((name for name in MODEL_KEYS if name in inside), "")
    if chosen:
        if chosen not in inside:
            raise Refused(f"has no weights under {chosen!r}; there are some under {_listed(inside)}")
        weights = content[chosen]
        others = [f"{chosen}.{name}" for name in weights if not isinstance(weights[name], np.ndarray)]
        others += [str(name) for name in content if name != chosen]
    else:
        weights = content
        others = [str(name) for name, value in content.items() if not isinstance(value, np.ndarray)]
    state = _arrays(weights)
    if not state:
        hint = f"; weights may be under the key {_listed(inside)}: give it" if inside else ""
        raise Refused(f"does not hold a plain state dict of tensors{hint}")
    if others:
        print(f"{path}: left aside {_listed(others)}", file=sys.stderr)
    return state


def _arrays(values: dict) -> dict[str, np.ndarray]:
    return {str(name): value for name, value in values.items() if isinstance(value, np.ndarray)}


def _listed(names: Iterable[Any]) -> str:
    """Names that a file gives, in one line whatever they are."""
    shown = [str(name).encode("unicode_escape").decode()[:80] for name in names]
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


def _quantized(names: list[str], kind: str, state: Iterable[str]) -> str:
    scales = [name for name in state if "scale" in name or "zero_point" in name]
    beside = f"with the scale {_listed(scales[:1])}" if scales else "and no scale is in the file"
    return f"is quantized: {_listed(names[:1])} and {len(names) - 1} others are {kind}, {beside}; give the full weights"


def write_state_dict(path: Path, state: dict[str, np.ndarray]) -> None:
    """Write named arrays as .pt, .safetensors or .npz, whole or not at all. Raises ValueError for another ending."""
    if path.suffix not in (".pt", ".pth", ".safetensors", ".npz"):
        raise ValueError(f"{path}: write .pt, .safetensors or .npz")
    with replacing(path) as temporary:
        if path.suffix in (".pt", ".pth"):
            write_torch(temporary, {name: np.array(value, order="C") for name, value in state.items()}, STORAGES)
        elif path.suffix == ".safetensors":
            # It writes the memory as it lies, whatever the strides say.
            save_file({name: np.array(value, order="C") for name, value in state.items()}, temporary)
        else:
            with open(temporary, "wb") as file:
                np.savez(file, **{name: _widened(value) for name, value in state.items()})  # type: ignore[arg-type]


def _widened(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if value.dtype == ml_dtypes.bfloat16 else value


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_MAX_PICKLE, path.stat().st_size):
            raise ValueError(f"its header would have {length:,} bytes")
        header = json.loads(file.read(length))
    if isinstance(header, dict):
        kinds = {name: str(entry.get("dtype")) for name, entry in header.items() if isinstance(entry, dict)}
        quantized = [name for name, kind in kinds.items() if kind.startswith("F8")]
        if quantized:
            raise Refused(_quantized(quantized, str(kinds[quantized[0]]), kinds))
    return load_file(path)


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
ADMITTED |= dict.fromkeys((*STORAGES, *_DTYPES), "torch")
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
        if name in ("device", "Size"):
            return Named(name)
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


def _read_torch(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(4)
    if not zipfile.is_zipfile(path):
        if head.startswith(b"PK\x03\x04"):
            raise Refused("is cut off: it begins like a PyTorch checkpoint and has no end; copy it again")
        if path.suffix in (".pt", ".pth", ".ckpt", ".bin") and head[:1] == b"\x80":
            raise Refused("is in the old format of PyTorch; save it again with PyTorch 1.6 or newer")
        # Official checkpoints are called step_N, without an ending.
        raise Refused("is an unknown kind of file; give .pt, .safetensors or .npz")
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
        return unpickle(content, size, lambda module, name: ADMITTED.get(name) == module, reader.call, load=reader.load)
