"""Automatic decisions and unknown patterns, against direct computation on validation and test wafers."""

from dataclasses import replace

import numpy as np
import pytest
from fake_wafer_run import WAFERS
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from trm_jax.wafer.evaluation import metrics
from trm_jax.wafer.evaluation.pooled import Pooled
from trm_jax.wafer.evaluation.trust import selective
from trm_jax.wafer.evaluation.trust.risk_control import guaranteed_threshold
from trm_jax.wafer.evaluation.trust.selective import (
    BY_BLOCK,
    BY_LOT,
    KNOWN,
    decided_by,
    decided_by_class,
    design_effect,
    set_class_apart,
    thresholds,
    unknown,
)
from trm_jax.wafer.maps.wafers import CLASSES


def draws_of(pooled):
    return metrics.resample(len(np.unique(pooled.group)), samples=200)


def test_of_each_class_the_decided_and_the_wrong_are_counted(pooled):
    chosen = np.random.default_rng(0).random(pooled.logits.shape[:1] + pooled.truth.shape) < 0.5
    wrong = pooled.logits[:, 2].argmax(axis=-1) != pooled.truth
    by_class = decided_by_class(chosen, pooled, draws_of(pooled))
    assert set(by_class) == set(range(len(CLASSES)))
    label = CLASSES.index("Scratch")
    tested = pooled.truth == label
    assert by_class[label]["coverage"].value == pytest.approx(chosen[:, tested].mean())
    expected = np.mean([wrong[s, tested][chosen[s, tested]].mean() for s in range(len(chosen))])
    assert by_class[label]["errors"].value == pytest.approx(expected) and expected > 0


def test_thresholds_come_from_validation_and_are_judged_on_test(used, pooled):
    coarse = replace(WAFERS, group=(WAFERS.row // 50).astype(np.int32))  # two lots a group
    table = thresholds(used, coarse, pooled, 0.5, 0.5)
    assert len(table) == 2 * 4 * 2
    fold, seed = 2, 1
    validation = used[fold].validation
    shares = softmax(validation.logits[seed, 2] / pooled.temperature[seed, fold], axis=1)
    correct = shares.argmax(axis=1) == WAFERS.label[validation.index]
    rows = table[(table["split"] == "lot-2") & (table["seed"] == seed)].set_index("rule")
    for rule, size in ((BY_LOT, 25), (BY_BLOCK, 50)):
        expected = guaranteed_threshold(shares.max(axis=1), correct, WAFERS.row[validation.index] // size, 0.5, 0.5)
        assert rows.loc[rule, "threshold"] == pytest.approx(expected if expected else np.nan, nan_ok=True)
    row = rows.loc[BY_LOT]
    test, tested = pooled.probabilities(3)[seed], pooled.fold == fold
    decided = test.max(axis=1) >= row["threshold"]
    assert row["coverage"] == pytest.approx(decided[tested].mean()) and row["coverage"] > 0.1
    wrong = test.argmax(axis=1) != pooled.truth
    assert row["wrong"] == pytest.approx((wrong & decided)[tested].mean())
    assert row["errors"] == pytest.approx(wrong[tested & decided].mean())
    mask = decided_by(BY_LOT, table, used, pooled)
    np.testing.assert_array_equal(mask[seed, tested], decided[tested])
    assert not decided_by(BY_LOT, table.assign(threshold=np.nan), used, pooled).any()
    sure = pooled.probabilities(3).max(axis=-1)[seed, np.flatnonzero(tested)[0]]  # equal to a limit: decided
    assert decided_by(BY_LOT, table.assign(threshold=sure), used, pooled)[seed, np.flatnonzero(tested)[0]]
    all_shares = selective.shares(mask, pooled, draws_of(pooled))
    assert all_shares["coverage"].value == pytest.approx(mask.mean())
    assert all_shares["wrong"].value == pytest.approx((mask & pooled.wrong()).mean())


def test_a_wafer_whose_confidence_equals_the_threshold_is_decided(used, pooled, monkeypatch):
    sure = pooled.probabilities(3).max(axis=-1)[0, pooled.fold == 0]
    monkeypatch.setattr(selective, "guaranteed_threshold", lambda *_: float(sure.max()))
    table = thresholds(used[:1], WAFERS, pooled, 0.5, 0.5)
    assert table["coverage"].iloc[0] == (sure == sure.max()).mean() > 0


def test_errors_that_come_in_groups_are_noticed():
    wafers = replace(WAFERS, group=(WAFERS.row // 250).astype(np.int32))
    rng, index = np.random.default_rng(0), np.arange(len(WAFERS))

    def ratio(wrong):
        answer = np.where(wrong, (WAFERS.label + 1) % 9, WAFERS.label)
        logits = np.eye(9)[answer][None, None]
        fold = np.zeros(len(index), int)
        truth = WAFERS.label.astype(int)
        pooled = Pooled(index, truth, wafers.group, fold, logits, logits[..., 0], np.ones((1, 1)), 1)
        return design_effect(pooled, wafers)

    assert np.mean([ratio(rng.random(len(index)) < 0.1) for _ in range(40)]) == pytest.approx(1, abs=0.35)
    assert ratio(wafers.group == 2) > 4


def test_unknown_patterns_get_an_area_for_every_split_seed_and_score(used, pooled):
    table = unknown(used, pooled)
    assert len(table) == 4 * 2 * 4 * 2 and set(table["unknown"]) == {"mixes"}
    rows = table[(table["split"] == "lot-1") & (table["seed"] == 1) & (table["score"] == "energy")]
    tested, mixes = pooled.fold == 1, used[1].unknown["mixes"].logits[1, 2]
    new = -np.log(np.exp(mixes.astype(float)).sum(axis=1))
    patterned = tested & (pooled.truth != CLASSES.index("none"))
    for known, mask in zip(KNOWN, (tested, patterned), strict=True):
        old = -np.log(np.exp(pooled.logits[1, 2, mask].astype(float)).sum(axis=1))
        expected = roc_auc_score([0] * len(old) + [1] * len(new), [*old, *new])
        assert rows.loc[rows["known"] == known, "auroc"].item() == pytest.approx(expected)


def test_a_class_left_out_becomes_the_unknown_one(used):
    label = CLASSES.index("Donut")
    moved = set_class_apart(used, WAFERS, label)
    for before, after in zip(used, moved, strict=True):
        (name, answers), = after.unknown.items()  # fmt: skip
        assert "Donut" in name and (WAFERS.label[answers.index] == label).all()
        assert sorted([*after.test.index, *answers.index]) == before.test.index.tolist()
        np.testing.assert_array_equal(
            answers.logits, before.test.logits[:, :, WAFERS.label[before.test.index] == label]
        )
