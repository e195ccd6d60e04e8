"""The directory of a run: taken up by the same config, refused to any other, and never half written."""

import json
import os
import struct

import pytest
from toys import Toy

from trm_jax.core.config import Config
from trm_jax.core.task import default_options, run_options
from trm_jax.sudoku.task import Sudoku
from trm_jax.support.provenance import environment
from trm_jax.training import run_directory
from trm_jax.training.run_directory import RunDirectory, read_options

CONFIG = Config()
OPTIONS = json.loads(json.dumps(run_options(Toy({}), CONFIG)))
ROWS = [{"step": step, "loss": [1 / step, 0.5]} for step in (1, 2, 3, 4)]


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_new_run_records_its_config_and_environment(tmp_path):
    path = tmp_path / "runs" / "arm"
    run = RunDirectory(path, OPTIONS)
    assert set(contents(path)) == {"config.json", "environment.json"} and run.metrics == []
    assert read_options(path) == OPTIONS
    assert json.loads((path / "environment.json").read_text()) == environment()


def test_a_run_is_taken_up_by_the_same_config(tmp_path):
    run = RunDirectory(tmp_path, OPTIONS)
    run.log(ROWS[0])
    before = contents(tmp_path)
    again = RunDirectory(tmp_path, OPTIONS)
    assert again.metrics == ROWS[:1] and contents(tmp_path) == before


def test_another_config_is_refused_with_the_names_of_the_options(tmp_path):
    RunDirectory(tmp_path, OPTIONS).log(ROWS[0])
    before = contents(tmp_path)
    other = CONFIG.override(**{"model.width": 64, "optim.clip": 2.0})
    with pytest.raises(ValueError, match=r"other options \(model\.width, optim\.clip\); choose another name"):
        RunDirectory(tmp_path, run_options(Toy({}), other))
    assert contents(tmp_path) == before


def test_a_run_is_taken_up_with_another_way_to_compute_or_to_report_it(tmp_path):
    blanks, guesses = Sudoku(), Sudoku(level_by="guesses")
    RunDirectory(tmp_path, run_options(blanks, CONFIG)).log(ROWS[0])
    slower = CONFIG.override(**{"run.minutes": 8.0, "run.accumulate": 2, "run.eval_batch": 8})
    assert RunDirectory(tmp_path, run_options(guesses, slower), free=guesses.report_options).metrics == ROWS[:1]
    with pytest.raises(ValueError, match=r"other options \(task.blanks\)"):
        RunDirectory(tmp_path, run_options(Sudoku(blanks=(4, 5)), CONFIG), free=Sudoku.report_options)
    with pytest.raises(ValueError, match=r"other options \(task.level_by\)"):
        RunDirectory(tmp_path, run_options(guesses, CONFIG))  # the engine itself knows no option of a task


@pytest.mark.parametrize("name", ["notes.txt", "metrics.jsonl"])
def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match="exists and is not a run"):
        RunDirectory(tmp_path, OPTIONS)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_run_that_never_made_an_update_is_taken_up_with_other_options_unless_it_is_in_use(tmp_path, capsys):
    other = json.loads(json.dumps(run_options(Toy({}), CONFIG.override(**{"model.width": 64}))))
    with RunDirectory(tmp_path, OPTIONS):
        with pytest.raises(ValueError, match="another process trains in"), RunDirectory(tmp_path, other):
            pass
        assert read_options(tmp_path) == OPTIONS
    (tmp_path / "model.safetensors").write_text("of something else")
    with pytest.raises(ValueError, match=r"other options \(model.width\)"):
        RunDirectory(tmp_path, other)
    (tmp_path / "model.safetensors").unlink()
    late = RunDirectory(tmp_path, OPTIONS)  # it saw no run, and comes back to one
    with RunDirectory(tmp_path, other) as run:
        assert read_options(tmp_path) == other
        run.log(ROWS[0])
    assert "never made an update; it begins with other model.width" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"other options \(model.width\)"), late:
        pass
    with RunDirectory(tmp_path, other):  # the lock is free again
        pass
    with pytest.raises(ValueError, match=r"other options \(model.width\)"):
        RunDirectory(tmp_path, OPTIONS)
    run.truncate_metrics(0)
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"other options \(model.width\)"):
        RunDirectory(tmp_path, OPTIONS)


