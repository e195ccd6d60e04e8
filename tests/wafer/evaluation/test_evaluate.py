"""Evaluation of a run against scikit-learn, loops and closed forms; sentences that follow the numbers; the script."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from fake_wafer_run import write_baselines, write_run
from scipy.special import expit, softmax
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.wafer.baselines.report import WM811K_LABELLED, WM811K_NONE
from trm_jax.wafer.checkpoint import Calibration, Classifier
from trm_jax.wafer.classify import halting_times
from trm_jax.wafer.evaluation import confidence, figures, groups, metrics
from trm_jax.wafer.evaluation import pooled as wafer_evaluation
from trm_jax.wafer.evaluation import results as wafer_evaluation_results
from trm_jax.wafer.evaluation.metrics import Interval
from trm_jax.wafer.evaluation.pooled import Answers
from trm_jax.wafer.evaluation.report import write_report
from trm_jax.wafer.evaluation.runs import join_runs, read_run
from trm_jax.wafer.evaluation.stored import Predicted, save_predicted
from trm_jax.wafer.maps.maps import CLASSES
from trm_jax.wafer.splits import folds
from trm_jax.wafer.synthetic import synthetic_wafers

ROOT = Path(__file__).resolve().parents[3]
WAFERS = synthetic_wafers(1500)
SPLITS = folds(WAFERS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    write_run(directory / "run", WAFERS, SPLITS)
    write_run(directory / "without-Donut", WAFERS, SPLITS, left_out="Donut")
    write_baselines(directory / "baselines", WAFERS, SPLITS)
    return directory


@pytest.fixture(scope="module")
def used(place):
    return read_run(place / "run", WAFERS, SPLITS)


@pytest.fixture(scope="module")
def tested(used):
    return wafer_evaluation.pool(used, WAFERS)


def draws_of(tested):
    return metrics.resample(len(np.unique(tested.group)), samples=200)


def test_the_scores_are_those_of_scikit_learn_averaged_over_seeds(tested):
    found = wafer_evaluation.measure(tested, draws_of(tested))
    predicted = tested.logits[:, 2].argmax(axis=-1)
    macro = [f1_score(tested.truth, one, average="macro") for one in predicted]
    assert found["macro_f1"].value == pytest.approx(np.mean(macro)) and 0.7 < np.mean(macro) < 0.99
    raw = softmax(tested.logits[:, 2].astype(float), axis=-1)
    assert found["loss"].value == pytest.approx(np.mean([log_loss(tested.truth, one) for one in raw]), rel=1e-4)
    assert found["loss_tempered"].value < found["loss"].value
    assert found["ece_tempered"].value != found["ece"].value


def test_temperatures_come_from_validation_of_the_same_split_and_seed(used, tested):
    for seed, fold in ((0, 3), (1, 1)):
        validation = used[fold].validation
        expected = confidence.fit_temperature(validation.logits[seed, 2], WAFERS.label[validation.index].astype(int))
        assert tested.temperature[seed, fold] == expected
        here = tested.fold == fold
        shares = softmax(tested.logits[seed, 0, here] / expected, axis=-1)
        np.testing.assert_allclose(tested.probabilities(1)[seed, here], shares, rtol=1e-5)


def test_every_step_is_scored_also_beyond_the_trained_depth(tested):
    table = wafer_evaluation.by_step(tested, draws_of(tested)).set_index(["step", "score"])
    assert set(table.index.get_level_values("step")) == {1, 2, 3, 4, 5}
    for step in (1, 5):
        right = (tested.logits[:, step - 1].argmax(axis=-1) == tested.truth).mean()
        assert table.loc[(step, "accuracy"), "value"] == pytest.approx(right)
    first, last = (table.loc[(step, "macro_f1"), "value"] for step in (1, 3))
    assert table.loc[(3, "macro_f1_gain"), "value"] == pytest.approx(last - first)
    assert table.loc[(3, "macro_f1_gain"), "low"] > 0  # the fake run thinks


def test_every_split_and_seed_has_its_own_scores(used, tested):
    table = groups.by_split(used, tested)
    assert list(zip(table["split"], table["seed"], strict=True))[:3] == [("lot-0", 0), ("lot-0", 1), ("lot-1", 0)]
    row = table.iloc[5]  # lot-2, seed 1
    here = tested.fold == 2
    predicted = tested.logits[1, 2, here].argmax(axis=-1)
    assert row["macro_f1"] == pytest.approx(f1_score(tested.truth[here], predicted, average="macro"))
    assert row["accuracy"] == pytest.approx((predicted == tested.truth[here]).mean())
    curve = used[2].curve[used[2].curve["seed"] == 1].dropna()
    assert row["update"] == curve["step"].iloc[curve["validation_macro_f1"].argmax()] > 0
    silent = used[2]._replace(curve=used[2].curve.assign(best_step=np.nan))
    assert groups.by_split([silent], tested)["update"].isna().all()


def test_of_each_class_the_decided_and_the_wrong_are_counted(tested):
    chosen = np.random.default_rng(0).random(tested.logits.shape[:1] + tested.truth.shape) < 0.5
    wrong = tested.logits[:, 2].argmax(axis=-1) != tested.truth
    found = groups.decided_by_class(chosen, wrong, tested, draws_of(tested))
    assert set(found) == set(range(len(CLASSES)))
    label = CLASSES.index("Scratch")
    here = tested.truth == label
    assert found[label]["coverage"].value == pytest.approx(chosen[:, here].mean())
    expected = np.mean([wrong[s, here][chosen[s, here]].mean() for s in range(len(chosen))])
    assert found[label]["errors"].value == pytest.approx(expected) and expected > 0


def test_errors_are_counted_by_size_of_the_map(tested):
    chosen = np.random.default_rng(1).random(tested.logits.shape[:1] + tested.truth.shape) < 0.5
    wrong = tested.logits[:, 2].argmax(axis=-1) != tested.truth
    table = groups.by_size(chosen, wrong, tested, WAFERS, draws_of(tested))
    side = np.sqrt(WAFERS.height[tested.index] * 1.0 * WAFERS.width[tested.index]).round()
    assert table["wafers"].sum() == len(side) and len(table) == 4
    assert (table["smallest"].to_numpy()[1:] > table["largest"].to_numpy()[:-1]).all()
    row = table.iloc[2]
    here = (side >= row["smallest"]) & (side <= row["largest"])
    patterned = here & (tested.truth != CLASSES.index("none"))
    assert row["wafers"] == here.sum() and row["coverage"].value == pytest.approx(chosen[:, here].mean())
    assert row["wrong"].value == pytest.approx(wrong[:, here].mean()) and row["wrong"].value > 0
    assert row["wrong with a pattern"].value == pytest.approx(wrong[:, patterned].mean())
    expected = np.mean([wrong[seed, here & chosen[seed]].mean() for seed in range(len(chosen))])
    assert row["errors"].value == pytest.approx(expected)
    none = groups.by_size(np.zeros_like(chosen), wrong, tested, WAFERS, draws_of(tested))
    assert none["errors"].isna().all() and (none["wrong"] == table["wrong"]).all()


def test_lots_are_groups_or_consecutive_wafers_of_large_groups():
    index = np.arange(len(WAFERS))
    np.testing.assert_array_equal(wafer_evaluation.lots(WAFERS, index), WAFERS.group)
    coarse = replace(WAFERS, group=(WAFERS.row // 250).astype(np.int32))
    found = wafer_evaluation.lots(coarse, index)
    assert len(np.unique(found)) == len(WAFERS) / 25
    assert all(len(np.unique(found[start : start + 25])) == 1 for start in range(0, len(WAFERS), 25))


def test_a_share_by_hand():
    hits, of = np.array([[True, True, False, False]]), np.array([[True, False, True, False]])
    found = wafer_evaluation.share(hits, of, np.array([4, 4, 9, 9]), np.array([[2, 0], [0, 2], [1, 1]]))
    assert found.value == 0.5 and 0 <= found.low < 0.1 < 0.9 < found.high <= 1
    nothing = wafer_evaluation.share(hits, np.zeros_like(of), np.array([4, 4, 9, 9]), np.array([[1, 1]]))
    assert nothing == Interval(0, 0, 0)


def test_thresholds_come_from_validation_and_are_judged_on_test(used, tested):
    table = wafer_evaluation.thresholds(used, WAFERS, tested, 0.15, 0.2)
    assert len(table) == len(wafer_evaluation.RULES) * 4 * 2
    fold, seed = 2, 1
    validation = used[fold].validation
    shares = softmax(validation.logits[seed, 2] / tested.temperature[seed, fold], axis=1)
    right = shares.argmax(axis=1) == WAFERS.label[validation.index]
    group = WAFERS.group[validation.index]
    expected = confidence.guaranteed_threshold(shares.max(axis=1), right, group, 0.15, 0.2)
    rows = table[(table["split"] == "lot-2") & (table["seed"] == seed)].set_index("rule")
    row = rows.loc["guaranteed, by lot"]
    assert (np.isnan(row["threshold"]) and expected is None) or row["threshold"] == expected
    row = rows.loc["marginal, by lot"]
    test, here = tested.probabilities(3)[seed], tested.fold == fold
    decided = test.max(axis=1) >= row["threshold"]
    assert row["coverage"] == pytest.approx(decided[here].mean()) and row["coverage"] > 0.1
    wrong = test.argmax(axis=1) != tested.truth
    assert row["wrong"] == pytest.approx((wrong & decided)[here].mean())
    mask = wafer_evaluation.decided(table, "marginal, by lot", used, tested)
    np.testing.assert_array_equal(mask[seed, here], decided[here])


def test_sets_hold_the_truth_as_often_as_they_promise(used, tested):
    found = wafer_evaluation.sets(used, WAFERS, tested, 0.2)
    covered = found[:, np.arange(len(tested.truth)), tested.truth].mean()
    assert 0.75 < covered < 0.95 and found.sum(axis=-1).mean() < 2


def test_adaptive_depth_equals_a_loop_that_stops(tested):
    table = wafer_evaluation.adaptive(tested, draws_of(tested)).set_index("halt")
    assert table.loc[0.0, "steps"] == 1 and table.loc[1.0, "steps"] == 3
    used_steps, right = [], []
    for seed, wafer in np.ndindex(len(tested.logits), len(tested.truth)):
        step = next((k for k in range(2) if expit(tested.halt[seed, k, wafer]) > 0.8), 2)
        used_steps.append(step + 1)
        right.append(tested.logits[seed, step, wafer].argmax() == tested.truth[wafer])
    assert table.loc[0.8, "steps"] == pytest.approx(np.mean(used_steps))
    assert table.loc[0.8, "accuracy"].value == pytest.approx(np.mean(right))
    assert table.loc[1.0, "macro_f1_gain"] == Interval(0, 0, 0)


def test_errors_that_come_in_groups_are_noticed():
    wafers = replace(WAFERS, group=(WAFERS.row // 250).astype(np.int32))
    rng, index = np.random.default_rng(0), np.arange(len(WAFERS))

    def ratio(wrong):
        answer = np.where(wrong, (WAFERS.label + 1) % 9, WAFERS.label)
        logits = np.eye(9)[answer][None, None]
        fold = np.zeros(len(index), int)
        truth = WAFERS.label.astype(int)
        made = Answers(index, truth, wafers.group, fold, logits, logits[..., 0], np.ones((1, 1)), 1)
        return wafer_evaluation.together(made, wafers)

    assert np.mean([ratio(rng.random(len(index)) < 0.1) for _ in range(40)]) == pytest.approx(1, abs=0.35)
    assert ratio(wafers.group == 2) > 4


def test_unknown_patterns_get_an_area_for_every_split_seed_and_score(used, tested):
    table = wafer_evaluation.unknown(used, tested)
    assert len(table) == 4 * 2 * 4 * 2 and set(table["unknown"]) == {"mixes"}
    rows = table[(table["split"] == "lot-1") & (table["seed"] == 1) & (table["score"] == "energy")]
    here, mixes = tested.fold == 1, used[1].unknown["mixes"].logits[1, 2]
    new = -np.log(np.exp(mixes.astype(float)).sum(axis=1))
    patterned = here & (tested.truth != CLASSES.index("none"))
    for known, among in zip(wafer_evaluation.KNOWN, (here, patterned), strict=True):
        old = -np.log(np.exp(tested.logits[1, 2, among].astype(float)).sum(axis=1))
        expected = roc_auc_score([0] * len(old) + [1] * len(new), [*old, *new])
        assert rows.loc[rows["known"] == known, "auroc"].item() == pytest.approx(expected)


def test_a_class_left_out_becomes_the_unknown_one(used):
    label = CLASSES.index("Donut")
    moved = wafer_evaluation.left_out(used, WAFERS, label, "Donut")
    for before, after in zip(used, moved, strict=True):
        (name, unknown), = after.unknown.items()  # fmt: skip
        assert "Donut" in name and (WAFERS.label[unknown.index] == label).all()
        assert sorted([*after.test.index, *unknown.index]) == before.test.index.tolist()
        np.testing.assert_array_equal(
            unknown.logits, before.test.logits[:, :, WAFERS.label[before.test.index] == label]
        )


def interval(value, width=0.0):
    return Interval(value, value - width, value + width)


def test_readiness_says_pass_only_where_a_target_is_met():
    measured = {"accuracy": interval(0.94, 0.02), "macro_f1": interval(0.9), "ece_tempered": interval(0.03)}
    decided = {
        "guaranteed, by lot": {"coverage": interval(0.0), "errors": interval(0.0)},
        "marginal, by lot": {"coverage": interval(0.8), "wrong": interval(0.01)},
    }
    checks = wafer_evaluation_results.readiness(measured, decided, 10_000_000, 0.02)
    assert [check.passed for check in checks] == [False, True, False, True, False, True]
    assert [check.sure for check in checks[1:4]] == [False, False, True]
    assert "nothing is decided" in checks[4].measured


def test_predictions_of_other_wafers_and_unfinished_runs_are_refused(place, tmp_path):
    with pytest.raises(ValueError, match="other wafers than the validation part"):
        read_run(place / "run", synthetic_wafers(1600), folds(synthetic_wafers(1600)))
    with pytest.raises(ValueError, match="predictions of none of the splits lot-0"):
        read_run(tmp_path, WAFERS, SPLITS)
    shutil.copytree(place / "run" / "lot-0", tmp_path / "lot-0")
    with pytest.raises(ValueError, match=r"wafers.json: no record of how the run answers \(.*No such file"):
        read_run(tmp_path, WAFERS, SPLITS)
    with pytest.raises(ValueError, match="no run at"):
        read_run(tmp_path / "gone", WAFERS, SPLITS)
    with pytest.raises(ValueError, match="run is a run on all classes; expected one without Donut"):
        read_run(place / "run", WAFERS, SPLITS, "Donut")
    with pytest.raises(ValueError, match="without-Donut is a run without Donut; expected one on all classes"):
        read_run(place / "without-Donut", WAFERS, SPLITS)


def split_seeds(run, seeds):
    """The run as if each of its seeds had been trained on its own, numbered by ``seeds``."""
    parts = []
    for place, seed in enumerate(seeds):
        mine = slice(place, place + 1)
        parts.append([
            fold._replace(
                config=fold.config.override(**{"run.seeds": (seed,)}),
                validation=fold.validation._replace(
                    logits=fold.validation.logits[mine], halt=fold.validation.halt[mine]
                ),
                test=fold.test._replace(logits=fold.test.logits[mine], halt=fold.test.halt[mine]),
                curve=fold.curve[fold.curve["seed"] == place].assign(seed=0),
                unknown={n: p._replace(logits=p.logits[mine], halt=p.halt[mine]) for n, p in fold.unknown.items()},
            )
            for fold in run
        ])  # fmt: skip
    return parts


def test_runs_of_other_seeds_are_judged_as_one(used, tested):
    joined = join_runs(split_seeds(used, (3, 8)))
    together = wafer_evaluation.pool(joined, WAFERS)
    np.testing.assert_array_equal(together.logits, tested.logits)
    np.testing.assert_array_equal(together.temperature, tested.temperature)
    assert joined[0].config.run.seeds == (3, 8)
    ours, whole = (fold[1].curve.sort_values(["step", "seed"]).reset_index(drop=True) for fold in (joined, used))
    assert ours.equals(whole)
    np.testing.assert_array_equal(joined[2].unknown["mixes"].halt, used[2].unknown["mixes"].halt)


def test_runs_that_do_not_belong_together_are_refused(used):
    with pytest.raises(ValueError, match=r"seeds of their own, got \(3, 3\)"):
        join_runs(split_seeds(used, (3, 3)))
    one, two = split_seeds(used, (3, 8))
    wider = [fold._replace(config=fold.config.override(**{"model.width": 48})) for fold in two]
    with pytest.raises(ValueError, match="lot-0: runs to be judged together may differ in their seeds only"):
        join_runs([one, wider])
    with pytest.raises(ValueError, match="may differ in their seeds only"):
        join_runs([one, [fold._replace(made=fold.made | {"views": 2}) for fold in two]])
    with pytest.raises(ValueError, match="runs of other seeds have splits lot-1"):
        join_runs([one, two[1:2]])


def test_curves_have_a_row_per_step_and_seed_and_forgive_a_cut_line(used):
    curve = used[0].curve
    assert len(curve) == 20 * 2 and curve["validation_macro_f1"].notna().sum() == 4 * 2
    assert used[0].config.recursion.N_sup == 3


def test_a_faultless_run_of_one_seed_one_step_one_split_and_no_curve_is_reported(place, used, tmp_path):
    """Nothing here can divide by zero: no errors, no gain, no curve, no unknown patterns, no wafers to flag."""
    config = used[0].config.override(**{"recursion.N_sup": 1, "run.seeds": (0,)})
    perfect = {}
    for part in ("validation", "test"):
        index = getattr(used[0].split, part)
        logits = 9 * np.eye(len(CLASSES))[WAFERS.label[index]][None, None]
        perfect[part] = Predicted(index, logits, logits[..., 0])
    fold = used[0]._replace(config=config, **perfect, curve=used[0].curve.iloc[:0], unknown={})
    tested = wafer_evaluation.pool([fold], WAFERS)
    rates = {"alpha": 0.02, "delta": 0.1, "sets": 0.05}
    results = wafer_evaluation_results.compute([fold], WAFERS, tested, {}, [], 1234, rates)
    shown = write_report(tmp_path, results, [fold], WAFERS, tested, rates, {})
    assert shown.count("PASS") == 4 and "1,234" in shown  # too few lots for any promise
    text = (tmp_path / "report.md").read_text()
    assert "No threshold can be guaranteed at 2.0%" in text and "A single seed" in text
    assert "nan" not in text and "Unknown patterns" not in text


def test_thresholds_that_stop_at_nearly_the_same_step_share_a_label():
    scores = [Interval(0.9, 0.8, 1.0)] * 5
    table = pd.DataFrame(
        {"halt": [0, 0.5, 0.9, 0.99, 1], "steps": [1, 1, 1.03, 1.8, 3], "ms": [1.0, 1.1, 1.1, 2, 3]}
    ).assign(accuracy=scores, macro_f1=scores)
    figure = figures.adaptive_depth(table, "")
    assert [text.get_text() for text in figure.axes[-1].texts] == ["0 to 0.9", "0.99", "1"]


def test_measured_times_stand_in_table_sentence_and_figure(used, tested, tmp_path):
    rates = {"alpha": 0.15, "delta": 0.1, "sets": 0.05}
    times = np.linspace(0.5, 1.5, len(wafer_evaluation.HALTS)).tolist()
    results = wafer_evaluation_results.compute(used, WAFERS, tested, {}, [], 1234, rates, times)
    write_report(tmp_path, results, used, WAFERS, tested, rates, {})
    text = (tmp_path / "report.md").read_text()
    assert "Time of a wafer, ms" in text and "| 1.500 |" in text and "(figures/adaptive_depth.svg)" in text
    cheapest = results.adaptive[[gain.low > -0.005 for gain in results.adaptive["macro_f1_gain"]]].iloc[0]
    assert f"It takes {cheapest['ms']:.3f} instead of 1.500 ms a wafer, {cheapest['ms'] / 1.5:.0%} of the time" in text
    assert "Time of a wafer (ms)" in (tmp_path / "figures" / "adaptive_depth.svg").read_text()
    table = pd.read_csv(tmp_path / "results.csv")
    assert table[table["score"] == "ms"]["value"].tolist() == pytest.approx(times)


def test_stopping_early_is_timed_with_real_weights():
    config = Config().override(**{"model.classes": 9, "model.patch": 4, "model.image": 12, "model.grid": (3, 3),
                                  "model.readout": "mean_max", "model.width": 8, "recursion.N_sup": 8})  # fmt: skip
    shipped = Classifier(config, model.initialise(config.model, jax.random.key(0)), Calibration())
    times = halting_times(shipped, WAFERS.take(np.arange(128)), (0.0, 0.5, 1.0))
    assert len(times) == 3 and min(times) > 0


def evaluate(*arguments):
    command = [sys.executable, ROOT / "experiments/wafer_evaluate.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def write_one_seed(directory, used, index):
    """A run that trained only one of the seeds, on these splits."""
    directory.mkdir()
    (directory / "wafers.json").write_text(json.dumps(used[0].made))
    for fold in used:
        place = directory / fold.split.name
        place.mkdir(parents=True)
        (place / "config.json").write_text(fold.config.override(**{"run.seeds": (index,)}).to_json())
        for part in ("validation", "test"):
            found = getattr(fold, part)
            one = found._replace(logits=found.logits[index : index + 1], halt=found.halt[index : index + 1])
            save_predicted(place / f"{part}.npz", one)


def test_the_script_writes_sentences_that_follow_the_numbers(place, used, tmp_path):
    options = ("--synthetic", 1500, "--baselines", place / "baselines", "--alpha", 0.15)
    for index in (0, 1):
        write_one_seed(tmp_path / f"seed-{index}", used, index)
    write_one_seed(tmp_path / "half", used[1:3], 1)
    options += ("--controls", f"itself={tmp_path / 'seed-0'}", f"itself={tmp_path / 'seed-1'}")
    options += (f"half={tmp_path / 'half'}",)
    result = evaluate("--run", place / "run", "--left-out", f"Donut={place / 'without-Donut'}", *options)
    assert result.returncode == 0, result.stderr
    text = (place / "run/evaluation/report.md").read_text()
    assert "synthetic" in text.splitlines()[0]
    assert "is better than `constant`" in text and "is worse than `perfect`" in text
    assert "class Donut, never trained on" in text and "2 training seeds" in text
    content = json.loads((place / "run/evaluation/results.json").read_text())
    numbers = {(row["part"], row["name"], row["score"]): row["value"] for row in content["numbers"]}
    assert numbers["baseline own", "perfect", "macro_f1"] == 1
    ours = numbers["score", "all", "macro_f1"]
    pooled = wafer_evaluation.pool(used, WAFERS)
    answers, none = pooled.logits[:, 2].argmax(axis=-1), CLASSES.index("none")
    loc = CLASSES.index("Loc")
    assert numbers["confusion", "labelled Loc, named none", "wafers"] == pytest.approx(
        np.mean([((pooled.truth == loc) & (one == none)).sum() for one in answers])
    )
    right, weight = answers == pooled.truth, WM811K_NONE / WM811K_LABELLED
    mixed = weight * right[:, pooled.truth == none].mean() + (1 - weight) * right[:, pooled.truth != none].mean()
    assert numbers[wafer_evaluation_results.FULL_MIX, "all", "accuracy"] == pytest.approx(mixed)
    assert f"(85.2%): accuracy {mixed:.3f}" in text and content["rates"]["alpha"] == 0.15
    assert numbers["baseline own", "itself", "macro_f1"] == ours
    assert numbers["baseline difference", "itself", "macro_f1"] == 0
    assert numbers["baseline difference", "perfect", "macro_f1"] == pytest.approx(ours - 1)
    own, here = wafer_evaluation.pool(used[1:3], WAFERS), "half (lot-1, lot-2)"
    each = [f1_score(own.truth, one, average="macro") for one in own.logits[:, 2].argmax(axis=-1)]
    assert numbers["baseline own", here, "macro_f1"] == pytest.approx(each[1])
    assert numbers["baseline difference", here, "macro_f1"] == pytest.approx(np.mean(each) - each[1])
    assert {check["passed"] for check in content["readiness"]} <= {True, False}
    assert f"| Macro-F1 | above 0.90 | {ours:.3f}" in result.stdout
    assert {path.name for path in (place / "run/evaluation/figures").iterdir()} == {
        "adaptive_depth.svg", "overview.svg", "risk_coverage.svg"
    }  # fmt: skip


def test_a_mistake_is_one_line(tmp_path):
    result = evaluate("--run", tmp_path / "gone", "--synthetic", 1500)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "gone" in result.stderr
