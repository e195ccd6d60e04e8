"""Wafer maps from .npz: the real file is read whole, and files that lie are refused before they fill the memory."""

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from trm_jax.support import archives
from trm_jax.wafer.maps import source
from trm_jax.wafer.maps.readers.npz import read_npz
from trm_jax.wafer.maps.validate import Rejected, find_copies
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Three maps: 5 x 6, 6 x 5 and 5 x 5, with class names in another order than ours."""
    rng = np.random.default_rng(0)
    return {
        "flat": rng.integers(0, 3, 85, np.uint8),
        "height": np.array([5, 6, 5], np.int16),
        "width": np.array([6, 5, 5], np.int16),
        "label": np.array([1, -1, 0], np.int8),
        "classes": np.array(["near full", "none"]),
    }


def save(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def test_the_real_file(data_root: Path) -> None:
    path = data_root / "wm811k" / "wm811k_labelled.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    wafers, rejected, *_ = source.read(path)
    found = dict(zip(CLASSES, np.bincount(wafers.label).tolist(), strict=True))
    expected = {"Center": 3446, "Donut": 489, "Edge-Loc": 4045, "Edge-Ring": 7725, "Loc": 2879}
    expected |= {"Near-full": 115, "Random": 686, "Scratch": 961, "none": 29402}
    assert found == expected and rejected == [] and len(wafers) == 49748
    assert len(wafers.flat) == 77_417_995 and wafers.flat.max() == 2 and (wafers.official == UNKNOWN).all()
    with np.load(path) as raw:
        assert all((getattr(wafers, name) == raw[name]).all() for name in ("fold", "clean", "row", "height", "width"))
        assert (wafers.group == raw["lot_block"]).all()
    # The file's own marks were made with all 172,950 labelled maps at hand: they contain ours, and 15 copies of maps
    # that are not in the file.
    copies = find_copies(wafers)
    marked = copies.duplicate | copies.conflict
    assert not (marked & wafers.clean).any() and (~wafers.clean).sum() - marked.sum() == 15


def test_names_map_to_our_classes_and_the_rest_may_be_missing(tmp_path: Path, arrays: dict) -> None:
    wafers, rejected, *_ = read_npz(save(tmp_path / "maps.npz", arrays))
    assert [CLASSES[label] if label != UNKNOWN else "" for label in wafers.label] == ["none", "", "Near-full"]
    assert wafers.row.tolist() == [0, 1, 2] and wafers.group.tolist() == [0, 0, 0] and rejected == []
    assert np.array_equal(wafers.map(1), arrays["flat"][30:60].reshape(6, 5))
    with_rows = read_npz(save(tmp_path / "rows.npz", arrays | {"row": np.array([3, 249, 250])})).wafers
    assert with_rows.group.tolist() == [0, 0, 1]


def test_broken_maps_are_left_out_with_their_row(tmp_path: Path) -> None:
    height = np.array([0, 5, 4, 5, 5, 1025])
    width = np.array([7, 5, 9, 5, 5, 5])
    flat = np.ones((height * width).sum(), np.uint8)
    flat[25 + 36 :][:25] = 0
    flat[25 + 36 + 25 :][:1] = 3
    arrays = {"flat": flat, "height": height, "width": width, "row": np.arange(10, 16)}
    arrays |= {"label": np.array([0, 0, 0, 0, 0, 0]), "classes": np.array(["Loc"])}
    loaded = read_npz(save(tmp_path / "maps.npz", arrays))
    assert loaded.wafers.row.tolist() == [11] and loaded.wafers.map(0).tolist() == np.ones((5, 5)).tolist()
    assert loaded.rejected == [
        Rejected(10, "is empty"),
        Rejected(12, "is 4 x 9; sides must be 5 to 1024 dies"),
        Rejected(13, "has no die"),
        Rejected(14, "has a cell 3; cells are 0, 1 or 2"),
        Rejected(15, "is 1025 x 5; sides must be 5 to 1024 dies"),
    ]


def test_a_label_without_a_class_is_a_reason_to_leave_a_map_out(tmp_path: Path, arrays: dict) -> None:
    arrays["label"] = np.array([1, 2, -2], np.int8)
    reason = "which is no index into classes"
    rejected = read_npz(save(tmp_path / "maps.npz", arrays)).rejected
    assert rejected == [Rejected(1, f"has label 2, {reason}"), Rejected(2, f"has label -2, {reason}")]


def test_maps_to_classify_may_have_labels_of_other_classes(tmp_path: Path, arrays: dict) -> None:
    arrays |= {"label": np.array([1, 0, -1], np.int8), "classes": np.array(["Loch", "Loc"])}
    wafers, rejected, *_ = source.read(save(tmp_path / "maps.npz", arrays), to_classify=True)
    assert wafers.label.tolist() == [CLASSES.index("Loc"), UNKNOWN, UNKNOWN] and rejected == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"flat": None}, "has no array flat"),
        ({"classes": None}, "no array 'classes'"),
        ({"classes": np.array(["none", "Loch"])}, "unknown class 'Loch'"),
        ({"flat": np.zeros(84, np.uint8)}, "adds up to 85 cells, but flat has 84"),
        ({"flat": np.zeros(85)}, "flat must be one row of integers, not float64"),
        ({"flat": np.zeros((5, 17), np.uint8)}, "flat must be one row of integers"),
        ({"height": np.array([5, 6, 5], object)}, "height is an array of objects, which could run code"),
        ({"height": np.array([5, 6, -5])}, "height has entries outside 0 to 32767"),
        ({"width": np.array([6, 5, 2**40])}, "width has entries outside 0 to 32767"),
        ({"label": np.array([1, 0], np.int8)}, "label has 2 entries, height has 3"),
        ({"fold": np.array([0, 0, 300])}, "fold has entries outside"),
        ({"clean": np.array([1, 1, 1])}, "clean must be one row of truth values"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(tmp_path: Path, arrays: dict, change: dict, reason: str) -> None:
    changed = {name: value for name, value in (arrays | change).items() if value is not None}
    with pytest.raises(ValueError, match=reason) as caught:
        read_npz(save(tmp_path / "maps.npz", changed))
    assert str(tmp_path / "maps.npz") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"row": np.array([0, 2**63, 1], np.uint64)}, "row has entries outside"),
        ({"lot_block": np.array([0, 2**40, 1])}, "lot_block has entries outside"),
        ({"label": np.array([0, 2**63, 1], np.uint64)}, "label has entries outside"),
        ({"classes": np.array([0x110000, 0], np.uint32).view("<U1")}, "is damaged or not a file of wafer maps"),
        ({"classes": np.array([0xD800, 0], np.uint32).view("<U1")}, "is damaged or not a file of wafer maps"),
        ({"classes": np.array(["a" * 200])}, "classes has 1 names of up to 200 characters"),
    ],
)
def test_numbers_and_characters_beyond_what_they_mean(tmp_path: Path, arrays: dict, change: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        read_npz(save(tmp_path / "maps.npz", arrays | change))
    assert "\n" not in str(caught.value)


def test_small_integers_and_foreign_byte_order_are_read(tmp_path: Path, arrays: dict) -> None:
    """300 rows do not fit int8: the number of a lot is computed with wide integers."""
    small = arrays | {"row": np.array([0, 1, 2], np.int8)}
    assert read_npz(save(tmp_path / "maps.npz", small)).wafers.group.tolist() == [0, 0, 0]
    foreign = arrays | {"classes": arrays["classes"].astype(">U9"), "height": arrays["height"].astype(">i2")}
    assert read_npz(save(tmp_path / "big.npz", foreign)).wafers.label.tolist() == [8, -1, 5]


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_compression_that_numpy_does_not_write_is_refused(tmp_path: Path, arrays: dict, method: int) -> None:
    with zipfile.ZipFile(save(tmp_path / "maps.npz", arrays)) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(tmp_path / "packed.npz", "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    content = bytearray((tmp_path / "packed.npz").read_bytes())
    content[60:90] = bytes(30)  # and its data are damaged
    (tmp_path / "packed.npz").write_bytes(content)
    with pytest.raises(ValueError, match="a method other than deflate"):
        read_npz(tmp_path / "packed.npz")


@pytest.mark.parametrize("limit", [None, 2000])
def test_millions_of_empty_maps_are_counted_before_anything_is_built(tmp_path: Path, limit: int | None) -> None:
    none = np.zeros(8_400_000, np.uint8)
    path = save(tmp_path / "maps.npz", {"flat": np.zeros(0, np.uint8), "height": none, "width": none})
    assert path.stat().st_size < 20_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than 2,000 maps" if limit else "8,400,000 maps, but no more than 0"):
            read_npz(path, max_maps=limit)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_a_file_of_broken_maps_is_refused_as_a_whole(tmp_path: Path) -> None:
    sides = np.full(320_000, 5, np.uint8)
    path = save(tmp_path / "maps.npz", {"flat": np.zeros(8_000_000, np.uint8), "height": sides, "width": sides})
    with pytest.raises(ValueError, match="320,000 of 320,000 maps are broken"):
        read_npz(path)


def header(dtype: str, count: int) -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({count},), }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def refused_without_allocating(path: Path, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=reason):
            read_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_a_header_that_lies_is_refused_before_allocating(tmp_path: Path, arrays: dict) -> None:
    path = save(tmp_path / "maps.npz", {name: arrays[name] for name in ("height", "width")})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("flat.npy", header("|u1", 2**31))
    refused_without_allocating(path, "flat has a header for 2,147,483,648 entries, and 128 bytes")


def test_a_bomb_is_refused_before_allocating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = np.full(8, 1000)
    path = save(tmp_path / "maps.npz", {"flat": np.zeros(8_000_000, np.uint8), "height": side, "width": side})
    assert len(read_npz(path).rejected) == 8
    monkeypatch.setattr(archives, "_MAX_UNPACKED", 2**20)
    refused_without_allocating(path, "would unpack from [0-9,]* bytes to 8,000,512")


def test_files_cut_off_anywhere_are_refused_in_one_line(tmp_path: Path, arrays: dict) -> None:
    whole = save(tmp_path / "whole.npz", arrays).read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is damaged or not a file of wafer maps") as caught:
            read_npz(path)
        assert "\n" not in str(caught.value)
