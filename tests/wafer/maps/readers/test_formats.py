"""Files as fabs have them: each becomes the map that it shows, or says in one line why not and what to do."""

import gzip
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trm_jax.support import archives
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps import source
from trm_jax.wafer.maps.fab.bins import Die, bin_name, parse_pass_bins, place
from trm_jax.wafer.maps.wafers import CLASSES, FAIL, NO_DIE, PASS, UNKNOWN

WAFERS = synthetic_wafers(9, seed=3)
MAP = WAFERS.map(0)
OTHER = WAFERS.map(1)


@pytest.fixture
def cases(data_root: Path) -> Path:
    folder = data_root / "wafer_cases"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def cropped(cells: np.ndarray) -> np.ndarray:
    """Without empty rows and columns around it, of which a list of dies knows nothing."""
    rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
    return cells[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def die_lines(cells: np.ndarray, fails: str = "7", before: str = "") -> list[str]:
    return [f"{before}{x},{y},{'1' if cells[y, x] == PASS else fails}" for y, x in np.argwhere(cells)]


CSV = "06_csv_variants/"
AS_IS = [
    "a_plain", "b_crlf", "c_semicolon", "d_tab", "e_cr_only", "f_bom", "g_utf16", "h_trailing_comma", "i_quoted",
    "j_comma_blank", "k_floats", "l_savetxt", "m_nodelim", "n_to_csv_default", "o_to_csv_noindex", "p_comment",
    "q_empty_off", "r_dots", "v_blank_off",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "pass_bins"),
    [(f"{CSV}{name}.csv", "") for name in AS_IS]
    + [
        (CSV + "a_plain.csv", "1"),
        (CSV + "t_bins.csv", "1"),
        (CSV + "s_minus1.csv", "0"),
        ("08_ignored_files/e.csv", ""),
    ]
    + [("07_die_list/" + name, "1") for name in ("a_header.csv", "b_noheader.csv", "f_hex.csv", "g_ink.csv")]
    + [("07_die_list/" + name, "0") for name in ("d_sinf.csv", "e_sinf_rows.csv")],
)
def test_one_wafer_however_it_is_written(cases: Path, name: str, pass_bins: str) -> None:
    expected = np.loadtxt(cases / CSV / "a_plain.csv", np.uint8, delimiter=",")
    found = source.read(cases / name, pass_bins=pass_bins)
    assert np.array_equal(found.wafers.map(0), expected) and found.names["file"] == (Path(name).name,)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (CSV + "s_minus1.csv", "has a cell '-1' in line 1; cells are 0, 1 or 2"),
        (CSV + "t_bins.csv", "has a cell '7' in line 1; .* say which pass: --pass-bins 1"),
        (CSV + "u_ragged_left.csv", "has 20 cells in line 2, 17 in line 1"),
        ("07_die_list/a_header.csv", r"bins 1 \(368 dies\), 5 \(147 dies\); say which pass, such as --pass-bins 1"),
        ("07_die_list/c_flags.csv", "is 515 x 2; sides must be 5 to 1024"),
        ("07_die_list/d_sinf.csv", "cells 0 and '__', which both may be no die; say which bins pass"),
        ("05_mixedwm38_npz/Scratch.npz", "is an array of objects, which could run code"),
        ("21_frame_copies/LSWMD.csv", "is a frame saved as text, whose maps are cut; save it as a pickle"),
        ("21_frame_copies/LSWMD.xlsx", "is an archive of 8 files; unpack it"),
        ("24_kaggle_numbers/failureNum_only_p203.pkl", "no column failureType, and the numbers in failureNum name no"),
        ("24_kaggle_numbers/failureType_numbers_p203.pkl", "failureType has numbers; replace them by the names"),
        ("09_png_variants/f_rgba.png", "is an image of mode RGBA; save it as 8-bit grey .* not as a figure"),
        ("09_png_variants/n_jpeg_in_disguise.png", "is damaged or not a PNG"),
        ("20_serve_bodies/null_off_wafer.json", "is an unknown kind of file; give a frame"),
    ],
)
def test_what_could_mean_two_things_is_refused_with_the_remedy(cases: Path, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        source.read(cases / name)
    assert "\n" not in str(caught.value)


FRAMES = ["02_pandas_1_3/kaggle_p2_p135", "02_pandas_1_3/kaggle_p4_p130", "02_pandas_1_3/kaggle_p4_p135"]
FRAMES += ["02_pandas_1_3/kaggle_p5_p135", "02_pandas_1_3/plain_strings_p135", "03_pandas_3_pyarrow/kaggle_p4_p03"]
FRAMES += ["03_pandas_3_pyarrow/kaggle_p4_p3", "03_pandas_3_pyarrow/plain_strings_p3"]
FRAMES += [
    "21_frame_copies/from_parquet",
    "21_frame_copies/gzip_named",
    "23_mir_trainTestLabel/mir_trainTestLabel_p203",
]
FRAMES += ["25_stringified/stringified_labels_p203"]


@pytest.mark.parametrize("name", FRAMES)
def test_every_frame_that_pandas_wrote(cases: Path, name: str) -> None:
    expected = source.read(cases / "21_frame_copies" / "LSWMD.pickle").wafers
    found = source.read(cases / f"{name}.pkl")
    assert np.array_equal(found.wafers.flat, expected.flat) and np.array_equal(found.wafers.label, expected.label)
    assert found.rejected == [] and np.bincount(expected.label + 1).tolist() == [3] * 10
    if "frame" not in name:
        assert found.names["lot"][:6] == ("lot0",) * 5 + ("lot1",) and found.names["wafer"][:2] == ("1", "2")
        assert found.wafers.official[:2].tolist() == [1, 0]


@pytest.mark.parametrize("name", ["LSWMD.PKL", "LSWMD.p", "maps.NPZ", "int64.npz", "LSWMD.parquet", "LSWMD.feather"])
def test_copies_under_other_names_and_types(cases: Path, name: str) -> None:
    if name.endswith(("parquet", "feather")):
        pytest.importorskip("pyarrow")
    expected = source.read(cases / "21_frame_copies" / "LSWMD.pickle").wafers
    assert np.array_equal(source.read(cases / "21_frame_copies" / name).wafers.flat, expected.flat)


def test_numbers_for_labels_are_said_when_classifying_and_rows_keep_their_index(cases: Path) -> None:
    found = source.read(cases / "24_kaggle_numbers" / "failureNum_only_p203.pkl", to_classify=True)
    assert "the numbers in failureNum name no class" in found.notes[0] and (found.wafers.label == UNKNOWN).all()
    assert found.names["index"][:3] == ("0", "1", "2") and found.names["index"][-1] != "26"


def test_an_oversampled_frame_is_classified_whole_and_learned_from_once(cases: Path) -> None:
    path = cases / "27_oversampled" / "oversampled_p203.pkl"
    whole, once = source.read(path, to_classify=True), source.read(path)
    assert (len(whole.wafers), len(once.wafers), len(once.rejected)) == (38, 30, 8)
    assert np.array_equal(whole.wafers.map(30), whole.wafers.map(3))


def test_folders_of_other_projects(cases: Path) -> None:
    found = source.read(cases / "10_imagefolder")
    names = dict(zip(found.names["file"], range(28), strict=True))
    label = dict(zip(found.wafers.row.tolist(), found.wafers.label.tolist(), strict=True))
    expected = {"train/Edge-Loc/001": "Edge-Loc", "val/edge-loc/003": "Edge-Loc", "a/Edge-Local/004": "Edge-Loc"}
    expected |= {
        "a/Local/005": "Loc",
        "a/Near Full/009": "Near-full",
        "a/Normal/010": "none",
        "a/Random /025": "Random",
    }
    expected |= {"Donut/lot12/023": "Donut", "a/None/013": "none", "Donuts/024": "Donut", "a/Scratches/019": "Scratch"}
    assert {name: CLASSES[label[names[f"{name}.png"]]] for name in expected} == expected
    for name in ("a/-/016", "a/nan/017", "a/unlabeled/015", "unknown/027", "a/Null/018"):
        assert label[names[f"{name}.png"]] == UNKNOWN
    rejected = {found.names["file"][row]: reason for row, reason in found.rejected}
    assert sorted(rejected) == ["3/022.png", "C1/021.png", "a/Edge-Loc+Scratch/026.png", "a/Scrach/020.png"]
    assert "did you mean Scratch?" in rejected["a/Scrach/020.png"]


def test_what_a_folder_has_beside_maps_is_counted_and_hidden_files_are_not(cases: Path) -> None:
    found = source.read(cases / "08_ignored_files")
    assert found.names["file"] == ("C.PNG", "WBM1.txt", "d.npy", "e.csv")
    assert found.notes[0].startswith("6 files that are no maps were left out: ")
    assert all(f"1 .{kind}" in found.notes[0] for kind in ("jpg", "bmp", "tif", "xlsx", "db"))


def test_mixedwm38_with_one_label_none_and_several(tmp_path: Path) -> None:
    maps = np.stack([np.resize(MAP, (52, 52))] * 4).astype(np.int32)
    maps[3, 0, 0] = 3
    marks = np.zeros((4, 8), int)
    marks[0, 6] = marks[1, [0, 7]] = marks[3, 7] = 1
    np.savez(tmp_path / "Wafer_Map_Datasets.npz", arr_0=maps, arr_1=marks)
    found = source.read(tmp_path / "Wafer_Map_Datasets.npz")
    assert [CLASSES[label] for label in found.wafers.label] == ["Scratch", "none"]
    reasons = ["has 2 labels; a wafer to learn from has one", "has a cell 3; cells are 0, 1 or 2"]
    assert found.rejected == [(1, reasons[0]), (3, reasons[1])]
    assert source.read(tmp_path, to_classify=True).wafers.row.tolist() == [0, 1, 2]


def test_a_list_of_dies_of_several_wafers_with_retests(tmp_path: Path) -> None:
    y, x = np.argwhere(MAP)[5]
    lines = ["Lot,Wafer,DieX,DieY,Hard_Bin", f"A,1,{x},{y},9", *die_lines(MAP, before="A,1,")]
    lines += ["", *die_lines(OTHER[::-1, ::-1], before="A,02,")]
    path = tmp_path / "dies.csv"
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    found = source.read(path, pass_bins="1")
    assert found.names == {"file": ("dies.csv",) * 2, "lot": ("A", "A"), "wafer": ("1", "02")}
    assert np.array_equal(found.wafers.map(0), cropped(MAP)) and found.wafers.group.tolist() == [0, 0]
    assert np.array_equal(found.wafers.map(1), cropped(OTHER[::-1, ::-1]))
    path.write_text("\n".join(lines[:3]) + "\nA,1,one,2,3")
    with pytest.raises(ValueError, match="is a list of dies, but line 4 is no die: 'A,1,one,2,3'"):
        source.read(path, pass_bins="1")


def test_a_verdict_in_words_needs_no_bins(tmp_path: Path) -> None:
    lines = [f"{x},{y},{'Pass' if MAP[y, x] == PASS else 'FAIL'}" for y, x in np.argwhere(MAP)]
    (tmp_path / "a.csv").write_text("x;y;result\n" + "\n".join(lines).replace(",", ";"))
    assert np.array_equal(source.read(tmp_path / "a.csv").wafers.map(0), cropped(MAP))


def test_dies_that_cannot_be_one_wafer() -> None:
    assert place([], frozenset()).reason == "has no die"
    far = [Die(0, 0, "P"), Die(2000, 0, "P")]
    assert place(far, frozenset()).reason == "is 1 x 2001; sides are 1024 at most"
    assert place([Die(0, 0, "P"), Die(900, 900, "F")], frozenset()).reason == "has 2 dies in 901 x 901 places"
    assert {bin_name(text) for text in ("1", "01", "0x1", " 1.0 ", "1.")} == {"1"} and bin_name("00") == "0"
    assert parse_pass_bins("1, 0A  3") == {"1", "a", "3"}


SINF = "DEVICE:X\nLOT:L7\nWAFER:L7-03\nROWCT:{rows}\nCOLCT:{columns}\n{good}\n"


def sinf(cells: np.ndarray, good: str = "BCEQU:01") -> str:
    words = np.array(["__", "01", "0C"])[cells]
    head = SINF.format(rows=cells.shape[0], columns=cells.shape[1], good=good)
    return head + "\n".join("RowData:" + " ".join(row) for row in words)


def test_sinf(tmp_path: Path) -> None:
    path = tmp_path / "wafer.sinf"
    path.write_text(sinf(MAP))
    found = source.read(path)
    assert np.array_equal(found.wafers.map(0), MAP) and found.names["wafer"] == ("L7-03",)
    path.write_text(sinf(MAP, good=""))
    with pytest.raises(ValueError, match=r"has a cell '0C' in line \d+; .* --pass-bins 1"):
        source.read(path)
    assert np.array_equal(source.read(path, pass_bins="0C").wafers.map(0), np.array([0, 2, 1], np.uint8)[MAP])
    path.write_text(sinf(MAP).replace(f"ROWCT:{len(MAP)}", "ROWCT:3"))
    with pytest.raises(ValueError, match=f"says ROWCT:3, but has {len(MAP)}"):
        source.read(path)


G85 = """<?xml version="1.0" encoding="utf-8"?>
<Maps><Map xmlns="urn:semi-org:xsd.E142" SubstrateType="Wafer" SubstrateId="W9">
<Device LotId="L1" BinType="{kind}" NullBin="{null}"><ReferenceDevice/>
<Bin BinCode="01" BinQuality="{good}"/><Bin BinCode="0B" BinQuality="Fail"/><Bin BinCode="A1" BinQuality="Reference"/>
<Data>{rows}</Data></Device></Map></Maps>"""


def g85(cells: np.ndarray, good: str = "Pass") -> str:
    words = np.array(["FF", "01", "0B"])[cells]
    rows = "".join(f"<Row><![CDATA[{''.join(row)}]]></Row>" for row in words)
    return G85.format(kind="HexaDecimal", null="FF", good=good, rows=rows)


def test_semi_g85(tmp_path: Path) -> None:
    path = tmp_path / "map.xml"
    path.write_text(g85(MAP).replace("CDATA[FF", "CDATA[A1", 1), encoding="utf-8-sig")
    found = source.read(path)
    assert np.array_equal(found.wafers.map(0), MAP)
    assert (found.names["lot"], found.names["wafer"]) == (("L1",), ("W9",))
    path.write_text(g85(MAP, good=""))
    with pytest.raises(ValueError, match=r"wafer W9.* does not say which bins pass; say it, such as --pass-bins 1"):
        source.read(path)
    assert np.array_equal(source.read(path, pass_bins="1").wafers.map(0), MAP)
    bomb = '<!DOCTYPE a [<!ENTITY b "' + "c" * 100 + '">]><Map>&b;</Map>'
    for encoding in ("utf-8", "utf-16"):
        path.write_bytes(bomb.encode(encoding))
        with pytest.raises(ValueError, match="is XML with a document type or entities, which a map does not need"):
            source.read(path)
    path.write_text("<Map><Device><Row>0101</Row>")
    with pytest.raises(ValueError, match="is damaged or not XML"):
        source.read(path)


def test_copies_by_gzip_and_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame(
        {"waferMap": [MAP, OTHER], "failureType": ["none", "Loc"], "lotName": pd.Categorical(["a", "b"])}
    )
    frame.to_pickle(tmp_path / "LSWMD.pkl")
    content = (tmp_path / "LSWMD.pkl").read_bytes()
    (tmp_path / "LSWMD.pkl.gz").write_bytes(gzip.compress(content))
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("data/LSWMD.pkl", content)
        archive.writestr("__MACOSX/data/._LSWMD.pkl", b"")
    for name in ("LSWMD.pkl.gz", "archive.zip"):
        found = source.read(tmp_path / name)
        assert np.array_equal(found.wafers.map(1), OTHER) and found.wafers.source == name
        assert found.names["lot"] == ("a", "b") and found.wafers.group.tolist() == [0, 1]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.csv.gz").write_bytes(gzip.compress("\n".join(["x,y,bin", *die_lines(MAP)]).encode()))
    assert np.array_equal(source.read(tmp_path / "folder", pass_bins="1").wafers.map(0), cropped(MAP))
    monkeypatch.setattr(archives, "_MAX_UNPACKED", 10)
    monkeypatch.setattr(archives, "_MAX_RATIO", 0)
    with pytest.raises(
        ValueError, match=r"LSWMD\.pkl\.gz cannot be unpacked: it would unpack from [\d,]+ bytes to more"
    ):
        source.read(tmp_path / "LSWMD.pkl.gz")


def test_a_folder_that_holds_the_data_file(tmp_path: Path) -> None:
    pd.DataFrame({"waferMap": [MAP]}).to_pickle(tmp_path / "LSWMD.pkl")
    (tmp_path / "notes.txt").write_text("what we found")
    assert np.array_equal(source.read(tmp_path).wafers.map(0), MAP)
    shutil.copy(tmp_path / "LSWMD.pkl", tmp_path / "copy.pkl")
    with pytest.raises(ValueError, match=r"has LSWMD\.pkl, copy\.pkl; name one of them"):
        source.read(tmp_path)
    np.savetxt(tmp_path / "a.csv", OTHER, "%d", ",")
    assert np.array_equal(source.read(tmp_path).wafers.map(0), OTHER)


def test_labels_for_single_wafers_of_a_file(tmp_path: Path) -> None:
    lines = ["wafer,x,y,bin", *die_lines(MAP, before="1,"), *die_lines(MAP, before="2,")]
    (tmp_path / "lot.csv").write_text("\n".join(lines))
    (tmp_path / "labels.csv").write_text("file,wafer,label\nlot.csv,2,Loc\nlot.csv,,none\n")
    assert [CLASSES[label] for label in source.read(tmp_path, pass_bins="1").wafers.label] == ["none", "Loc"]


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"waferMap": [MAP.tolist(), OTHER.tolist(), [[1, 2], [1]], None], "failureType": "Loc"})
    frame.to_parquet(tmp_path / "a.parquet")
    found = source.read(tmp_path / "a.parquet")
    assert np.array_equal(found.wafers.map(0), MAP) and np.array_equal(found.wafers.map(1), OTHER)
    assert [row for row, _ in found.rejected] == [2, 3]
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(ValueError, match="is damaged or not a frame of wafer maps"):
        source.read(tmp_path / "a.parquet")


