"""LSWMD.pkl: the frame of pandas 0.19 and those of today are read, and nothing that a file says is believed or run."""

import os
import pickle
import pickletools
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from legacy_frame import write_legacy_frame

from trm_jax.wafer.maps import source
from trm_jax.wafer.maps.readers import lswmd
from trm_jax.wafer.maps.readers.lswmd import read_pickle, words
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN, Wafers

RNG = np.random.default_rng(0)
MAPS = [RNG.integers(0, 3, (5 + index, 20 - index)).astype(np.uint8) for index in range(8)]
LABELS = ["none", "", "Loc", "Edge-Ring", "Near-full", "Random", "", "Donut"]
LOTS = ["lot2", "lot2", "lot10", "lot10", "lot1", "lot1", "lot1", "lot1"]
PARTS = ["Training", "", "Test", "Test", "Test", "Training", "", "Test"]


def named(wafers: Wafers) -> list[str]:
    return [CLASSES[label] if label != UNKNOWN else "" for label in wafers.label]


def legacy(path: Path, **changes: Any) -> Path:
    write_legacy_frame(path, **({"maps": MAPS, "labels": LABELS, "lots": LOTS, "parts": PARTS} | changes))
    return path


def test_the_legacy_sample(data_root: Path) -> None:
    folder = data_root / "wm811k"
    if not (folder / "LSWMD_legacy_sample.pkl").is_file():
        pytest.skip(f"no LSWMD_legacy_sample.pkl in {folder}")
    wafers, rejected, *_ = source.read(folder / "LSWMD_legacy_sample.pkl")
    assert len(wafers) == 270 and rejected == []
    assert [named(wafers).count(name) for name in ("", *CLASSES)] == [45] + [25] * 9
    # All its maps are in the .npz too, which has been made without this reader.
    other = source.read(folder / "wm811k_labelled.npz").wafers
    known: dict[tuple, set[int]] = {}
    for index in range(len(other)):
        known.setdefault((other.map(index).shape, other.map(index).tobytes()), set()).add(int(other.label[index]))
    for index in range(len(wafers)):
        labels = known[wafers.map(index).shape, wafers.map(index).tobytes()]
        assert wafers.label[index] == UNKNOWN or wafers.label[index] in labels


@pytest.mark.parametrize("python2", [False, True])
def test_a_legacy_frame_of_either_python(tmp_path: Path, python2: bool) -> None:
    wafers, rejected, *_ = read_pickle(legacy(tmp_path / "LSWMD.pkl", python2=python2))
    assert rejected == [] and named(wafers) == LABELS and wafers.row.tolist() == list(range(8))
    assert all(np.array_equal(wafers.map(index), cells) for index, cells in enumerate(MAPS))
    assert wafers.official.tolist() == [{"Training": 0, "Test": 1, "": UNKNOWN}[part] for part in PARTS]
    assert [[lot == other for other in LOTS] for lot in LOTS] == (wafers.group[:, None] == wafers.group).tolist()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("strings", ["str", "object"])
def test_a_frame_of_todays_pandas(tmp_path: Path, protocol: int, strings: str) -> None:
    types = [np.uint8, np.int64, np.float32, np.int8, bool, np.uint8, ">i2", np.uint8]
    maps = [cells.astype(kind) for cells, kind in zip(MAPS, types, strict=True)]
    maps[5] = np.asfortranarray(maps[5])
    labels = ["none", None, [["Loc"]], np.array([["Edge_Ring"]]), np.array(["near full"], object)]
    labels += ["RANDOM", np.array([[0, 0]]), ("donut",)]
    frame = pd.DataFrame({"failureType": labels, "dieSize": 9.5, "lotName": LOTS, "waferMap": maps, "x": range(8)})
    path = tmp_path / "frame.pkl"
    path.write_bytes(pickle.dumps(frame.astype({"lotName": strings}), protocol))
    wafers, rejected, *_ = read_pickle(path)
    assert named(wafers) == LABELS and rejected == []
    assert all(np.array_equal(wafers.map(index), cells) for index, cells in enumerate(maps))
    assert wafers.group.tolist() == [0, 0, 1, 1, 2, 2, 2, 2] and (wafers.official == UNKNOWN).all()


