"""The main job as its user runs it."""

import json

import pandas as pd
import pytest
from scripts import script

from trm_jax.core.config import Config
from trm_jax.core.task import override
from trm_jax.study import compare, preview, runner
from trm_jax.study.arms import Arm, build_arms
from trm_jax.study.sudoku import PRESETS, STUDIES
from trm_jax.sudoku.task import Sudoku
from trm_jax.support.terminal.flags import Training
from trm_jax.training.checkpoint import Checkpoints
from trm_jax.training.run_directory import RunDirectory

SMOKE_OPTIONS = {"model.width": 8, "recursion.T": 1, "task.augmented": False}
OPTIONS = [f"{name}={json.dumps(value)}" for name, value in SMOKE_OPTIONS.items()]
SMALL = ["--preset", "smoke", "--arms", "no_ema", "--arm", "wide: model.width=12", "--name", "mine"]


def ablation(output):
    result = script("sudoku_ablation.py", *SMALL, "--options", *OPTIONS, "--output", output)
    assert result.returncode == 0, result.stderr
    return result


def small_arms(names, added=(), options=None):
    """The arms that SMALL trains, and others."""
    return build_arms(STUDIES["components"], Sudoku(), PRESETS["smoke"] | SMOKE_OPTIONS | (options or {}), names, added)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("runs")
    return output / "mine", ablation(output)


def test_a_run_prints_and_saves_a_row_for_every_arm_seed_and_number_of_blanks(finished):
    directory, result = finished
    table = pd.read_csv(directory / "results.csv")
    assert list(table["arm"].unique()) == ["full", "no_ema", "wide"]
    assert set(table.groupby(["arm", "difficulty"])["seed"].nunique()) == {2}
    columns = "study arm seed difficulty exact valid cells best_exact parameters layer_applications flops train_seconds"
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
    with pytest.raises(ValueError, match=r"holds results of other arms \(wide\); choose another --name"):
        runner.run_study(STUDIES["components"], small_arms(["no_ema"]), directory)
    assert (directory / "results.csv").read_text() == before


def test_running_again_gives_the_same_results_and_other_options_are_refused(finished):
    directory, _ = finished
    before = (directory / "results.csv").read_text()
    ablation(directory.parent)
    assert (directory / "results.csv").read_text() == before
    changed = small_arms(["no_ema"], ["wide: model.width=12"], {"optim.clip": 0.5})
    with pytest.raises(ValueError, match=r"holds a run with other options \(optim.clip\)"):
        runner.run_study(STUDIES["components"], changed, directory, reuse=False)


def test_a_smoke_test_says_so_and_concludes_nothing(finished):
    directory, result = finished
    assert result.stdout.startswith(runner.SMOKE) and "arm 1 of 3, full" in result.stderr
    assert "broken" not in (directory / "report.md").read_text()


