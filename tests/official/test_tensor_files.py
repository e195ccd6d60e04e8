"""Files of weights: what PyTorch wrote is read without PyTorch, and a file that lies is refused before it can act."""

import gc
import io
import os
import pickle
import re
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save

from trm_jax.official import tensor_files
from trm_jax.official.tensor_files import read_state_dict, write_state_dict
from trm_jax.support import archives

GOLDEN = Path(__file__).parents[1] / "golden" / "official_state.pt"
DATA = np.arange(12, dtype="<f4")


def golden_values():
    """What tests/golden/make_official_state.py computes, once more."""
    shapes = {
        "H_init": (4,),
        "L_init": (4,),
        "embed_tokens.embedding_weight": (5, 4),
        "lm_head.weight": (5, 4),
        "q_head.weight": (2, 4),
        "q_head.bias": (2,),
        "L_level.layers.0.self_attn.qkv_proj.weight": (12, 4),
        "L_level.layers.0.self_attn.o_proj.weight": (4, 4),
        "L_level.layers.0.mlp.gate_up_proj.weight": (512, 4),
        "L_level.layers.0.mlp.down_proj.weight": (4, 256),
    }
    types = {
        "L_level.layers.0.mlp.gate_up_proj.weight": np.float16,
        "L_level.layers.0.mlp.down_proj.weight": ml_dtypes.bfloat16,
        "lm_head.weight": np.float64,
    }
    state = {}
    for place, (name, shape) in enumerate(shapes.items()):
        values = np.float32(np.arange(np.prod(shape)) % 29 - place) / np.float32(7)
        state[f"_orig_mod.model.inner.{name}"] = values.reshape(shape).astype(types.get(name, np.float32))
    return state


def test_a_file_that_pytorch_wrote_is_read_equal():
    found, expected = read_state_dict(GOLDEN), golden_values()
    assert list(found) == list(expected)
    for name, value in expected.items():
        kind = np.float32 if value.dtype == ml_dtypes.bfloat16 else value.dtype
        assert found[name].dtype == kind and found[name].shape == value.shape, name
        assert np.array_equal(found[name], value.astype(kind)), name
        assert found[name].flags.owndata and found[name].flags.writeable


def test_reading_needs_no_pytorch_and_an_official_checkpoint_needs_no_ending(tmp_path):
    path = tmp_path / "step_65100"
    path.write_bytes(GOLDEN.read_bytes())
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from trm_jax.official.tensor_files import read_state_dict\n"
        f"print(len(read_state_dict(Path({str(path)!r}))))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "10"


# Archives in PyTorch's format, written by hand so that they can lie.


def push(value) -> bytes:
    """Opcodes that put a plain value on the stack."""
    return pickle.dumps(value, protocol=2)[2:-1]


def tensor(offset=0, size=(3, 4), stride=(4, 1), length=12, kind="FloatStorage", key="0", what="storage") -> bytes:
    """Opcodes of one tensor as PyTorch writes it."""
    storage = b"(" + push(what) + b"ctorch\n" + kind.encode() + b"\n" + push(key) + push("cpu") + push(length) + b"tQ"
    hooks = push(False) + b"ccollections\nOrderedDict\n)R"
    arguments = push(offset) + push(size) + push(stride) + hooks
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + arguments + b"tR"