def test_broken_maps_and_unknown_words_are_left_out_with_their_row(tmp_path: Path) -> None:
    good = MAPS[0]
    rows = {
        "is empty": (np.zeros((0, 0), np.uint8), "Loc"),
        "has 1 dimensions instead of two": (good[0], "Loc"),
        "is not an array": (None, "Loc"),
        "has cells other than 0, 1 and 2": (good + 0.5, "Loc"),
        "has a cell 7; cells are 0, 1 or 2": (good + 5, "Loc"),
        "has no die": (good * 0, "Loc"),
        "is 5 x 1100; sides must be 5 to 1024 dies": (np.ones((5, 1100), np.uint8), "Loc"),
        "is the array of row 0 once more": (good, "Loc"),
        "unknown class 'Lok'": (good.copy(), [["Lok"]]),
        "unknown class '3'": (good.copy(), np.array([[3]])),
        "has 2 labels, such as 'Donut' and 'Loc'": (good.copy(), np.array(["Loc", "Donut"])),
    }
    maps, labels = zip(*[(good, "none"), *rows.values(), (MAPS[1], "Loc")], strict=True)
    assert good.max() == 2
    path = tmp_path / "frame.pkl"
    pd.DataFrame({"waferMap": maps, "failureType": labels}).to_pickle(path)
    wafers, rejected, *_ = read_pickle(path)
    assert wafers.row.tolist() == [0, 12] and named(wafers) == ["none", "Loc"]
    assert [found.row for found in rejected] == list(range(1, 12))
    for found, reason in zip(rejected, rows, strict=True):
        assert found.reason.startswith(reason)
    # Maps to classify may have labels that name no class, and be there more than once.
    wafers, rejected, *_ = source.read(path, to_classify=True)
    assert wafers.row.tolist() == [0, 8, 9, 10, 12] and wafers.label.tolist()[2:4] == [UNKNOWN, UNKNOWN]


def test_a_wafer_whose_lot_has_no_name_is_a_lot_of_its_own() -> None:
    lots = ["a", "", float("nan"), "a", None, ["b"]]
    assert lswmd._groups(lots, np.arange(6)).tolist() == [0, 1, 2, 0, 3, 4]


NOTHING = st.sampled_from([None, float("nan"), "", " ", 0, 0.0])
NESTED = st.recursive(NOTHING, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@given(NESTED)
def test_every_kind_of_nothing_is_no_word(value: Any) -> None:
    assert words(value) == set() or "nested" in str(words(value))


@given(st.sampled_from(CLASSES), st.integers(0, 3), NOTHING)
def test_a_word_is_found_however_it_is_wrapped(name: str, depth: int, nothing: Any) -> None:
    value: Any = name
    for _ in range(depth):
        value = [value, nothing]
    assert words(value) == {name}


@pytest.mark.parametrize("python2", [False, True])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, python2: bool) -> None:
    whole = legacy(tmp_path / "whole.pkl", python2=python2).read_bytes()
    path = tmp_path / "cut.pkl"
    for length in [*range(100), *range(100, len(whole), 41), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is damaged or not a frame of wafer maps: ") as caught:
            read_pickle(path)
        assert "\n" not in str(caught.value)


class Runs:
    def __reduce__(self) -> tuple:
        return os.system, ("echo run > /dev/stderr; exit 1",)


def text(word: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(word)]) + word.encode()


def call(module: str, name: str, arguments: bytes) -> bytes:
    return text(module) + text(name) + pickle.STACK_GLOBAL + pickle.MARK + arguments + pickle.TUPLE + pickle.REDUCE


ARRAY = call("numpy.core.multiarray", "_reconstruct", call("numpy", "ndarray", b"") + b")" + text("b"))
HUGE = pickle.LONG1 + b"\x08" + (2**60).to_bytes(8, "little")


def array(dtype: str, shape: bytes, data: bytes) -> bytes:
    kind = call("numpy", "dtype", text(dtype))
    return ARRAY + b"(K\x01(" + shape + b"t" + kind + pickle.NEWFALSE + data + b"t" + pickle.BUILD


