"""The page about runs: what it says of a running, a finished and a broken one."""

import fcntl
import json
import os
import re
import sys

import pytest

from trm_jax.core.config import Config
from trm_jax.core.task import run_options
from trm_jax.sudoku.task import Sudoku
from trm_jax.training import watch


def make_arm(path, width, steps):
    config = Config().override(**{"model.width": width, "run.steps": 400, "run.seeds": (0, 1)})
    path.mkdir(parents=True)
    (path / "environment.json").write_text("{}")
    (path / "config.json").write_text(json.dumps(run_options(Sudoku(), config)))
    rows = [{"step": step, "loss": [1.0 / step, 2.0 / step]} for step in range(50, steps + 1, 50)]
    for row in rows[1::2]:
        row["validation_exact"] = [row["step"] / 1000, 0.125]
        row["steps_of_validation"] = [[0.0, row["step"] / 1000], [0.125, 0.125]]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4')
    os.utime(path / "environment.json", (1000, 1000))
    os.utime(path / "metrics.jsonl", (1100, 1100))


def test_state_rate_time_left_and_scores(tmp_path):
    make_arm(tmp_path / "run" / "arms" / "deep", 32, 200)
    make_arm(tmp_path / "run" / "arms" / "wide", 48, 400)
    assert [watch.status(arm) for arm in watch.read_arms(tmp_path / "run")] == [
        ["deep", "stopped", "200 of 400", "2.00", "", "exact 0.200, 0.125"],
        ["wide", "finished", "400 of 400", "4.00", "", "exact 0.400, 0.125"],
    ]
    with open(tmp_path / "run" / "arms" / "deep" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert watch.status(watch.read_arms(tmp_path / "run")[0])[1:5] == ["running", "200 of 400", "2.00", "2 min"]


def test_two_runs_stand_side_by_side_with_their_differing_options(tmp_path, monkeypatch):
    make_arm(tmp_path / "a", 32, 200)
    make_arm(tmp_path / "b", 48, 0)
    figure = watch.draw({"a": watch.read_arms(tmp_path / "a"), "b": watch.read_arms(tmp_path / "b")})
    curves = [line.get_xydata().tolist() for line in figure.axes[0].lines]
    assert curves == [[[100, 0.1], [200, 0.2]], [[100, 0.125], [200, 0.125]]]
    runs = [str(tmp_path / name) for name in "ab"]
    monkeypatch.setattr(sys, "argv", ["watch.py", *runs, "--output", str(tmp_path / "ab.html"), "--once"])
    watch.main(watch.Arguments, watch.run, "")
    page = (tmp_path / "ab.html").read_text()
    assert (
        page.count("<tr>") == 2 + 2 + 2 + 2
        and "width" in page
        and "<td>32</td>" in page.replace(' style="text-align:right"', "")
    )
    (scores,) = re.findall("after each supervision step.*?</table>", page, re.DOTALL)
    assert re.findall(r"0\.\d+", scores) == ["0.062", "0.163"] and "<td>b</td>" not in scores
    assert "data:image/svg+xml" in page and "http-equiv" not in page
    assert 'http-equiv="refresh" content="5"' in watch.page({tmp_path / "a": watch.read_arms(tmp_path / "a")}, 5)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="is no run"):
        watch.read_arms(tmp_path)