def write_archive(path: Path, program: bytes, **extra: bytes) -> Path:
    """A .pt file with this pickle, with float32 values 0..11 in storage 0."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", program)
        archive.writestr("weights/data/0", DATA.tobytes())
        for name, content in extra.items():
            archive.writestr(f"weights/{name}", content)
    return path


def dictionary(value: bytes) -> bytes:
    """A pickle of ``{"w": value}``."""
    return b"\x80\x02}" + push("w") + value + b"s."


def refused(path: Path, reason: str = ".") -> None:
    """StepOutput must end in one clear ValueError: it names the file, gives the reason, and is one line."""
    with pytest.raises(ValueError, match=reason) as caught:
        read_state_dict(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({}, DATA.reshape(3, 4)),
        ({"offset": 4, "size": (4,), "stride": (2,)}, DATA[4::2]),
        ({"size": (4, 3), "stride": (1, 4)}, DATA.reshape(3, 4).T),
        ({"offset": 11, "size": (), "stride": ()}, DATA[11]),
        ({"offset": 12, "size": (0, 3), "stride": (3, 1)}, np.zeros((0, 3))),
    ],
)
def test_views_are_read_as_they_lie_in_their_storage(tmp_path, layout, expected):
    found = read_state_dict(write_archive(tmp_path / "view.pt", dictionary(tensor(**layout))))
    assert found["w"].shape == np.shape(expected) and np.array_equal(found["w"], expected)


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"length": 13}, "storage 0 has 12 values, 13 were promised"),
        ({"length": 11}, "storage 0 has 12 values, 11 were promised"),
        ({"length": 24, "kind": "DoubleStorage"}, "storage 0 has 6 values, 24 were promised"),
        ({"key": "1"}, "weights/data/1"),
        ({"size": (4, 4)}, "outside its storage"),
        ({"stride": (5, 1)}, "outside its storage"),
        ({"offset": 1}, "outside its storage"),
        ({"offset": 10**15, "size": (1,), "stride": (1,)}, "outside its storage"),
        ({"offset": -1}, "outside its storage"),
        ({"stride": (4, -1)}, "outside its storage"),
        ({"offset": 11, "stride": (-4, -1)}, "outside its storage"),
        ({"size": (-3, 4)}, "outside its storage"),
        ({"size": (-3, -4), "stride": (4, 1)}, "outside its storage"),
        ({"size": (2**40, 2**40), "stride": (2**40, 1)}, "outside its storage"),
        ({"size": (3, 5), "stride": (1, 0)}, "takes values of its storage more than once"),
        ({"size": (3, 2), "stride": (1, 0)}, "takes values of its storage more than once"),
        ({"size": (6, 6), "stride": (1, 1)}, "takes values of its storage more than once"),
        ({"size": (2**64, 0), "stride": (1, 1)}, "outside its storage"),
        ({"what": "module"}, "unknown kind of stored object 'module'"),
        ({"kind": "UntypedStorage"}, "torch.UntypedStorage"),
    ],
)
def test_tensors_that_lie_about_their_storage_are_refused(tmp_path, lie, reason):
    refused(write_archive(tmp_path / "lie.pt", dictionary(tensor(**lie))), reason)


@pytest.mark.parametrize("lie", [{"size": (3,)}, {"size": 3}, {"size": (2.5, 4)}, {"offset": "1"}, {"length": None}])
def test_tensors_with_nonsense_for_numbers_are_refused(tmp_path, lie):
    refused(write_archive(tmp_path / "nonsense.pt", dictionary(tensor(**lie))))


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("wrap", [lambda hostile: hostile, lambda hostile: {"w": hostile}], ids=["bare", "in a dict"])
def test_a_pickle_that_runs_a_command_is_refused_by_name_before_it_runs(tmp_path, protocol, wrap):
    trace = tmp_path / "trace"
    program = pickle.dumps(wrap(Hostile(f'echo ran > "{trace}"')), protocol=protocol)
    path = write_archive(tmp_path / "hostile.pt", program)
    refused(path, rf"asks for {os.name}.system, which")
    assert not trace.exists()
    pickle.loads(program)  # the command does run where nobody looks
    assert trace.read_text().strip() == "ran"


@pytest.mark.parametrize(
    "name",
    ["builtins.eval", "builtins.getattr", "torch.load", "torch.nn.Module", "numpy.load", "collections.Counter",
     "torch._utils._rebuild_tensor_v3", "trm_jax.official.tensor_files.read_state_dict"],
)  # fmt: skip
def test_every_name_that_weights_have_no_need_of_is_refused(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    reference = b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"
    refused(write_archive(tmp_path / "name.pt", dictionary(reference)), f"asks for {name}, which")


def test_a_refused_file_is_closed(tmp_path):
    path = write_archive(tmp_path / "name.pt", dictionary(b"cbuiltins\neval\n"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        refused(path, "builtins.eval")
        gc.collect()
    assert not [str(warning.message) for warning in caught]


def test_a_pickle_cannot_change_the_program_that_reads_it(tmp_path):
    """The opcode BUILD sets attributes of what is on the stack; it must reach none of the program's."""
    state = push((None, {"__doc__": "changed", "name": "eval", "_function": eval.__name__}))
    for name in ("_utils\n_rebuild_tensor_v2", "_utils\n_rebuild_parameter", "\nFloatStorage"):
        body = b"ctorch" + (b"." if name[0] == "_" else b"") + name.encode() + b"\n" + state + b"b"
        refused(write_archive(tmp_path / "build.pt", dictionary(body)), "sets the state of a plain value")
    ordered = b"ccollections\nOrderedDict\n)R" + push({"items": 1, "__class__": 2}) + b"b"
    path = write_archive(tmp_path / "dict.pt", b"\x80\x02" + ordered + push("w") + tensor() + b"s.")
    assert list(read_state_dict(path)) == ["w"]  # as PyTorch's own _metadata: not needed, not kept