# A tuple of itself twice, forty times over: printing or walking it would take forever.
DOUBLING = b"N" + b"".join(pickle.MEMOIZE + b"h" + bytes([index]) + pickle.TUPLE2 for index in range(40))

HOSTILE = {
    "code": (pickle.dumps(Runs())[2:], "asks for (posix|nt).system"),
    "eval": (call("builtins", "eval", text("1/0")), "asks for builtins.eval"),
    "code inside numpy": (call("numpy.testing", "rundocs", b""), "asks for numpy.testing.rundocs"),
    "eval inside pandas": (call("pandas.core.computation.eval", "eval", b""), "asks for pandas.*eval"),
    "name like numpy": (call("numpyx", "_reconstruct", b""), "asks for numpyx._reconstruct"),
    "name like pandas": (call("pandas_", "DataFrame", b""), "asks for pandas_.DataFrame"),
    "encode of another": (call("evil", "encode", text("a") + text("latin1")), "asks for evil.encode"),
    "function renamed": (
        text("numpy") + text("dtype") + pickle.STACK_GLOBAL + b"}" + text("name") + text("eval") + b"s" + pickle.BUILD,
        "state of a plain value",
    ),
    "dropped memo": (
        pickle.BINUNICODE + struct.pack("<I", 300) + b"a" * 300 + pickle.MEMOIZE + b"h\x00",
        "entry 0 twice",
    ),
    "dotted name": (text("numpy") + text("os.system") + pickle.STACK_GLOBAL, "asks for numpy.os.system"),
    "call of a result": (call("builtins", "slice", b"NNN") + b")R", "calls what is not a function"),
    "huge string": (pickle.BINUNICODE8 + struct.pack("<Q", 2**40), "longer than the file"),
    "huge bytearray": (pickle.BYTEARRAY8 + struct.pack("<Q", 2**62), "longer than the file"),
    "huge integer": (pickle.LONG4 + struct.pack("<i", 2**31 - 1), "has no place"),
    "huge memo": (b"N" + pickle.LONG_BINPUT + struct.pack("<I", 2**32 - 1), "memo index 4,294,967,295 is out of turn"),
    "missing memo": (pickle.LONG_BINGET + struct.pack("<I", 2**32 - 1), "takes what is not there"),
    "frame that lies": (pickle.FRAME + struct.pack("<Q", 2**63), "is cut off"),
    "deep lists": (b"]" * 30_000 + b"a" * 29_999, "more lists and tuples"),
    "deep tuples": (b"N" + pickle.TUPLE1 * 30_000, "more lists and tuples"),
    "many marks": (b"(" * 30_000, "more lists and tuples"),
    "huge shape": (array("u1", HUGE + HUGE, pickle.SHORT_BINBYTES + b"\x01a"), "whose shape is not"),
    "huge shape of nothing": (array("u1", HUGE + b"K\x00", pickle.SHORT_BINBYTES + b"\x00"), "whose shape is not"),
    "shape beyond 64 bits": (array("u1", pickle.LONG1 + b"\x09" + bytes(8) + b"\x01" + b"K\x00", b"C\x00"), "shape"),
    "negative shape": (array("u1", b"J\xff\xff\xff\xffJ\xff\xff\xff\xff", b"C\x01a"), "whose shape is not"),
    "object of bytes": (array("O8", b"K\x01", b"C\x08aaaaaaaa"), "without as many objects"),
    "huge string type": (array("U999999999", b"K\x00", b"C\x00"), "array of type"),
    "structured type": (array("V8", b"K\x00", b"C\x00"), "array of type"),
    "broken characters": (array("U1", b"K\x01", b"C\x04\xff\xff\xff\xff"), "damaged.*utf-32"),
    "characters of no width": (array("U0", b"K\x01", b"C\x00"), "array of type"),
    "broken type": (array("f3", b"K\x01", b"C\x03aaa"), "damaged"),
    "built twice": (array("u1", b"K\x00K\x00", b"C\x00") + b"NNNNNt" + pickle.BUILD, "takes what is not there"),
    "state of a number": (b"K\x01N" + pickle.BUILD, "state of a plain value"),
    "wrong kind of index": (b"}]N" + pickle.SETITEM, "not a dict with names"),
    "no frame": (b"K\x01", "is not a frame of pandas"),
    "list in itself": (pickle.EMPTY_LIST + pickle.MEMOIZE + b"h\x00" + pickle.APPEND, "is not a frame of pandas"),
    "name that doubles": (DOUBLING + text("a") + pickle.STACK_GLOBAL, "without a name"),
    "type that doubles": (call("numpy", "dtype", DOUBLING), "array of type 'tuple'"),
    "shape that doubles": (array("u1", DOUBLING, b"C\x01a"), "whose shape is not"),
    "encode with errors": (call("_codecs", "encode", text("a") + text("rot13")), "calls encode in an unknown way"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles_are_refused_by_name(tmp_path: Path, case: str, capfd: pytest.CaptureFixture) -> None:
    body, reason = HOSTILE[case]
    path = tmp_path / "hostile.pkl"
    path.write_bytes(b"\x80\x04" + body + pickle.STOP)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=reason) as caught:
            read_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 10**8
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(path))
    assert capfd.readouterr() == ("", "")


