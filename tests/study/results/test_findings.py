"""Every sentence about an effect is a decision, and nothing else is."""

import re

import numpy as np
import pandas as pd
from fake_study import SIX_ARMS

from trm_jax.reporting.interval import Interval
from trm_jax.study.results import findings, tables
from trm_jax.study.results.published import TINY_RECURSIVE_MODELS as PAPER
from trm_jax.study.statistics import Comparison, compare_arms

EFFECT = re.compile(r"scores [\d.]+ points (lower|higher)")


def test_every_effect_in_the_text_is_a_decision_and_every_interval_over_zero_is_none() -> None:
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        seeds, size = int(random.integers(2, 8)), random.choice([0.0, 0.02, 0.1])
        scores = {arm: dict(enumerate(0.8 + 0.02 * random.normal(size=seeds))) for arm in SIX_ARMS}
        scores["no_z"] = {seed: value - size for seed, value in scores["no_z"].items()}
        compared = compare_arms(scores, "full", resamples=999)
        headline = findings.headline(list(compared.values()), "full")
        for arm, comparison in compared.items():
            sentence = findings.effect(comparison, "full", 5) + findings.against_paper(comparison, PAPER)
            covered = comparison.interval.covers_zero or comparison.bootstrap.covers_zero or comparison.p_holm > 0.05
            assert comparison.detected == (not covered)
            assert (findings.NONE in sentence) == covered
            assert bool(EFFECT.search(sentence)) == comparison.detected
            assert (f"`{arm}` (" in headline) == comparison.detected
            if comparison.detected:
                assert EFFECT.search(sentence)[1] == ("lower" if comparison.interval.value < 0 else "higher")
            else:
                assert "same direction" not in sentence and "contradicts" not in sentence
            seen.add((comparison.detected, covered))
    assert seen == {(True, False), (False, True)}


def test_an_interval_that_loses_to_the_correction_or_to_the_bootstrap_is_explained() -> None:
    comparison = Comparison(
        arm="no_ema",
        seeds=(0, 1, 2, 3, 4),
        differences=(-0.01, -0.02, -0.03, -0.02, -0.01),
        interval=Interval(-0.018, -0.028, -0.008),
        bootstrap=Interval(-0.018, -0.025, -0.01),
        effect=-1.7,
        p=0.012,
        p_holm=0.06,
        detectable=0.03,
        detected=False,
    )
    assert findings.effect(comparison, "full", 5).replace("\N{MINUS SIGN}", "-") == (
        "`no_ema`: no difference detected (mean difference -1.8 points; 95 % interval -2.8 to -0.8, Holm-corrected p "
        "0.060, 5 seeds). Its own interval excludes zero; the correction for 5 arms does not let that count. The "
        "smallest difference that this comparison finds with 80 % probability is 3.0 points."
    )
    assert findings.against_paper(comparison, PAPER).replace("\N{MINUS SIGN}", "-") == (
        'The paper reports -7.5 points for "no EMA" (Sudoku-Extreme, single run): this study does not confirm that; a '
        "difference of that size would probably have been found here."
    )
    scores = {"full": dict.fromkeys(range(5), 0.5), "no_ema": dict(enumerate([0.52, 0.52, 0.52, 0.52, 0.494]))}
    sentence = findings.effect(compare_arms(scores, "full")["no_ema"], "full", 1).replace("\N{MINUS SIGN}", "-")
    assert (
        "p 0.047, 5 seeds). That interval excludes zero, the bootstrap interval, -0.08 to +2.0, does not." in sentence
    )


def test_published_table_is_in_points_of_the_reference() -> None:
    assert PAPER.difference(PAPER.lookup("no_ema")) == -0.075
    assert PAPER.lookup("no_z") is PAPER.lookup("single_z")
    assert PAPER.lookup("stop_gradient") is None and PAPER.lookup("full") is None
    arms = [arm for row in PAPER.rows for arm in row.arms]
    assert len(set(arms)) == len(arms)


def test_a_loss_by_the_best_checkpoint_is_named_before_a_smaller_gain() -> None:
    rows = pd.DataFrame({"arm": ["a", "b"], "exact": [0.8, 0.9], "best_exact": [0.81, 0.87]})
    assert findings.best_checkpoints(rows, {}, {}) == [
        "Choosing the best checkpoint on validation changes the mean of an arm by at most 3.0 points "
        "(`b`: \N{MINUS SIGN}3.0)."
    ]


def test_the_interval_of_an_arm_is_cut_at_0_and_100_percent() -> None:
    rows = pd.DataFrame({"arm": ["a", "a", "b", "b"], "exact": [0.9, 1.0, 0.0, 0.1], "best_exact": 0.5})
    assert tables.accuracy_table(rows)["95 % interval"].tolist() == ["31.5 to 100.0", "0.0 to 68.5"]
    rows = rows.assign(parameters=1, flops=1.0)
    overview = tables.overview_table({"9": (rows, [])}, findings.Wording("puzzle", "puzzles"))
    assert overview["9"].tolist() == ["95.0 (31.5 to 100.0)", "5.0 (0.0 to 68.5)"]
