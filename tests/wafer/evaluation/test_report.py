"""The report follows the numbers, from its parts and as the script writes it."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_wafer_run import WAFERS
from scipy.special import softmax
from scripts import script
from sklearn.metrics import f1_score

from trm_jax.core.task import run_options
from trm_jax.reporting.interval import Interval
from trm_jax.wafer.evaluation import figures
from trm_jax.wafer.evaluation.metrics import WM811K_LABELLED, WM811K_NONE
from trm_jax.wafer.evaluation.pooled import HALTS, pool
from trm_jax.wafer.evaluation.report import write_report
from trm_jax.wafer.evaluation.results import FULL_MIX, compute, readiness
from trm_jax.wafer.evaluation.stored import Predicted, save_predicted
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.task import WaferTask


def interval(value, width=0.0):
    return Interval(value, value - width, value + width)


def test_readiness_says_pass_only_where_a_target_is_met():
    measured = {"accuracy": interval(0.94, 0.02), "macro_f1": interval(0.9), "ece_tempered": interval(0.03)}
    nothing = {"coverage": interval(0.0), "errors": interval(0.0)}
    checks = readiness(measured, nothing, 10_000_000, 0.02)
    assert [check.passed for check in checks] == [False, True, False, True, False]
    assert [check.sure for check in checks[1:4]] == [False, False, True]
    assert "nothing is decided" in checks[4].measured
    for errors, passed, sure in ((0.01, True, True), (0.019, True, False), (0.021, False, False)):
        decided = {"coverage": interval(0.5), "errors": interval(errors, 0.005)}
        check = readiness(measured, decided, 1, 0.02)[4]
        assert (check.passed, check.sure) == (passed, sure)


def test_a_faultless_run_of_one_seed_one_step_one_split_and_no_curve_is_reported(used, tmp_path):
    """Nothing here can divide by zero: no errors, no gain, no curve, no unknown patterns, no wafers to flag."""
    config = used[0].config.override(**{"recursion.N_sup": 1, "run.seeds": (0,)})
    perfect = {}
    for part in ("validation", "test"):
        index = getattr(used[0].split, part)
        logits = 9 * np.eye(len(CLASSES))[WAFERS.label[index]][None, None]
        perfect[part] = Predicted(index, logits, logits[..., 0])
    fold = replace(used[0], config=config, **perfect, curve=used[0].curve.iloc[:0], unknown={})
    pooled = pool([fold], WAFERS)
    rates = {"alpha": 0.02, "delta": 0.1}
    results = compute([fold], WAFERS, pooled, rates, 1234, {})
    shown = write_report(tmp_path, results, [fold], WAFERS, pooled, {})
    assert shown.count("PASS") == 4 and "1,234" in shown  # too few lots for any promise
    text = (tmp_path / "report.md").read_text()
    assert "No threshold can be guaranteed at 2.0%" in text and "A single seed" in text
    assert not re.search(r"\bnan\b", text) and "Unknown patterns" not in text


def test_measured_times_stand_in_table_sentence_and_figure(used, pooled, tmp_path):
    rates = {"alpha": 0.15, "delta": 0.1}
    times = np.linspace(0.5, 1.5, len(HALTS)).tolist()
    results = compute(used, WAFERS, pooled, rates, 1234, {}, milliseconds=times)
    write_report(tmp_path, results, used, WAFERS, pooled, {})
    text = (tmp_path / "report.md").read_text()
    assert "Time of a wafer, ms" in text and "| 1.500 |" in text and "(figures/adaptive_depth.svg)" in text
    cheapest = results.adaptive[[gain.low > -0.005 for gain in results.adaptive["macro_f1_gain"]]].iloc[0]
    assert f"steps instead of 3 and {cheapest['ms']:.3f} instead of 1.500 ms a wafer" in text
    assert "Time of a wafer (ms)" in (tmp_path / "figures" / "adaptive_depth.svg").read_text()
    table = pd.read_csv(tmp_path / "results.csv")
    assert table[table["score"] == "ms"]["value"].tolist() == pytest.approx(times)


def write_one_seed(directory, used, index):
    """A run that trained only one of the seeds, on these splits."""
    directory.mkdir()
    (directory / "wafers.json").write_text(json.dumps(used[0].prediction_options))
    for fold in used:
        place = directory / fold.split.name
        place.mkdir(parents=True)
        options = run_options(WaferTask(), fold.config.override(**{"run.seeds": (index,)}))
        (place / "config.json").write_text(json.dumps(options))
        for part in ("validation", "test"):
            answers = getattr(fold, part)
            only = {name: getattr(answers, name)[index : index + 1] for name in ("logits", "halt")}
            save_predicted(place / f"{part}.npz", Predicted(answers.index, **only))


def test_the_script_writes_what_follows_from_the_numbers(place, used, pooled, tmp_path):
    options = ("--synthetic", 1500, "--baselines", place / "baselines", "--alpha", 0.15)
    for index in (0, 1):
        write_one_seed(tmp_path / f"seed-{index}", used, index)
    write_one_seed(tmp_path / "half", used[1:3], 1)
    options += ("--controls", f"itself={tmp_path / 'seed-0'}", f"itself={tmp_path / 'seed-1'}")
    options += (f"half={tmp_path / 'half'}",)
    options += ("--left-out", f"Donut={place / 'without-Donut'}")
    result = script("wafer_evaluate.py", "--run", place / "run", *options)
    assert result.returncode == 0, result.stderr
    text = (place / "run/evaluation/report.md").read_text()
    assert "synthetic" in text.splitlines()[0]
    verdicts = dict(re.findall(r"\| `(.+)` \|.*\| ([a-z ]+) \|\n", text))
    assert verdicts["constant"] == "better" and verdicts["perfect"] == "worse"
    assert verdicts["itself"] == "not told apart"
    assert "class Donut, never trained on" in text and "2 training seeds" in text
    content = json.loads((place / "run/evaluation/results.json").read_text())
    numbers = {(row["part"], row["name"], row["score"]): row["value"] for row in content["numbers"]}
    assert numbers["baseline own", "perfect", "macro_f1"] == 1
    ours = numbers["score", "all", "macro_f1"]
    answers, none = pooled.logits[:, 2].argmax(axis=-1), CLASSES.index("none")
    loc = CLASSES.index("Loc")
    assert numbers["confusion", "labelled Loc, named none", "wafers"] == pytest.approx(
        np.mean([((pooled.truth == loc) & (answer == none)).sum() for answer in answers])
    )
    right, weight = answers == pooled.truth, WM811K_NONE / WM811K_LABELLED
    mixed = weight * right[:, pooled.truth == none].mean() + (1 - weight) * right[:, pooled.truth != none].mean()
    assert numbers[FULL_MIX, "all", "accuracy"] == pytest.approx(mixed)
    assert f"(85.2%): accuracy {mixed:.3f}" in text and content["rates"]["alpha"] == 0.15
    assert numbers["baseline own", "itself", "macro_f1"] == ours
    assert numbers["baseline difference", "itself", "macro_f1"] == 0
    assert numbers["baseline difference", "perfect", "macro_f1"] == pytest.approx(ours - 1)
    of_half, name = pool(used[1:3], WAFERS), "half (lot-1, lot-2)"
    each = [f1_score(of_half.truth, answer, average="macro") for answer in of_half.logits[:, 2].argmax(axis=-1)]
    assert numbers["baseline own", name, "macro_f1"] == pytest.approx(each[1])
    assert numbers["baseline difference", name, "macro_f1"] == pytest.approx(np.mean(each) - each[1])
    assert {check["passed"] for check in content["readiness"]} <= {True, False}
    assert f"| Macro-F1 | above 0.90 | {ours:.3f}" in result.stdout
    assert {path.name for path in (place / "run/evaluation/figures").iterdir()} == {
        f"{name}.svg" for name in ("adaptive_depth", "confusion", "f1_by_class", "risk_coverage", "steps", "training")
    }


def test_nets_judged_together_are_reported_as_one_in_a_folder_of_their_own(place, used):
    result = script("wafer_evaluate.py", "--run", place / "run", "--synthetic", 1500, "--together")
    assert result.returncode == 0, result.stderr
    folder = place / "run" / "evaluation-together"
    text, content = (folder / "report.md").read_text(), json.loads((folder / "results.json").read_text())
    assert "\n- 2 nets per split, each of a training seed of its own, answer as one with the mean of their prob" in text
    assert "\n- Trained with 3 supervision steps, evaluated with up to 5" in text
    assert "| lot-0 | 0 + 1 |" in text and "not recorded" not in text
    assert content["seeds"] == 1 and content["recipe"]["model"]["members"] == 2
    numbers = {(row["part"], row["name"], row["score"]): row["value"] for row in content["numbers"]}
    mean = [softmax(fold.test.logits[:, 2], axis=-1).mean(axis=0).argmax(axis=-1) for fold in used]
    truth = np.concatenate([WAFERS.label[fold.test.index] for fold in used])
    expected = f1_score(truth, np.concatenate(mean), average="macro")
    assert numbers["score", "all", "macro_f1"] == pytest.approx(expected)
    wrong = script("wafer_evaluate.py", "--run", place / "run", "--together", "--left-out", f"Donut={place}")
    assert wrong.returncode == 1 and "leave out --together" in wrong.stderr


def test_a_mistake_is_one_line(tmp_path):
    result = script("wafer_evaluate.py", "--run", tmp_path / "gone", "--synthetic", 1500)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "gone" in result.stderr


def test_thresholds_that_stop_at_nearly_the_same_step_share_a_label():
    scores = [Interval(0.9, 0.8, 1.0)] * 5
    table = pd.DataFrame(
        {"halt": [0, 0.5, 0.9, 0.99, 1], "steps": [1, 1, 1.03, 1.8, 3], "ms": [1.0, 1.1, 1.1, 2, 3]}
    ).assign(accuracy=scores, macro_f1=scores)
    figure = figures.adaptive_depth(table, "")
    assert [text.get_text() for text in figure.axes[-1].texts] == ["0 to 0.9", "0.99", "1"]
