"""The report on wafer classifiers: computed tables, and sentences that follow the numbers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from trm_jax.wafer.baselines.report import BaselineResult, write_report
from trm_jax.wafer.evaluation.metrics import WM811K_LABELLED, WM811K_NONE
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.splits import folds

WAFERS = synthetic_wafers(1200)
SPLITS = folds(WAFERS)
INDEX = np.concatenate([split.test for split in SPLITS])
TRUTH = WAFERS.label[INDEX]


def answers(wrong_share, seed=0):
    """A classifier that is sure and wrong in a share of the cases."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(TRUTH)) < wrong_share
    shown = np.where(wrong, rng.integers(0, len(CLASSES), len(TRUTH)), TRUTH)
    return BaselineResult(np.eye(len(CLASSES), dtype=np.float32)[shown], 1234, 5.0, 0.25)


def test_the_numbers_are_those_of_scikit_learn(tmp_path):
    results = {"good": answers(0.1), "bad": answers(0.5, seed=1)}
    shown = write_report(tmp_path, results, WAFERS, SPLITS, "lot", {"command": "python x.py"})
    table = pd.read_csv(tmp_path / "results.csv")
    for name, result in results.items():
        predicted = result.probabilities.argmax(axis=1)
        rows = table[(table["model"] == name) & (table["split"] == "all")].set_index("score")
        assert rows.loc["macro_f1", "value"] == pytest.approx(f1_score(TRUTH, predicted, average="macro"))
        assert rows.loc["f1_Scratch", "value"] == pytest.approx(
            f1_score(TRUTH, predicted, average=None)[CLASSES.index("Scratch")]
        )
        assert rows.loc["parameters", "value"] == 1234
        by_fold = table[(table["model"] == name) & (table["split"] == "lot-2") & (table["score"] == "macro_f1")]
        at = np.isin(INDEX, SPLITS[2].test)
        assert by_fold["value"].item() == pytest.approx(f1_score(TRUTH[at], predicted[at], average="macro"))
    assert "good" in shown and "1,234" in shown and "0.25" in shown
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "macro_f1.svg", "f1_by_class.svg", "confusion.svg"
    }  # fmt: skip


def test_sentences_follow_the_numbers(tmp_path):
    write_report(tmp_path, {"a": answers(0.5), "b": answers(0.1, 1)}, WAFERS, SPLITS, "lot", {})
    text = (tmp_path / "report.md").read_text()
    assert "`b` is better than `a`" in text and "synthetic" in text.splitlines()[0]
    write_report(tmp_path, {"a": answers(0.3), "b": answers(0.3, 1)}, WAFERS, SPLITS, "random", {})
    text = (tmp_path / "report.md").read_text()
    assert "is not shown to be better than" in text and "is better than" not in text
    assert "on both sides of a split, which flatters" in text


def test_another_class_mix_changes_accuracy_as_it_must(tmp_path):
    """Wrong on every `none` and right on all else: accuracy falls to the share of the others in all of WM-811K."""
    none = CLASSES.index("none")
    shown = np.where(none == TRUTH, 0, TRUTH)
    result = BaselineResult(np.eye(len(CLASSES), dtype=np.float32)[shown], 0, 0.0, 0.0)
    write_report(tmp_path, {"blind": result}, WAFERS, SPLITS, "lot", {})
    expected = 1 - WM811K_NONE / WM811K_LABELLED
    assert f"(85.2%): accuracy {expected:.3f}" in (tmp_path / "report.md").read_text()
