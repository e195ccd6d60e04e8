"""The fuzzing harness sees what it looks for: errors, crashes, hangs and too much memory."""

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import mutate
import run
from targets import TARGETS, Target

PLANTED = """
import os, sys, time
sys.path.insert(0, {folder!r})
import run
def read(content):
    if content == b"seed":
        return
    if {fault!r} == "hang":
        time.sleep(60)
    os._exit(3)
run.TARGETS["planted"] = lambda folder: run.Target([b"seed"], read)
run.main()
"""


def raises(error: Exception) -> Target:
    return Target([b""], lambda content: (_ for _ in ()).throw(error))


def test_what_is_wrong_with_an_input() -> None:
    before = run.peak_memory()
    assert run.judge(Target([b""], len), b"", before) == ("", "")
    assert run.judge(raises(ValueError("a line")), b"", before) == ("", "")
    assert run.judge(raises(ValueError("two\nlines")), b"", before)[0] == "unhandled"
    assert run.judge(raises(KeyError("a")), b"", before)[0] == "unhandled"
    error = ValueError("handled, but")
    error.__cause__ = MemoryError()
    assert run.judge(raises(error), b"", before)[0] == "over memory"
    assert run.judge(Target([b""], len), b"", before - run.MAX_MEMORY - 1)[0] == "over memory"


@pytest.mark.parametrize(("fault", "problem"), [("hang", "hang"), ("crash", "unhandled")])
def test_a_process_that_hangs_or_ends_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, problem: str, capsys: pytest.CaptureFixture
) -> None:
    script = tmp_path / "planted.py"
    script.write_text(PLANTED.format(folder=str(Path(run.__file__).parent), fault=fault))
    monkeypatch.setattr(run, "__file__", str(script))
    monkeypatch.setattr(run, "KEPT", run.ROOT / ".cache" / "fuzz-test")
    monkeypatch.setattr(run, "MAX_SECONDS", 0.5)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(run.ROOT), os.environ.get("PYTHONPATH", "")]))
    start = time.monotonic()
    assert run.watch("planted", 0.1, 0, tmp_path) >= 1 and time.monotonic() - start < 30
    assert (tmp_path / "problems").read_text().split()[0] == problem
    assert f"planted, {problem}" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in TARGETS if not name.startswith("service")])  # it keeps its loop
def test_a_reader_reads_the_inputs_that_others_are_made_from(name: str, tmp_path: Path) -> None:
    target = TARGETS[name](tmp_path)
    assert target.seeds
    for content in target.seeds:
        target.read(content)


def test_inputs_differ_and_are_the_same_for_a_seed() -> None:
    def inputs(seed: int) -> list[bytes]:
        rng = run.random.Random(seed)
        return [mutate.mutate(b"0,1,2\n1,1,1", [b"other"], rng) for _ in range(50)]

    assert inputs(0) == inputs(0) != inputs(1) and len(set(inputs(0))) > 30
