"""A folder of maps: what is written is read back, and what is broken is left out by name."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from trm_jax.wafer.maps.folder import parse_csv, read_folder
from trm_jax.wafer.maps.maps import CLASSES, UNKNOWN

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
        assert bytes(text.translate(None, b",; \t\r\n\x0b\x0c")) == b"".join(b"%d" % cell for cell in cells.ravel())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is empty"),
        (b"0,1\n0,3", "has a cell '3' in line 2"),
        (b"0,,1", "has a cell '1x'"),
        (b"1,2,", "has a cell ''"),
        (b"1.0,2", "has a cell '1.0'"),
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
    wafers, rejected, _ = read_folder(tmp_path)
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
        ("file,label\nb.csv,Loc\n", "line 2: 'b.csv' is not a .csv or .png file of this folder"),
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
    wafers, rejected, _ = read_folder(tmp_path)
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


def test_a_folder_without_maps_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(ValueError, match=r"has no wafer maps: expected one \.csv or \.png file a map"):
        read_folder(tmp_path)