def test_a_pickle_cannot_change_the_types_of_numpy(tmp_path):
    kind = np.dtype(ml_dtypes.bfloat16)
    state = kind.__reduce__()[2]
    changed = (*state[:-3], 64, *state[-2:])
    try:
        body = b"ctorch\nBFloat16Storage\n" + push(changed) + b"b"
        refused(write_archive(tmp_path / "build.pt", dictionary(body)))
        assert kind.itemsize == 2
    finally:
        kind.__setstate__(state)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (pickle.dumps([1, 2], protocol=2), "not hold a plain state dict"),
        (pickle.dumps({"epoch": 3}, protocol=2), "not hold a plain state dict"),
        (dictionary(b"}" + push("inner") + tensor() + b"s"), "not hold a plain state dict"),
        (dictionary(b"ctorch\nFloatStorage\n"), "not hold a plain state dict"),
        (dictionary(tensor())[:-20], "damaged"),
        (b"", "damaged"),
        (b"\x80\x02]K\x01K\x02s.", "damaged"),
        (b"\x80\x02K\x01Q.", "damaged"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "damaged"),
    ],
)
def test_pickles_that_are_no_state_dict_are_refused(tmp_path, program, reason):
    refused(write_archive(tmp_path / "other.pt", program), reason)


def run_limited(path: Path, seconds: float) -> tuple[str, float]:
    """What output a file says, in a process of its own with 1 GB of memory, and the largest memory that it took."""
    program = (
        "import resource, sys; from pathlib import Path; from trm_jax.official.tensor_files import read_state_dict\n"
        "from trm_jax.support.machine import peak_memory; before = peak_memory()\n"
        "try:\n    read_state_dict(Path(sys.argv[1]))\n"
        "except ValueError as error:\n    print(str(error))\n    print(peak_memory() - before)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    message, memory = result.stdout.strip().rsplit("\n", 1)
    return message, float(memory)


DOUBLING = b"N" + b"".join(b"q" + bytes([index]) + b"h" + bytes([index]) + b"\x86" for index in range(60))
ATTACKS = {
    "deep tuples": (b"N" + b"\x85" * 200_000, "more lists and tuples"),
    "deep lists": (b"]" * 200_000 + b"a" * 199_999, "more lists and tuples"),
    "a tuple of itself twice, 60 times": (b"(" + DOUBLING + b"NNNNtQ", "has a storage of an unknown type|unknown"),
    "such a tuple as a name": (dictionary(b"}" + DOUBLING + b"Ns")[2:-1], "not a dict with names"),
    "a string of 2 GB": (b"X\xff\xff\xff\x7f", "longer than the file"),
    "a memo of 4 billion": (b"Nr\xff\xff\xff\xff", "out of turn"),
    "an integer of 2 GB": (b"\x8b\xff\xff\xff\x7f", "has no place"),
    "bytes of 2**40": (b"\x8e" + (2**40).to_bytes(8, "little"), "longer than the file"),
    "extension code": (b"\x82\x01", "has no place"),
}  # fmt: skip


@pytest.mark.parametrize("case", ATTACKS)
def test_pickles_that_crash_hang_or_fill_the_memory_are_refused_at_once(tmp_path, case):
    body, reason = ATTACKS[case]
    message, memory = run_limited(write_archive(tmp_path / "attack.pt", b"\x80\x02" + body + b"."), 30)
    assert re.search(reason, message) and len(message) < 500 + len(str(tmp_path))
    assert memory < 100


def test_archives_that_would_fill_the_memory_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_MAX_UNPACKED", 2**20)
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda *_: pytest.fail("it was unpacked"))
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights/data.pkl", dictionary(tensor()))
        archive.writestr("weights/data/0", bytes(2**23))
    np.savez_compressed(tmp_path / "bomb.npz", w=np.zeros(2**23, np.uint8))
    for name in ("bomb.pt", "bomb.npz"):
        refused(tmp_path / name, "would unpack from")


