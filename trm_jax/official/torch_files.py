"""Checkpoints of PyTorch, written without PyTorch: a zip with a pickle of the names beside one file for each tensor."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = "archive"


def write_torch(path: Path, state: dict[str, np.ndarray], storages: dict[str, np.dtype]) -> None:
    """Write a plain dict of tensors that ``torch.load`` reads, ``weights_only`` too.

    ``storages`` are PyTorch's names of dtypes. Raises ValueError for an array of another dtype.
    """
    kinds = {kind: name for name, kind in storages.items()}
    unknown = [f"{name} ({value.dtype})" for name, value in state.items() if value.dtype not in kinds]
    if unknown:
        raise ValueError(f"{path}: PyTorch has no such dtype: {', '.join(unknown)}")
    items = [_value(name) + _tensor(value, kinds[value.dtype], key) for key, (name, value) in enumerate(state.items())]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{ROOT}/data.pkl", b"\x80\x02}(" + b"".join(items) + b"u.")
        archive.writestr(f"{ROOT}/byteorder", b"little")
        for key, value in enumerate(state.values()):
            archive.writestr(f"{ROOT}/data/{key}", value.tobytes())
        archive.writestr(f"{ROOT}/version", b"3\n")


def _tensor(value: np.ndarray, kind: str, key: int) -> bytes:
    """Opcodes that rebuild a tensor from its storage: offset 0, shape, strides in elements, no gradient, no hooks."""
    strides = tuple(int(np.prod(value.shape[axis + 1 :])) for axis in range(value.ndim))
    storage = b"(" + _value("storage") + _name("torch", kind) + _value(str(key)) + _value("cpu") + _value(value.size)
    arguments = _value(0) + _value(value.shape) + _value(strides) + _value(False) + _name("collections", "OrderedDict")
    return _name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + b"tQ" + arguments + b")RtR"


def _name(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _value(value: Any) -> bytes:
    """Opcodes that put a plain value on the stack."""
    return pickle.dumps(value, protocol=2)[2:-1]
