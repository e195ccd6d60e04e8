"""Scores of a run against scikit-learn, loops and closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from fake_wafer_run import WAFERS
from scipy.special import expit, softmax
from sklearn.metrics import f1_score, log_loss

from trm_jax.reporting.interval import Interval
from trm_jax.wafer.evaluation import metrics
from trm_jax.wafer.evaluation.pooled import adaptive, by_size, by_split, by_step, lots, measure, pool, together
from trm_jax.wafer.evaluation.stored import as_members
from trm_jax.wafer.evaluation.trust.calibration import fit_temperature
from trm_jax.wafer.maps.wafers import CLASSES


def draws_of(pooled):
    return metrics.resample(len(np.unique(pooled.group)), samples=200)


def test_the_scores_are_those_of_scikit_learn_averaged_over_seeds(pooled):
    scores = measure(pooled, draws_of(pooled))
    predicted = pooled.logits[:, 2].argmax(axis=-1)
    macro = [f1_score(pooled.truth, of_seed, average="macro") for of_seed in predicted]
    assert scores["macro_f1"].value == pytest.approx(np.mean(macro)) and 0.7 < np.mean(macro) < 0.99
    raw = softmax(pooled.logits[:, 2].astype(float), axis=-1)
    assert scores["loss"].value == pytest.approx(
        np.mean([log_loss(pooled.truth, of_seed) for of_seed in raw]), rel=1e-4
    )
    assert scores["loss_tempered"].value < scores["loss"].value
    assert scores["ece_tempered"].value != scores["ece"].value


def test_all_seeds_together_answer_with_the_mean_of_their_probabilities(pooled):
    draws = draws_of(pooled)
    found = together(pooled, pooled.counts(pooled.depth), draws)
    tempered = softmax(pooled.logits[:, 2] / pooled.temperature[:, pooled.fold, None], axis=-1)
    answers = tempered.mean(axis=0).argmax(axis=-1)
    assert found["macro_f1"].value == pytest.approx(f1_score(pooled.truth, answers, average="macro"))
    assert found["accuracy"].value == pytest.approx((answers == pooled.truth).mean())
    alone = measure(pooled, draws)
    for name in ("accuracy", "macro_f1"):
        assert found[f"{name}_gain"].value == pytest.approx(found[name].value - alone[name].value) != 0
        assert found[f"{name}_gain"].high - found[f"{name}_gain"].low < alone[name].high - alone[name].low  # paired


def test_temperatures_come_from_validation_of_the_same_split_and_seed(used, pooled):
    for seed, fold in ((0, 3), (1, 1)):
        validation = used[fold].validation
        expected = fit_temperature(validation.logits[seed, 2], WAFERS.label[validation.index].astype(int))
        assert pooled.temperature[seed, fold] == expected
        tested = pooled.fold == fold
        shares = softmax(pooled.logits[seed, 0, tested] / expected, axis=-1)
        np.testing.assert_allclose(pooled.probabilities(1)[seed, tested], shares, rtol=1e-5)


def test_every_step_is_scored_also_beyond_the_trained_depth(pooled):
    table = by_step(pooled, draws_of(pooled)).set_index(["step", "score"])
    assert set(table.index.get_level_values("step")) == {1, 2, 3, 4, 5}
    for step in (1, 5):
        right = (pooled.logits[:, step - 1].argmax(axis=-1) == pooled.truth).mean()
        assert table.loc[(step, "accuracy"), "value"] == pytest.approx(right)
    first, last = (table.loc[(step, "macro_f1"), "value"] for step in (1, 3))
    assert table.loc[(3, "macro_f1_gain"), "value"] == pytest.approx(last - first)
    assert table.loc[(3, "macro_f1_gain"), "low"] > 0  # the fake run thinks


def test_every_split_and_seed_has_its_own_scores(used, pooled):
    table = by_split(used, pooled)
    assert list(zip(table["split"], table["seed"], strict=True))[:3] == [("lot-0", 0), ("lot-0", 1), ("lot-1", 0)]
    row = table.iloc[5]  # lot-2, seed 1
    tested = pooled.fold == 2
    predicted = pooled.logits[1, 2, tested].argmax(axis=-1)
    assert row["macro_f1"] == pytest.approx(f1_score(pooled.truth[tested], predicted, average="macro"))
    assert row["accuracy"] == pytest.approx((predicted == pooled.truth[tested]).mean())
    curve = used[2].curve[used[2].curve["seed"] == 1].dropna()
    assert row["update"] == curve["step"].iloc[curve["validation_macro_f1"].argmax()] > 0
    silent = replace(used[2], curve=used[2].curve.assign(best_step=np.nan))
    assert by_split([silent], pooled)["update"].isna().all()


def test_nets_together_are_named_by_their_seeds_and_scored_as_one(used):
    members = as_members(used)
    table = by_split(members, pool(members, WAFERS))
    assert list(table["seed"]) == ["0 + 1"] * len(used) and table["update"].isna().all()
    mean = softmax(used[1].test.logits[:, 2], axis=-1).mean(axis=0)
    expected = f1_score(WAFERS.label[used[1].test.index], mean.argmax(axis=-1), average="macro")
    assert table["macro_f1"][1] == pytest.approx(expected)


def test_errors_are_counted_by_size_of_the_map(pooled):
    chosen = np.random.default_rng(1).random(pooled.logits.shape[:1] + pooled.truth.shape) < 0.5
    wrong = pooled.logits[:, 2].argmax(axis=-1) != pooled.truth
    table = by_size(chosen, pooled, WAFERS, draws_of(pooled))
    side = np.sqrt(WAFERS.height[pooled.index] * 1.0 * WAFERS.width[pooled.index]).round()
    assert table["wafers"].sum() == len(side) and len(table) == 4
    assert (table["smallest"].to_numpy()[1:] > table["largest"].to_numpy()[:-1]).all()
    row = table.iloc[2]
    tested = (side >= row["smallest"]) & (side <= row["largest"])
    patterned = tested & (pooled.truth != CLASSES.index("none"))
    assert row["wafers"] == tested.sum() and row["coverage"].value == pytest.approx(chosen[:, tested].mean())
    assert row["wrong"].value == pytest.approx(wrong[:, tested].mean()) and row["wrong"].value > 0
    assert row["wrong with a pattern"].value == pytest.approx(wrong[:, patterned].mean())
    expected = np.mean([wrong[seed, tested & chosen[seed]].mean() for seed in range(len(chosen))])
    assert row["errors"].value == pytest.approx(expected)
    none = by_size(np.zeros_like(chosen), pooled, WAFERS, draws_of(pooled))
    assert none["errors"].isna().all() and (none["wrong"] == table["wrong"]).all()


def test_lots_are_groups_or_consecutive_wafers_of_large_groups():
    index = np.arange(len(WAFERS))
    np.testing.assert_array_equal(lots(WAFERS, index), WAFERS.group)
    coarse = replace(WAFERS, group=(WAFERS.row // 250).astype(np.int32))
    numbers = lots(coarse, index)
    assert len(np.unique(numbers)) == len(WAFERS) / 25
    assert all(len(np.unique(numbers[start : start + 25])) == 1 for start in range(0, len(WAFERS), 25))


def test_adaptive_depth_equals_a_loop_that_stops(pooled):
    table = adaptive(pooled, draws_of(pooled)).set_index("halt")
    assert table.loc[0.0, "steps"] == 1 and table.loc[1.0, "steps"] == 3
    used_steps, right = [], []
    for seed, wafer in np.ndindex(len(pooled.logits), len(pooled.truth)):
        step = next((k for k in range(2) if expit(pooled.halt[seed, k, wafer]) > 0.8), 2)
        used_steps.append(step + 1)
        right.append(pooled.logits[seed, step, wafer].argmax() == pooled.truth[wafer])
    assert table.loc[0.8, "steps"] == pytest.approx(np.mean(used_steps))
    assert table.loc[0.8, "accuracy"].value == pytest.approx(np.mean(right))
    assert table.loc[1.0, "macro_f1_gain"] == Interval(0, 0, 0)