def record(kind: tuple[int, int], body: bytes) -> bytes:
    return len(body).to_bytes(2, "little") + bytes(kind) + body


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def die_record(x: int, y: int, passed: bool, known: bool = True) -> bytes:
    flags = (0 if passed else 8) | (0 if known else 16)
    fields = [(1, 1), (0, 1), (flags, 1), (5, 2), (1 if passed else 7, 2), (1, 2), (x, 2), (y, 2), (9, 4)]
    return record((5, 20), b"".join(value.to_bytes(size, "little", signed=False) for value, size in fields) + text("1"))


def stdf(wafers: dict[str, np.ndarray]) -> bytes:
    """A file of STDF 4, written from its specification."""
    mir = bytes(8) + bytes([1]) + b"P  " + bytes(2) + b" " + text("LOT5") + text("") * 3
    out = record((0, 10), bytes([2, 4])) + record((1, 10), mir)
    for name, cells in wafers.items():
        out += record((2, 10), bytes([1, 255]) + bytes(4) + text(name))
        out += b"".join(die_record(int(x), int(y), cells[y, x] == PASS) for y, x in np.argwhere(cells))
        out += record((2, 20), bytes([1, 255]) + bytes(4) + bytes(20) + text(name))
    return out


def test_stdf(tmp_path: Path) -> None:
    pytest.importorskip("Semi_ATE.STDF")
    content = stdf({"W1": MAP, "W2": OTHER, "W1 ": MAP[:, ::-1]})
    path = tmp_path / "lot.stdf"
    path.write_bytes(content)
    found = source.read(path)
    # Wafer W1 was tested twice: the second time counts.
    assert np.array_equal(found.wafers.map(1), cropped(OTHER))
    assert found.names["wafer"] == ("W1", "W2") and found.names["lot"] == ("LOT5", "LOT5")
    again = np.where(MAP[:, ::-1] != NO_DIE, MAP[:, ::-1], MAP)
    assert np.array_equal(found.wafers.map(0), cropped(again))
    path.write_bytes(stdf({"W2": OTHER})[:-40])
    with pytest.raises(ValueError, match=r"wafer W2.* ends without a record WRR: the file is cut off"):
        source.read(path)
    path.write_bytes(content[:6])
    with pytest.raises(ValueError, match="is STDF without wafers"):
        source.read(path)
    (tmp_path / "lot.stdf.gz").write_bytes(gzip.compress(content))
    assert len(source.read(tmp_path / "lot.stdf.gz", pass_bins="7").wafers) == 2


