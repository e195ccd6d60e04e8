"""The main job as its user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "experiments" / "sudoku_ablation.py"
SMALL = ["--preset", "smoke", "--arms", "no_ema", "--options", "model.width=8", "model.layers=1", "recursion.n=1"]


def ablation(*arguments, check=True):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=check)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("runs")
    result = ablation(*SMALL, "--arm", "wide: model.width=12", "--name", "mine", "--output", output)
    return output / "mine", result


def test_a_run_prints_and_saves_a_row_for_every_arm_seed_and_number_of_blanks(finished):
    directory, result = finished
    table = pd.read_csv(directory / "results.csv")
    assert list(table["arm"].unique()) == ["full", "no_ema", "wide"]
    assert set(table.groupby(["arm", "blanks"])["seed"].nunique()) == {2}
    columns = "study arm seed blanks exact valid cells best_exact parameters layer_applications flops train_seconds"
    assert set(columns.split()) <= set(table.columns)
    wide = table[table["arm"] == "wide"]["parameters"].iloc[0]
    assert wide > table[table["arm"] == "full"]["parameters"].iloc[0] > 0
    assert "95 % interval" in result.stdout and "no_ema" in result.stdout
    made = json.loads((directory / "results.json").read_text())
    assert made["arms"]["wide"]["model"]["width"] == 12 and "commit" in made["made by"]
    assert {"report.md", "report.html", "figures"} <= {path.name for path in directory.iterdir()}


def test_without_averaging_the_training_is_the_same_and_the_evaluated_weights_are_not(finished):
    losses = []
    for arm in ("full", "no_ema"):
        lines = (finished[0] / "arms" / arm / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == losses[1]
    cells = pd.read_csv(finished[0] / "results.csv").groupby("arm")["cells"].mean()
    assert cells["full"] != cells["no_ema"]


def test_a_run_that_would_drop_arms_from_a_report_is_refused(finished):
    directory, _ = finished
    before = (directory / "results.csv").read_text()
    result = ablation(*SMALL, "--name", "mine", "--output", directory.parent, check=False)
    assert result.returncode == 1 and "holds results of other arms (wide); choose another --name" in result.stderr
    assert (directory / "results.csv").read_text() == before


def test_running_again_gives_the_same_results_and_other_options_are_refused(finished):
    directory, _ = finished
    before = (directory / "results.csv").read_text()
    again = [*SMALL, "--arm", "wide: model.width=12", "--name", "mine", "--output", directory.parent]
    ablation(*again)
    assert (directory / "results.csv").read_text() == before
    changed = [*SMALL, "optim.clip=0.5", "--arm", "wide: model.width=12"]
    other = ablation(*changed, "--name", "mine", "--output", directory.parent, check=False)
    assert other.returncode == 1
    assert "holds a run with other options (optim.clip)" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "fulll"], "unknown arm fulll; the study components has full, stop_gradient"),
        (["--options", "model.widht=3"], "unknown option model.widht"),
        (["--options", "model.width"], "expected option=value, got 'model.width'"),
        (["--options", "data.blanks=[13,13]"], "needs at least 4"),
        (["--arm", "wide model.width=48"], 'an arm is "NAME: option=value ..."'),
    ],
)
def test_wrong_arguments_get_one_line_that_says_what_to_do(arguments, message, tmp_path):
    result = ablation(*arguments, "--output", tmp_path, check=False)
    assert result.returncode == 1 and message in result.stderr and result.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())
