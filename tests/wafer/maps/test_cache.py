"""Where wafer maps are cached, and that preparing them loses and changes nothing."""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from legacy_frame import write_legacy_frame
from scripts import script

from trm_jax.wafer.data import load
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps import cache, source
from trm_jax.wafer.maps.validate import ReadResult, Rejected
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN, Wafers

SCRIPT = Path(__file__).resolve().parents[3] / "experiments" / "wafer_prepare.py"
ORIGIN = {"source": "somewhere", "sha256": "0", "selection": {}, "notice": ""}


prepare = partial(script, "wafer_prepare.py")


def without_sums(path: Path) -> Path:
    """A cache as versions without checksums wrote it."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["checksums"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def assert_same(actual: Wafers, expected: Wafers) -> None:
    for field in fields(Wafers):
        if field.name not in ("flat", "start", "source"):
            column, wanted = getattr(actual, field.name), getattr(expected, field.name)
            assert column.dtype == wanted.dtype and np.array_equal(column, wanted), field.name
    assert all(np.array_equal(actual.map(index), expected.map(index)) for index in range(len(expected)))


@pytest.fixture
def loaded() -> ReadResult:
    """Generated maps, of which some have been taken out, so that their cells have gaps and are out of order."""
    wafers = synthetic_wafers(60)
    wafers = replace(wafers, official=np.resize([0, 1, UNKNOWN], 60).astype(np.int8))
    chosen = np.random.default_rng(0).permutation(60)[:40]
    return ReadResult(wafers.take(np.concatenate([np.arange(5), chosen[chosen > 4]])), [Rejected(7, 'odd, "quoted"')])


def test_a_cache_gives_back_what_it_was_made_of(tmp_path: Path, loaded: ReadResult) -> None:
    manifest = cache.write_cache(tmp_path / "deep" / "cache", loaded, ORIGIN)
    cached = cache.read_cache(tmp_path / "deep" / "cache")
    assert_same(cached.wafers, loaded.wafers)
    assert isinstance(cached.wafers.flat, np.memmap) and cached.wafers.source == "somewhere"
    assert len(cached.wafers.flat) == sum(loaded.wafers.map(index).size for index in range(len(loaded.wafers)))
    assert cached.rejected == loaded.rejected
    counts = manifest["counts"]
    assert (counts["maps"], counts["rejected"], counts["labelled"]) == (len(loaded.wafers), 1, len(loaded.wafers))
    assert sum(counts["classes"].values()) == counts["labelled"] and list(tmp_path.iterdir()) == [tmp_path / "deep"]


def test_an_interrupted_preparation_leaves_the_old_cache(
    tmp_path: Path, loaded: ReadResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cache"
    cache.write_cache(path, loaded, ORIGIN)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            cache.write_cache(path, loaded, ORIGIN | {"sha256": "1"})
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("label", "kept"), [(len(CLASSES) - 1, True), (len(CLASSES), False), (UNKNOWN - 1, False)])
def test_a_label_beyond_the_classes_is_refused(tmp_path: Path, loaded: ReadResult, label: int, kept: bool) -> None:
    cache.write_cache(tmp_path / "cache", loaded, ORIGIN)
    records = np.load(tmp_path / "cache" / "wafers.npy")
    records["label"][3] = label
    np.save(without_sums(tmp_path / "cache") / "wafers.npy", records)
    if kept:
        assert cache.read_cache(tmp_path / "cache").wafers.label[3] == label
    else:
        with pytest.raises(ValueError, match="it has labels that are not classes"):
            cache.read_cache(tmp_path / "cache")


def test_nothing_but_a_cache_is_replaced(tmp_path: Path, loaded: ReadResult) -> None:
    (tmp_path / "precious.txt").write_text("keep")
    for path in (tmp_path, tmp_path / "precious.txt"):
        with pytest.raises(ValueError, match="exists and is not a cache"):
            cache.write_cache(path, loaded, ORIGIN)
    assert (tmp_path / "precious.txt").read_text() == "keep"


def test_a_cache_with_another_file_and_a_folder_with_a_manifest_are_not_replaced(tmp_path: Path, loaded) -> None:
    path = tmp_path / "cache"
    cache.write_cache(path, loaded, ORIGIN)
    (path / "notes.txt").write_text("keep")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text("{}")
    for other in (path, tmp_path / "web"):
        with pytest.raises(ValueError, match="is not a cache, or not only a cache"):
            cache.write_cache(other, loaded, ORIGIN)
    assert (path / "notes.txt").read_text() == "keep" and (tmp_path / "web" / "manifest.json").read_text() == "{}"


def test_a_cache_that_was_being_replaced_when_the_power_went_is_read(tmp_path: Path, loaded: ReadResult) -> None:
    cache.write_cache(tmp_path / "cache", loaded, ORIGIN)
    (tmp_path / "cache").rename(tmp_path / "cache.999999999.old")
    assert len(source.read(tmp_path / "cache").wafers) == len(loaded.wafers)


@pytest.mark.parametrize("name", ["flat.npy", "wafers.npy", "rejected.csv"])
def test_a_pipe_in_the_place_of_a_file_of_a_cache_is_refused(tmp_path: Path, loaded: ReadResult, name: str) -> None:
    path = tmp_path / "cache"
    cache.write_cache(path, loaded, ORIGIN)
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(ValueError, match="is damaged; prepare it again: it has not all of"):
        source.read(path)
    os.mkfifo(tmp_path / "maps.npz")
    with pytest.raises(ValueError, match="is neither a file nor a directory"):
        source.read(tmp_path / "maps.npz")


def damage(path: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (path / name).write_bytes(change((path / name).read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("flat.npy", lambda data: data[:-1], "is damaged; prepare it again"),
        ("wafers.npy", lambda data: data[:-1], "is damaged; prepare it again"),
        ("wafers.npy", lambda data: data.replace(b"}", b"\0"), "is damaged; prepare it again"),
        ("wafers.npy", lambda data: data[:-28] + bytes([255] * 8) + data[-20:], "is damaged; prepare it again"),
        ("rejected.csv", lambda data: b"row,reason\n", "other sizes than its manifest says"),
        ("rejected.csv", lambda data: b"row,reason\nx,y\n", "is damaged; prepare it again"),
        ("manifest.json", lambda data: data[:-9], "manifest.json is damaged"),
        ("manifest.json", lambda data: b"[]", "manifest.json is damaged"),
        (
            "manifest.json",
            lambda data: data.replace(b'"format": 1', b'"format": 2'),
            r"another version .format 2, not 1",
        ),
        ("manifest.json", lambda data: data.replace(b'"Donut",', b'"Donat",'), "another version"),
        ("manifest.json", lambda data: data.replace(b'"maps": ', b'"maps": 1'), "other sizes"),
    ],
)
def test_a_damaged_cache_is_refused(
    tmp_path: Path, loaded: ReadResult, name: str, change: Callable, reason: str
) -> None:
    path = tmp_path / "cache"
    cache.write_cache(path, loaded, ORIGIN)
    damage(path, name, change)
    with pytest.raises(ValueError, match=reason) as caught:
        source.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["flat.npy", "wafers.npy", "rejected.csv"])
def test_a_flipped_bit_is_found_in_every_file_and_mended_by_preparing_again(tmp_path: Path, name: str) -> None:
    """The last byte of a column and of the cells has other right values: no other check finds it."""
    maps, path = tmp_path / "maps", tmp_path / "cache"
    maps.mkdir()
    for index, rows in enumerate([6, 3, 7]):
        np.savetxt(maps / f"{index}.csv", np.arange(rows * 7).reshape(rows, 7) % 3, "%d", ",")
    prepare("--input", maps, "--output", path)
    whole = (path / name).read_bytes()
    damage(path, name, lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    with pytest.raises(ValueError, match=f"is damaged; prepare it again: {name} is not what was written"):
        source.read(path)
    again = prepare("--input", maps, "--output", path)
    assert f"prepare it again: {name} is not what" in again.stderr and (path / name).read_bytes() == whole


def test_a_cache_without_checksums_is_read_with_a_warning(
    tmp_path: Path, loaded: ReadResult, capsys: pytest.CaptureFixture
) -> None:
    cache.write_cache(tmp_path, loaded, ORIGIN)
    assert load(tmp_path).source == "somewhere" and capsys.readouterr().err.count("\n") == 1  # the map left out
    assert_same(load(without_sums(tmp_path)), loaded.wafers)
    assert capsys.readouterr().err.startswith(f"{tmp_path}: {cache.NO_SUMS}\n")


def test_places_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "ROOT", tmp_path / "project")
    monkeypatch.delenv("TRM_DATA", raising=False)
    assert source.find(None) is None and load(None).source.startswith("synthetic")
    shared = tmp_path / "shared" / "data" / "wm811k" / "wm811k_labelled.npz"
    shared.parent.mkdir(parents=True)
    shared.touch()
    assert source.find(None) == shared == source.find(tmp_path / "shared" / "data")
    for empty in ("", " "):  # an empty variable is not set, and not the current folder
        monkeypatch.setenv("TRM_DATA", empty)
        assert source.find(None) == shared
    (tmp_path / "env").mkdir()
    monkeypatch.setenv("TRM_DATA", str(tmp_path / "env"))
    assert source.find(None) == tmp_path / "env" and source.find(shared) == shared
    with pytest.raises(FileNotFoundError, match=r"no wafer maps at \S*nowhere; give a frame"):
        source.find(tmp_path / "nowhere")
    monkeypatch.setenv("TRM_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere \(from TRM_DATA\)"):
        load(None)


def test_loading_tells_how_many_maps_were_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for index, rows in enumerate([6, 3, 2]):
        np.savetxt(tmp_path / f"{index}.csv", np.ones((rows, 7)), "%d", ",")
    assert len(load(tmp_path)) == 1
    message = capsys.readouterr().err
    assert "2 broken maps, the first: row 1 ('1.csv') is 3 x 7" in message and message.count("\n") == 1
    (tmp_path / "0.csv").unlink()
    with pytest.raises(ValueError, match=r"has no wafer map that can be used: row 0 .*'1.csv'"):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"maps.txt is an unknown kind of file; give a frame"):
        (tmp_path / "maps.txt").touch()
        load(tmp_path / "maps.txt")


def test_preparing_a_pickle(tmp_path: Path) -> None:
    maps = [synthetic_wafers(9).map(index) for index in range(9)]
    labels = ["none", "", "Loc", "Donut", "", "", "Scratch", "Lok", "none"]
    pickled, output = tmp_path / "LSWMD.pkl", tmp_path / "cache"
    write_legacy_frame(pickled, maps, labels, ["lot"] * 9, ["Test"] * 9, repeat=2)
    said = prepare("--input", pickled, "--output", output)
    assert "maps        16" in said.stdout and "reading LSWMD.pkl" in said.stderr
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["sha256"] == hashlib.sha256(pickled.read_bytes()).hexdigest()
    assert manifest["notice"].startswith("Copyright 2015 Jyh-Shing Roger Jang") and manifest["source"] == "LSWMD.pkl"
    expected = {"maps": 16, "labelled": 10, "unlabelled": 6, "rejected": 2, "duplicates": 8, "conflicts": 0}
    assert expected.items() <= manifest["counts"].items() and manifest["counts"]["classes"]["none"] == 4
    assert_same(source.read(output).wafers, source.read(pickled).wafers)
    with (output / "rejected.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["row", "7", "16"] and "unknown class 'Lok'" in rows[1][1]

    assert "already prepared from LSWMD.pkl" in prepare("--input", pickled, "--output", output).stdout
    smaller = ["--input", pickled, "--output", output, "--labelled-only", "--clean-only", "--no-progress"]
    refused = prepare(*smaller)
    assert re.match(r"error: \S*cache was prepared from LSWMD.pkl .*--force replaces it\n$", refused.stderr)
    assert refused.returncode == 1 and prepare(*smaller, "--force").stderr == ""
    assert len(source.read(output).wafers) == 5


def test_the_smoke_preset_prepares_generated_maps_that_call_themselves_so(tmp_path: Path) -> None:
    prepare("--preset", "smoke", "--output", tmp_path / "cache")
    cached, expected = load(tmp_path / "cache"), synthetic_wafers(1200)
    assert_same(cached, expected)
    assert cached.source == expected.source and "synthetic" in cached.source
    assert "already prepared from" in prepare("--preset", "smoke", "--output", tmp_path / "cache").stdout
    refused = prepare("--preset", "smoke", "--input", tmp_path / "cache", "--output", tmp_path / "other")
    assert refused.returncode == 1 and "leave out --input" in refused.stderr


def test_a_mistake_on_the_command_line_ends_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--input", tmp_path / "nowhere.pkl"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == "" and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: no wafer maps at {tmp_path / 'nowhere.pkl'}; give a frame")


def test_the_notice_goes_with_wm811k_only(tmp_path: Path, loaded: ReadResult) -> None:
    cache.write_cache(tmp_path / "cache", loaded, ORIGIN | {"notice": "of theirs"})
    assert cache.notice(tmp_path / "cache") == "of theirs" and cache.notice(tmp_path) == ""
    assert cache.notice(Path("wm811k_labelled.npz")) == cache.NOTICE != cache.notice(Path("own.npz"))