def klarf(cells: np.ndarray) -> str:
    places, hit = np.argwhere(cells), np.argwhere(cells == FAIL)
    plan = "\n".join(f" {x} {y}" for y, x in places)
    columns = "DEFECTID XREL YREL XINDEX YINDEX XSIZE YSIZE DEFECTAREA DSIZE CLASSNUMBER TEST"
    defects = "\n".join(f" {number} 1.0 2.0 {x} {y} 1 1 1 1 0 1" for number, (y, x) in enumerate(hit.tolist(), 1))
    return f"""FileVersion 1 2;
FileTimestamp 01-01-26 10:00:00;
InspectionStationID "A" "B" "C";
SampleType WAFER;
ResultTimestamp 01-01-26 10:00:00;
LotID "L8";
SampleSize 1 200;
DeviceID "D";
SetupID "S" 01-01-26 10:00:00;
StepID "T";
SampleOrientationMarkType NOTCH;
OrientationMarkLocation DOWN;
DiePitch 1.0 1.0;
DieOrigin 0.0 0.0;
WaferID "W4";
Slot 4;
SampleCenterLocation 0.0 0.0;
InspectionTest 1;
SampleTestPlan {len(places)}
{plan};
AreaPerTest 1.0;
DefectRecordSpec 11 {columns} ;
DefectList
{defects};
EndOfFile;
"""


def test_klarf(tmp_path: Path) -> None:
    pytest.importorskip("klarf_reader")
    (tmp_path / "wafer.001").write_text(klarf(MAP))
    found = source.read(tmp_path)
    assert np.array_equal(found.wafers.map(0), cropped(MAP)) and found.names["wafer"] == ("W4",)
    (tmp_path / "wafer.001").write_text(klarf(MAP).replace("SampleTestPlan", "Other"))
    with pytest.raises(ValueError, match="without a SampleTestPlan"):
        source.read(tmp_path)
    (tmp_path / "wafer.001").write_text("FileVersion 9 9;\n")
    with pytest.raises(ValueError, match="cannot be read as KLARF"):
        source.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "package"), [("a.stdf", "Semi-ATE-STDF"), ("a.klarf", "klarf-reader"), ("a.parquet", "pyarrow")]
)
def test_without_the_extra_its_name_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    for module in ("Semi_ATE.STDF", "klarf_reader.klarf", "pyarrow"):
        monkeypatch.setitem(sys.modules, module, None)
    content = {"a.stdf": stdf({"W": MAP}), "a.klarf": klarf(MAP).encode(), "a.parquet": b"PAR1"}[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"needs (the package )?{package}"):
        source.read(tmp_path / name)