def test_a_damaged_config_is_refused(tmp_path):
    RunDirectory(tmp_path, OPTIONS).log(ROWS[0])
    (tmp_path / "config.json").write_text(json.dumps(OPTIONS).replace('"width"', '"breadth"'))
    with pytest.raises(ValueError, match=r"other options \(model.breadth, model.width\)"):
        RunDirectory(tmp_path, OPTIONS)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is not JSON"):
        RunDirectory(tmp_path, OPTIONS)


def test_rows_are_read_back_as_they_were_logged(tmp_path):
    run = RunDirectory(tmp_path, OPTIONS)
    for row in ROWS:
        run.log(row)
    assert run.metrics == ROWS == RunDirectory(tmp_path, OPTIONS).metrics


def test_a_row_is_on_the_disk_before_a_checkpoint_can_be_written(tmp_path, monkeypatch):
    sizes, run, real = [], RunDirectory(tmp_path, OPTIONS), os.fsync
    file = tmp_path / "metrics.jsonl"
    monkeypatch.setattr(os, "fsync", lambda number: (sizes.append(file.stat().st_size), real(number)))
    for row in ROWS[:2]:
        run.log(row)
    lines = [len(json.dumps(row)) + 1 for row in ROWS[:2]]
    assert sizes == [lines[0], sum(lines)]


def test_a_last_line_that_was_cut_off_is_ignored_and_removed_by_truncation(tmp_path):
    run = RunDirectory(tmp_path, OPTIONS)
    for row in ROWS:
        run.log(row)
    file = tmp_path / "metrics.jsonl"
    whole = file.read_text()
    last = whole.splitlines(keepends=True)[-1]
    for kept in range(1, len(last) - 1):
        file.write_text(whole.removesuffix(last) + last[:kept])
        assert run.metrics == ROWS[:-1]
    run.truncate_metrics(4)
    run.log(ROWS[3])
    assert run.metrics == ROWS and file.read_text() == whole


@pytest.mark.parametrize("step", [0, 2, 9])
def test_truncation_drops_the_rows_after_a_step(tmp_path, step):
    run = RunDirectory(tmp_path, OPTIONS)
    for row in ROWS:
        run.log(row)
    run.truncate_metrics(step)
    assert run.metrics == [row for row in ROWS if row["step"] <= step]
    assert set(contents(tmp_path)) == {"config.json", "environment.json", "metrics.jsonl"}


def test_an_interrupted_write_leaves_the_old_text(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    run_directory.write_text(path, "old")

    def interrupted(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(OSError, match="disk full"):
        run_directory.write_text(path, "new")
    assert path.read_text() == "old"


def test_an_option_that_came_later_counts_at_its_default(tmp_path):
    before = json.loads(json.dumps(OPTIONS))
    del before["run"]["patience"]
    RunDirectory(tmp_path, before).log(ROWS[0])
    defaults = default_options(Toy({}))
    RunDirectory(tmp_path, OPTIONS, defaults)
    with pytest.raises(ValueError, match=r"other options \(run.patience\)"):
        RunDirectory(tmp_path, run_options(Toy({}), Config().override(**{"run.patience": 3})), defaults)


def test_event_files_hold_every_value_once_also_after_an_interruption(tmp_path):
    pytest.importorskip("tensorboardX")  # an optional extra
    from tensorboardX.proto.event_pb2 import Event

    seeds = CONFIG.override(**{"run.seeds": (3, 5), "run.tensorboard": True})
    for first, last in ((0, 3), (2, 4)):
        with RunDirectory(tmp_path / "run", json.loads(json.dumps(run_options(Toy({}), seeds)))) as run:
            run.truncate_metrics(first)
            for row in ROWS[first:last]:
                run.log(row | {"steps_of_validation": [[0.5, 0.5], [0.5, 0.5]]})
    (file,) = (tmp_path / "run" / "events" / "seed-3").iterdir()
    content, found = file.read_bytes(), []
    while content:  # length, checksum, event, checksum
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        found += [(value.tag, event.step, round(value.simple_value, 4)) for value in event.summary.value]
        content = content[16 + length :]
    assert found == [("loss", step, round(1 / step, 4)) for step in (1, 2, 3, 4)]


def test_event_files_without_their_package_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "find_spec", lambda name: None)
    wanted = run_options(Toy({}), CONFIG.override(**{"run.tensorboard": True}))
    with pytest.raises(RuntimeError, match="pip install tensorboardX"):
        RunDirectory(tmp_path / "run", wanted)
    assert not (tmp_path / "run").exists()