def test_code_in_the_place_of_a_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "frame.pkl"
    pd.DataFrame({"waferMap": pd.Series([MAPS[0], Runs()])}).to_pickle(path)
    with pytest.raises(ValueError, match=r"asks for (posix|nt).system, which such a file does not need"):
        read_pickle(path)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_changed_byte_never_leads_to_another_error(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.mktemp("changed")
    content = bytearray(legacy(folder / "frame.pkl").read_bytes())
    places = [position for _, _, position in pickletools.genops(bytes(content)) if position is not None]
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.sampled_from(places)) + data.draw(st.integers(0, 2))] = data.draw(st.integers(0, 255))
    (folder / "frame.pkl").write_bytes(content)
    try:
        loaded = read_pickle(folder / "frame.pkl")
        assert len(loaded.wafers) + len(loaded.rejected) <= 8
    except ValueError as error:
        assert "\n" not in str(error)


def test_one_array_in_many_blocks_is_refused(tmp_path: Path) -> None:
    """A short file would become a thousand lists of all its values."""
    names = array("O8", b"K\x02", b"](" + text("a") + text("b") + b"e")
    values = array("i8", b"K\x01", b"C\x08" + bytes(8)) + pickle.MEMOIZE
    first, second = (
        call("pandas._libs.internals", "_unpickle_block", block + call("builtins", "slice", place) + b"K\x02")
        for block, place in ((values, b"K\x00K\x01K\x01"), (b"h\x00", b"K\x01K\x02K\x01"))
    )
    manager = call("pandas.core.internals.managers", "BlockManager", first + second + b"\x86](" + names + b"e")
    body = call("pandas.core.frame", "DataFrame", b"") + b"}" + text("_mgr") + manager + b"s" + pickle.BUILD
    path = tmp_path / "frame.pkl"
    path.write_bytes(b"\x80\x04" + body + pickle.STOP)
    with pytest.raises(ValueError, match="one array in two blocks"):
        read_pickle(path)


def test_numbers_whose_hashes_collide_take_no_longer(tmp_path: Path) -> None:
    """Tuples of (k * (2**61 - 1), 0) have one hash."""
    prime = 2**61 - 1
    body = b"".join(
        pickle.LONG1 + b"\x0a" + (number * prime).to_bytes(10, "little") + b"K\x00" + pickle.TUPLE2
        for number in range(12_000)
    )
    assert hash((prime, 0)) == hash((2 * prime, 0))
    path = tmp_path / "frame.pkl"
    path.write_bytes(b"\x80\x04" + body + pickle.STOP)
    start = time.process_time()
    with pytest.raises(ValueError, match="is not a frame"):
        read_pickle(path)
    assert time.process_time() - start < 1


def test_a_frame_without_maps_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "frame.pkl"
    pd.DataFrame({"map": [1], "label": ["none"]}).to_pickle(path)
    with pytest.raises(ValueError, match="no column 'waferMap', only label, map"):
        read_pickle(path)
