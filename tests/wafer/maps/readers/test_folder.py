"""A folder of maps: what is written is read back, and what is broken is left out by name."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from trm_jax.wafer.maps.answers import write_answers
from trm_jax.wafer.maps.readers.folder import read_folder
from trm_jax.wafer.maps.readers.text import parse_csv
from trm_jax.wafer.maps.validate import ReadOptions
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN

MAP = np.random.default_rng(0).integers(0, 3, (6, 9)).astype(np.uint8)


def write_csv(path: Path, cells: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, cells, "%d", ",")


def write_png(path: Path, cells: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(cells).save(path)


@given(
    cells=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 2)),
    between=st.sampled_from([",", ";", " ", "\t", ", ", " ; "]),
    end=st.sampled_from(["\n", "\r\n", "\n\n", " \n"]),
    last=st.booleans(),
)
def test_what_is_written_as_csv_is_parsed(cells: np.ndarray, between: str, end: str, last: bool) -> None:
    text = end.join(between.join(map(str, row)) for row in cells.tolist()) + end * last
    found = parse_csv(text.encode())
    assert found.dtype == np.uint8 and np.array_equal(found, cells)


@given(st.binary(max_size=40) | st.text("012,; \n3.-x", max_size=40).map(str.encode))
def test_other_text_is_refused_or_has_exactly_its_cells(text: bytes) -> None:
    try:
        cells = parse_csv(text)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        # No die may be many things, but every 1 and every 2 is a die, and nothing else is.
        assert re.findall(rb"[12]", text) == [b"%d" % cell for cell in cells.ravel() if cell]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is empty"),
        (b"0,1\n0,3", "has a cell '3' in line 2"),
        (b"0,,1", "has a cell '1x'"),
        (b"1,1.5", "has a cell '1.5' in line 1"),
        (b"-1,0,1", "has a cell '-1' in line 1; cells are 0, 1 or 2$"),
        (b"1,2\n1,7", "has a cell '7' in line 2; cells are 0, 1 or 2; for bins say which pass: --pass-bins 1"),
        (b"0,1\n,1", "has cells 0 and '', which both may be no die; say which bins pass"),
        (b"is a picture", "has a cell 'is'"),
        (b"\n0,1,2\n0,1", "has 2 cells in line 3, 3 in line 2"),
    ],
)
def test_broken_csv_is_refused_with_its_line(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_csv(text.replace(b"0,,1", b"0,1x"))


def test_folders_name_the_classes(tmp_path: Path) -> None:
    scaled = np.array([0, 128, 255], np.uint8)[MAP]
    write_csv(tmp_path / "edge_ring" / "a.csv", MAP)
    write_png(tmp_path / "Near-full" / "b.png", MAP)
    write_png(tmp_path / "none" / "c.PNG", scaled)
    write_png(tmp_path / "unlabelled" / "d.png", np.where(scaled == 128, 127, scaled).astype(np.uint8))
    write_csv(tmp_path / "top.csv", MAP.T)
    (tmp_path / "readme.txt").write_text("not a map")
    wafers, rejected, *_ = read_folder(tmp_path)
    # In order of their names.
    assert [CLASSES[label] if label != UNKNOWN else "" for label in wafers.label] == [
        "Near-full", "Edge-Ring", "none", "", "",
    ]  # fmt: skip
    assert rejected == [] and wafers.row.tolist() == [0, 1, 2, 3, 4]
    assert [np.array_equal(wafers.map(index), MAP) for index in range(5)] == [True, True, True, False, True]
    assert len(set(wafers.group)) == 5 and wafers.source == tmp_path.name


def test_a_table_gives_labels_and_lots(tmp_path: Path) -> None:
    for name in "abc":
        write_csv(tmp_path / "Loc" / f"{name}.csv", np.roll(MAP, ord(name)))
    (tmp_path / "labels.csv").write_text("file,label,lot\nLoc/a.csv,Scratch,7\nLoc/c.csv,,7\n")
    wafers = read_folder(tmp_path).wafers
    assert wafers.label.tolist() == [CLASSES.index("Scratch"), CLASSES.index("Loc"), UNKNOWN]
    assert wafers.group[0] == wafers.group[2] != wafers.group[1]
    (tmp_path / "labels.csv").write_text("lot,file\n1,Loc/a.csv\n1,Loc/b.csv\n")
    wafers = read_folder(tmp_path).wafers
    assert (wafers.label == CLASSES.index("Loc")).all() and wafers.group.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("name,label\n", "must have a column file"),
        ("file\na.csv\n", "must have a column file"),
        ("file,label\nb.csv,Loc\n", "line 2: 'b.csv' is no map of this folder"),
        ("file,label\na.csv,Loc\na.csv,Loc\n", "line 3: 'a.csv' occurs twice"),
        ("file,label\na.csv\n", "line 2: expected 2 fields"),
        ("file,label\na.csv,Loc,1\n", "line 2: expected 2 fields"),
        ('file,label\n"a.csv,Loc', "unexpected end of data"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, table: str, reason: str) -> None:
    write_csv(tmp_path / "a.csv", MAP)
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(ValueError, match=reason) as caught:
        read_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_broken_files_are_left_out_by_name(tmp_path: Path) -> None:
    write_csv(tmp_path / "good.csv", MAP)
    write_csv(tmp_path / "Lok" / "a.csv", MAP)
    write_csv(tmp_path / "b.csv", MAP + 1)
    write_csv(tmp_path / "c.csv", MAP[:4])
    write_png(tmp_path / "d.png", MAP + 70)
    write_png(tmp_path / "e.png", np.stack([MAP] * 3, axis=-1))
    write_png(tmp_path / "f.png", np.zeros((2000, 2000), np.uint8))
    (tmp_path / "g.png").write_bytes((tmp_path / "d.png").read_bytes()[:-30])
    (tmp_path / "h.png").write_bytes(b"no image")
    (tmp_path / "i.csv").write_bytes(b"0," * 3_000_000)
    wafers, rejected, *_ = read_folder(tmp_path)
    assert len(wafers) == 1 and np.array_equal(wafers.map(0), MAP) and wafers.row.tolist() == [7]
    reasons = {reason.split("'")[1]: reason.split(") ")[1] for _, reason in rejected}
    expected = {
        "Lok/a.csv": "unknown class 'Lok'; known are Center",
        "b.csv": "has a cell '3' in line",
        "c.csv": "is 4 x 9; sides must be 5 to 1024 dies",
        "d.png": "has a grey value 70; they are 0, 1, 2 or 0, 128, 255",
        "e.png": "is an image of mode RGB; save it as 8-bit grey",
        "f.png": "is 2000 x 2000; sides are 1024 at most",
        "g.png": "is damaged or not a PNG",
        "h.png": "is damaged or not a PNG",
        "i.csv": "is a file of 6,000,000 bytes",
    }
    assert sorted(reasons) == sorted(expected)
    assert all(reasons[name].startswith(reason) for name, reason in expected.items())


def test_what_is_not_a_file_is_rejected_and_the_others_are_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "good.csv", MAP)
    (tmp_path / "directory.csv").mkdir()
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    wafers, rejected, names, _ = read_folder(tmp_path)
    assert len(wafers) == 1 and len(names["file"]) == 5
    reasons = {reason.split("'")[1]: reason.split(") ")[1] for _, reason in rejected}
    assert reasons == {
        "dangling.csv": "cannot be read: No such file or directory",
        "device.png": "is not a regular file",
        "directory.csv": "is not a regular file",
        "pipe.csv": "is not a regular file",
    }


def test_a_name_that_is_not_utf8_keeps_its_line_in_the_table(tmp_path: Path) -> None:
    write_csv(tmp_path / os.fsdecode(b"a\xff.csv"), MAP)
    (tmp_path / os.fsdecode(b"b\xfe")).mkdir()
    write_csv(tmp_path / os.fsdecode(b"b\xfe") / "c.csv", MAP)
    read = read_folder(tmp_path, ReadOptions(to_classify=True))
    assert read.names["file"] == ("a\\xff.csv", "b\\xfe/c.csv")
    write_answers(tmp_path / "table", read, np.full((2, 9), 1 / 9), np.ones(2, int), 0.5)
    assert r"a\xff.csv" in (tmp_path / "table").read_text(encoding="utf-8")


def test_a_png_with_a_chunk_longer_than_the_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", MAP)
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[33:37] = (3 * 10**9).to_bytes(4, "big")
    (tmp_path / "b.png").write_bytes(content)
    assert "a chunk of 3,000,000,000 bytes reaches beyond the end" in read_folder(tmp_path).rejected[0].reason


def test_without_pillow_a_png_is_rejected_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    write_csv(tmp_path / "a.csv", MAP)
    (tmp_path / "b.png").write_bytes(b"")
    assert "needs Pillow" in read_folder(tmp_path).rejected[0].reason


def test_a_folder_without_maps_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(ValueError, match=r"has no wafer maps: expected files such as .csv or .png"):
        read_folder(tmp_path)
