"""Files appear whole or not at all, also when power or process is lost, and nothing that others made is removed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trm_jax.support.files import (
    RUN_KINDS,
    check_file,
    refuse_other_options,
    replacing,
    replacing_directory,
    restore,
    run_folder,
    write_text,
)


def record_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The order in which files are synced and renamed, by their names."""
    calls: list[tuple[str, str]] = []
    real_sync, real_rename, real_replace = os.fsync, os.rename, os.replace

    def sync(number: int) -> None:
        calls.append(("sync", Path(os.readlink(f"/proc/self/fd/{number}")).name.replace(f".{os.getpid()}.tmp", "")))
        real_sync(number)

    def rename(real):
        return lambda old, new: (calls.append(("rename", Path(new).name)), real(old, new))[1]

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", rename(real_rename))
    monkeypatch.setattr(os, "replace", rename(real_replace))
    return calls


def test_contents_reach_the_disk_before_their_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    calls = record_calls(monkeypatch)
    write_text(tmp_path / "a.txt", "text")
    assert calls == [("sync", "a.txt"), ("rename", "a.txt"), ("sync", tmp_path.name)]
    calls.clear()
    with replacing_directory(tmp_path / "d") as directory:
        (directory / "in").mkdir()
        (directory / "in" / "b").touch()
    renamed = calls.index(("rename", "d"))
    assert {("sync", "b"), ("sync", "in"), ("sync", "d")} <= set(calls[:renamed])
    assert calls[renamed + 1 :] == [("sync", tmp_path.name)]


KILLED = """
import os, sys
from pathlib import Path
from trm_jax.support import files
real, count = os.rename, int(sys.argv[2])
def rename(*names):
    global count
    count -= 1
    if count < 0:
        os._exit(9)
    real(*names)
os.rename = rename
with files.replacing_directory(Path(sys.argv[1])) as directory:
    (directory / "content").write_text("new")
"""


@pytest.mark.parametrize(("renames", "content"), [(0, "old"), (1, "old"), (2, "new")])
def test_after_a_kill_at_any_rename_the_old_or_the_new_directory_is_in_its_place(tmp_path, renames, content):
    path = tmp_path / "d"
    path.mkdir()
    (path / "content").write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), str(renames)], check=False)
    assert killed.returncode == (0 if renames == 2 else 9) and path.exists() == (renames != 1)
    restore(path)
    assert (path / "content").read_text() == content
    with replacing_directory(path) as directory:  # and all goes on
        (directory / "content").write_text("newer")
    assert (path / "content").read_text() == "newer"


def test_what_a_living_process_is_replacing_is_left_to_it(tmp_path):
    old = tmp_path / f"d.{os.getpid()}.old"
    old.mkdir()
    restore(tmp_path / "d")
    assert old.exists() and not (tmp_path / "d").exists()


def test_a_directory_with_something_else_in_it_is_not_replaced(tmp_path):
    path = tmp_path / "d"
    path.mkdir()
    for name in ("made", "thesis.tex"):
        (path / name).write_text("old")
    with pytest.raises(ValueError, match=r"has thesis\.tex, which was not made here"), replacing_directory(path) as new:
        (new / "made").write_text("new")
    assert {file.name: file.read_text() for file in path.iterdir()} == {"made": "old", "thesis.tex": "old"}
    assert list(tmp_path.iterdir()) == [path]
    with replacing_directory(path, may_hold=["*.tex"]) as new:
        (new / "made").write_text("new")
    assert [file.name for file in path.iterdir()] == ["made"]
    with pytest.raises(ValueError, match="is not a directory"), replacing_directory(path / "made"):
        pass


@pytest.mark.parametrize("replace", [replacing, replacing_directory])
def test_an_interruption_leaves_the_old_one_and_nothing_else(tmp_path, replace):
    path = tmp_path / "x"
    if replace is replacing:
        path.write_text("old")
    else:
        path.mkdir()
    with pytest.raises(KeyboardInterrupt), replace(path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_between_two_renames_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "d"
    path.mkdir()
    (path / "content").write_text("old")
    real, count = os.rename, iter(range(9))

    def rename(old, new):
        if next(count) == 1:
            raise KeyboardInterrupt
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt), replacing_directory(path) as new:
        (new / "content").write_text("new")
    assert (path / "content").read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_results_of_other_options_are_refused(tmp_path):
    path = tmp_path / "run" / "options.json"
    refuse_other_options(path, {"folds": (0, 1), "seed": 0}, "results")
    refuse_other_options(path, {"folds": (0, 2), "seed": 0}, "results")  # nothing was kept
    (path.parent / "result").touch()
    refuse_other_options(path, {"folds": (0, 2), "seed": 0}, "results")
    for options, names in (({"folds": (0, 2), "seed": 1}, "seed"), ({"folds": (0, 2)}, "seed"), ({}, "folds, seed")):
        with pytest.raises(ValueError, match=rf"run holds results with other options \({names}\); choose another"):
            refuse_other_options(path, options, "results")
    assert json.loads(path.read_text()) == {"folds": [0, 2], "seed": 0}
    path.write_text('{"folds": ')
    with pytest.raises(ValueError, match=r"options.json is damaged .*; choose another name or remove \S+run$"):
        refuse_other_options(path, {"folds": (0, 2), "seed": 0}, "results")


def test_an_output_that_exists_or_cannot_be_written_is_refused_before_the_work(tmp_path):
    path = tmp_path / "answers.csv"
    check_file(path)
    path.write_text("old")
    with pytest.raises(ValueError, match=r"answers\.csv exists; give another name, or --force"):
        check_file(path)
    check_file(path, force=True)
    with pytest.raises(ValueError, match="/dev/null is not a regular file"):
        check_file(Path("/dev/null"), force=True)
    with pytest.raises(ValueError, match="cannot be written to"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        check_file(tmp_path / "new.csv")


@pytest.mark.parametrize("name", ["", ".", "..", "../../escape", "/tmp/x", "a/b", "a\\b", "a\0"])
def test_a_name_that_leads_out_of_the_folder_of_runs_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="must be the plain name of a folder"):
        run_folder(tmp_path, name, "a study")


@pytest.mark.parametrize("kind", RUN_KINDS)
def test_a_folder_that_holds_a_run_of_another_kind_is_refused_by_name(tmp_path, kind):
    assert run_folder(tmp_path, "mine", kind) == tmp_path / "mine"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / RUN_KINDS[kind]).touch()
    for other in RUN_KINDS:
        if other == kind:
            assert run_folder(tmp_path, "mine", kind) == tmp_path / "mine"
        else:
            with pytest.raises(ValueError, match=f"mine holds {kind}, not {other}; choose another --name"):
                run_folder(tmp_path, "mine", other)