def test_a_storage_that_is_copied_again_and_again_is_refused(tmp_path):
    """Tied weights share one; a short pickle must not ask for a hundred copies of a large one."""
    values = np.arange(2**18, dtype="<f4")
    same = {"size": (2**18,), "stride": (1,), "length": 2**18}
    for copies in (2, 40):
        path = tmp_path / f"{copies}.pt"
        with zipfile.ZipFile(path, "w") as archive:
            items = b"".join(push(f"w{number}") + tensor(**same) for number in range(copies))
            archive.writestr("weights/data.pkl", b"\x80\x02}(" + items + b"u.")
            archive.writestr("weights/data/0", values.tobytes())
    assert all(np.array_equal(value, values) for value in read_state_dict(tmp_path / "2.pt").values())
    refused(tmp_path / "40.pt", "copy its storages more than 4 times")


def test_a_pickle_of_unlikely_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "_MAX_PICKLE", 100)
    refused(write_archive(tmp_path / "large.pt", dictionary(tensor())), "has a data.pkl of [0-9]+ bytes")


def test_a_big_endian_file_is_refused(tmp_path):
    path = write_archive(tmp_path / "big.pt", dictionary(tensor()), byteorder=b"big")
    refused(path, "big-endian")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("ending", [".pt", ".pth", ".npz", ".safetensors"])
def test_a_truncated_file_is_refused(tmp_path, ending, share):
    path = tmp_path / f"whole{ending}"
    if ending in (".pt", ".pth"):
        path.write_bytes(GOLDEN.read_bytes())
    else:
        write_state_dict(path, {"w": DATA, "v": np.ones((20, 20), np.float32)})
    content = path.read_bytes()
    assert read_state_dict(path)
    path.write_bytes(content[: int(share * len(content))])
    refused(path)


def test_an_archive_without_a_pickle_is_refused(tmp_path):
    path = tmp_path / "empty.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "nothing")
    refused(path, "has no data.pkl")