def test_arms_of_runs_made_apart_are_compared_with_what_they_differ_in(finished, tmp_path):
    directory, _ = finished
    arms = compare.read_arms([directory], ["full", "wide"])
    assert compare.differing(arms).to_dict("list") == {"Arm": ["full", "wide"], "model.width": ["8", "12"]}
    compare.compare(arms, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "They differ in `model.width`." in text and "`wide`" in text and "may have been" not in text
    with pytest.raises(ValueError, match="there are 1 arms to compare"):
        compare.read_arms([directory], ["wide"])
    with pytest.raises(ValueError, match="it has no results"):
        compare.read_arms([tmp_path / "arms"], [])


def test_a_dry_run_counts_what_a_run_will_count(finished, capsys):
    directory, _ = finished
    arms = {"no_ema": small_arms(["no_ema"])["no_ema"]}
    assert not preview.shown(arms, Training())
    assert preview.shown(arms, Training(dry_run=True))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| `no_ema`"))
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    row = pd.read_csv(directory / "results.csv").set_index("arm").loc["no_ema"].iloc[0]
    assert cells[:4] == ["20", "2", "16", f"{row['flops'] / 1e6:.2f}"]
    assert cells[4:6] == [f"{row['parameters']:,.0f}", f"{row['layer_applications']:.0f}"] and int(cells[6]) >= 0
    assert preview.shown(arms, Training(show_config=True))
    assert json.loads(capsys.readouterr().out)["no_ema"]["optim"]["ema"] == 0.0


ARM = Arm(Sudoku(), Config())


def finished_arm(directory, environment):
    """What a run leaves of an arm, without training it."""
    RunDirectory(directory, ARM.options)
    (directory / "environment.json").write_text(json.dumps(environment))
    checkpoints = Checkpoints(directory / "checkpoints")
    checkpoints.save(ARM.config.run.steps, {"weights": [1.0]}, ARM.options)
    checkpoints.close()
    return directory


def contents(directory):
    return {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()} - {"lock"}


HERE = {"commit": "0123456789ab", "machine": "one"}


def test_an_arm_that_another_run_has_finished_is_copied_with_a_note(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runner, "environment", lambda: HERE)
    source = finished_arm(tmp_path / "first" / "arms" / "full", HERE)
    target = tmp_path / "second" / "arms" / "n_2"
    runner.reuse_arm(ARM, target, tmp_path)
    assert f"arm n_2 reused from {source}" in capsys.readouterr().out
    assert contents(target) == contents(source) | {runner.REUSED}
    assert (target / runner.REUSED).read_text() == "first/arms/full"
    assert [path.name for path in target.parents[1].iterdir()] == ["arms"]
    third = tmp_path / "a_third" / "arms" / "full"
    (source / "config.json").unlink()
    runner.reuse_arm(ARM, third, tmp_path)
    assert (third / runner.REUSED).read_text() == "first/arms/full"


@pytest.mark.parametrize(
    ("environment", "options", "made"),
    [
        (HERE, {"optim.clip": 0.5}, HERE),
        (HERE, {"task.seed": 1}, HERE),
        (HERE, {}, HERE | {"commit": "ba9876543210"}),
        (HERE, {}, HERE | {"machine": "other"}),
        (HERE | {"commit": "0123456789ab+changes"}, {}, HERE | {"commit": "0123456789ab+changes"}),
        (HERE | {"commit": "unknown"}, {}, HERE | {"commit": "unknown"}),
    ],
)
def test_an_arm_is_not_reused_unless_it_would_be_the_same(monkeypatch, tmp_path, environment, options, made):
    monkeypatch.setattr(runner, "environment", lambda: environment)
    finished_arm(tmp_path / "first" / "arms" / "full", made)
    target = tmp_path / "second" / "arms" / "full"
    runner.reuse_arm(Arm(*override(ARM.task, ARM.config, options)), target, tmp_path)
    assert not target.exists()


def test_an_unfinished_arm_is_not_reused_and_one_that_exists_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "environment", lambda: HERE)
    source = finished_arm(tmp_path / "first" / "arms" / "full", HERE)
    begun = tmp_path / "second" / "arms" / "full"
    RunDirectory(begun, ARM.options)
    before = contents(begun)
    runner.reuse_arm(ARM, begun, tmp_path)
    assert contents(begun) == before
    (source / "checkpoints" / "400").rename(source / "checkpoints" / "300")
    runner.reuse_arm(ARM, tmp_path / "third" / "arms" / "full", tmp_path)
    assert not (tmp_path / "third").exists()


def test_the_arms_of_transfer_differ_only_in_what_the_first_updates_draw():
    arms = build_arms(STUDIES["transfer"], Sudoku(), {"task.curriculum_blanks": (4, 5)})
    assert {name: arm.task.curriculum_fraction for name, arm in arms.items()} == {
        "many": 0.0,
        "few_then_many": 0.5,
        "few": 1.0,
    }
    assert len({override(arm.task, arm.config, {"task.curriculum_fraction": 0.0}) for arm in arms.values()}) == 1
    assert arms["many"].task.blanks == (11, 11) and arms["many"].task.curriculum_blanks == (4, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "fulll"], "unknown arm fulll (did you mean full?); the study components has full, stop_gradient"),
        (["--options", "model.widht=3"], "unknown option model.widht"),
        (["--options", "model.width"], "expected option=value, got 'model.width'"),
        (["--options", "task.blanks=[13,13]"], "needs at least 4"),
        (["--arm", "wide model.width=48"], 'an arm is "NAME: option=value ..."'),
        (["--predicted", "no_em"], "unknown arm no_em (did you mean no_ema?)"),
    ],
)
def test_wrong_arguments_get_one_line_that_says_what_to_do(arguments, message, tmp_path):
    refused = script("sudoku_ablation.py", *arguments, "--output", tmp_path)
    assert refused.returncode == 1 and refused.stderr.startswith("error: ") and message in refused.stderr
    assert refused.stderr.count("\n") == 1 and not any(tmp_path.iterdir())