def test_an_archive_with_an_unknown_compression_is_refused(tmp_path):
    path = write_archive(tmp_path / "packed.pt", dictionary(tensor()))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] = 77  # the method of the first entry, in the central directory
    path.write_bytes(content)
    refused(path, "damaged")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("weights.bin", b"anything", "an unknown kind of file; give .pt, .safetensors or .npz"),
        ("weights", b"anything", "unknown kind of file"),
        ("old.pt", pickle.dumps({"w": 1}), "save it again with PyTorch 1.6"),
        ("text.npz", b"no arrays here, just text", "damaged"),
        ("text.safetensors", b"no arrays here, just text", "damaged"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    refused(path, reason)


def test_npz_files_with_pickled_objects_are_refused_before_they_run(tmp_path):
    trace = tmp_path / "trace"
    path = tmp_path / "objects.npz"
    np.savez(path, w=np.array([Hostile(f'echo ran > "{trace}"')], dtype=object))
    refused(path, "damaged|object")
    assert not trace.exists()


def test_a_single_array_under_the_name_of_an_npz_is_refused(tmp_path):
    path = tmp_path / "single.npz"
    with open(path, "wb") as file:
        np.save(file, DATA)
    refused(path, "damaged")


def test_npz_files_with_broken_compression_are_refused(tmp_path):
    path = tmp_path / "packed.npz"
    np.savez_compressed(path, w=np.random.default_rng(0).normal(size=100))
    content = bytearray(path.read_bytes())
    content[100:140] = b"\xff" * 40
    path.write_bytes(content)
    refused(path, "damaged")


@pytest.mark.parametrize(
    ("start", "stop", "replacement"),
    [(0, 8, b"\xff" * 8), (0, 1, b"\x00"), (10, 20, b"\xff" * 10), (-8, None, b"")],
    ids=["huge header", "no header", "header is no JSON", "data cut off"],
)
def test_damaged_safetensors_are_refused(tmp_path, start, stop, replacement):
    content = bytearray(save({"w": DATA, "v": DATA}))
    content[start:stop] = replacement
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    refused(path, "damaged")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*nothing\.npz"):
        read_state_dict(tmp_path / "nothing.npz")
    with pytest.raises(FileNotFoundError, match="no file at"):
        read_state_dict(tmp_path)


STATE = {
    "plain": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    "half.weight": np.float16([[1.5, -2.25], [0.1, 6e4]]),
    "double": np.array([np.pi, -0.0, np.inf]),
    "counts": np.arange(6).reshape(2, 3),
    "flags": np.array([True, False]),
    "scalar": np.array(2.5, np.float32),
    "none": np.zeros((0, 3), np.float32),
    "transposed": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "every second": np.arange(12, dtype=np.float32)[::2],
    "backwards": np.arange(5, dtype=np.float32)[::-1],
}


@pytest.mark.parametrize("ending", [".pt", ".safetensors", ".npz"])
@pytest.mark.parametrize("name", STATE)
def test_what_is_written_is_read_bitwise(tmp_path, ending, name):
    path = tmp_path / f"weights{ending}"
    write_state_dict(path, {"first": DATA, name: STATE[name]})
    found = read_state_dict(path)
    assert found.keys() == {"first", name} and np.array_equal(found["first"], DATA)
    assert found[name].dtype == STATE[name].dtype and found[name].shape == STATE[name].shape
    assert found[name].tobytes() == STATE[name].tobytes()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", [".pt", ".safetensors", ".npz"])
def test_bfloat16_comes_back_as_float32(tmp_path, ending):
    path = tmp_path / f"weights{ending}"
    values = np.array([1.5, -2.0, 3.140625], ml_dtypes.bfloat16)
    write_state_dict(path, {"w": values})
    found = read_state_dict(path)["w"]
    assert found.dtype == np.float32 and found.tolist() == [1.5, -2.0, 3.140625]


@pytest.mark.parametrize("ending", [".pt", ".safetensors", ".npz"])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, ending, monkeypatch):
    path = tmp_path / f"weights{ending}"
    write_state_dict(path, {"w": DATA})
    before = path.read_bytes()

    def interrupted(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(OSError, match="disk full"):
        write_state_dict(path, {"w": 2 * DATA})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["weights.onnx", "weights", "weights.npy"])
def test_writing_another_ending_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name}: write .pt, .safetensors or .npz"):
        write_state_dict(tmp_path / name, {"w": DATA})
    assert not list(tmp_path.iterdir())


class Recorder(pickle.Unpickler):
    """Calls of a checkpoint as tuples, and its storages as they are named."""

    def find_class(self, module, name):
        if name.startswith("_rebuild"):
            return lambda *arguments: (f"{module}.{name}", *arguments)
        return OrderedDict if name == "OrderedDict" else f"{module}.{name}"

    def persistent_load(self, reference):
        return reference


def test_a_written_checkpoint_has_the_opcodes_that_pytorch_executes(tmp_path):
    """The same calls as in a file that PyTorch wrote, tensor by tensor; bfloat16 stays bfloat16."""
    state = golden_values()
    write_state_dict(tmp_path / "ours.pt", state)
    calls = {}
    for path in (tmp_path / "ours.pt", GOLDEN):
        with zipfile.ZipFile(path) as archive:
            root = archive.namelist()[0].split("/")[0]
            assert archive.read(f"{root}/byteorder") == b"little" and archive.read(f"{root}/version").strip() == b"3"
            calls[path] = Recorder(io.BytesIO(archive.read(f"{root}/data.pkl"))).load()
    ours, theirs = calls.values()
    assert list(ours) == list(theirs)
    for name, call in ours.items():
        assert call[0] == "torch._utils._rebuild_tensor_v2"
        if name.endswith(("qkv_proj.weight", "q_head.weight")):  # a transposed view and a Parameter there
            continue
        assert call[3:] == theirs[name][3:], name  # size, stride, gradient, hooks
        assert call[1][:2] == theirs[name][1][:2] and call[1][3] == theirs[name][1][3] == "cpu", name
