"""The decision rule of a study keeps what it promises: known data, hand examples, and simulated studies.

The simulations are the proof: equal arms are told apart in at most 5 % of studies, also with skewed accuracies and
for six arms together, and a difference of the stated smallest size is found with the stated power.
"""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from trm_jax.study.statistics import (
    bootstrap_interval,
    compare_arms,
    detectable_difference,
    hedges,
    mean_interval,
    rank_agreement,
)

# Hours of sleep gained with two drugs by ten patients (Student, "The Probable Error of a Mean", 1908).
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
STUDIES = 600
# A count of false reports that a rule with a true rate of 5 % exceeds in one of a hundred simulations.
MOST_FALSE = stats.binom.ppf(0.99, STUDIES, 0.05)


def by_seed(**arms) -> dict[str, dict[int, float]]:
    return {arm: dict(enumerate(map(float, scores))) for arm, scores in arms.items()}


def normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 0.9 + 0.02 * random.normal(size=shape)


def skewed(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Share of 1,000 puzzles solved near the ceiling: a long tail to the left, none above 1."""
    return random.binomial(1000, random.beta(12, 0.6, size=shape)) / 1000


def detections(scores: np.ndarray) -> np.ndarray:
    """Decisions (studies, arms - 1) for scores (studies, arms, seeds); arm 0 is the reference."""
    decisions = []
    for study in scores:
        arms = {f"arm{i}": dict(enumerate(values)) for i, values in enumerate(study)}
        decisions.append([c.detected for c in compare_arms(arms, "arm0", resamples=999).values()])
    return np.array(decisions)


def test_comparison_agrees_with_scipy_and_with_the_published_sleep_data() -> None:
    comparison = compare_arms(by_seed(first=DRUG_1, second=DRUG_2), "first")["second"]
    known = stats.ttest_rel(DRUG_2, DRUG_1)
    interval = known.confidence_interval(0.95)
    assert comparison.interval == pytest.approx((1.58, interval.low, interval.high))
    assert comparison.p == comparison.p_holm == pytest.approx(known.pvalue) == pytest.approx(0.002833, abs=1e-6)
    assert comparison.interval[1:] == pytest.approx((0.7001142, 2.4598858), abs=1e-7)
    assert comparison.detected and comparison.seeds == tuple(range(10))
    mean, spread = np.mean(comparison.differences), np.std(comparison.differences, ddof=1)
    assert comparison.effect == pytest.approx(mean / spread * (1 - 3 / (4 * 9 - 1)), rel=1e-3)


def test_bootstrap_interval_is_scipys_with_percentiles_moved_out() -> None:
    values = np.subtract(DRUG_2, DRUG_1)
    interval = bootstrap_interval(values)
    plain = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    assert interval.low < plain.low < values.mean() < plain.high < interval.high
    share = 2 * stats.norm.cdf(stats.t.ppf(0.975, 9) * math.sqrt(10 / 9)) - 1
    wider = stats.bootstrap(
        (values,), np.mean, method="percentile", confidence_level=share, rng=np.random.default_rng(0)
    ).confidence_interval
    assert interval == pytest.approx((values.mean(), wider.low, wider.high))
    assert interval == bootstrap_interval(values)
    assert bootstrap_interval([0.3, 0.1]) == pytest.approx((0.2, 0.1, 0.3))


@pytest.mark.parametrize("seeds", [5, 6])
def test_expanded_bootstrap_covers_better_than_percentile_and_bca(seeds: int) -> None:
    samples = np.random.default_rng(0).normal(size=(400, seeds))
    missed = {"expanded": np.mean([not bootstrap_interval(sample, resamples=999).covers_zero for sample in samples])}
    for method in ("percentile", "BCa"):
        interval = stats.bootstrap(
            (samples,), np.mean, axis=-1, n_resamples=999, method=method, rng=np.random.default_rng(0)
        ).confidence_interval
        missed[method] = np.mean((interval.low > 0) | (interval.high < 0))
    assert missed["expanded"] < 0.11
    assert missed["percentile"] > 0.11 and missed["BCa"] > 0.11


def test_hedges_undoes_the_bias_of_a_small_sample() -> None:
    differences = np.random.default_rng(0).normal(1.0, 1.0, size=(20_000, 5))
    plain = (differences.mean(axis=1) / differences.std(axis=1, ddof=1)).mean()
    assert plain == pytest.approx(1.25, abs=0.03)
    assert np.mean([hedges(d) for d in differences[:5000]]) == pytest.approx(1.0, abs=0.03)
    assert math.isnan(hedges([1.0, 2.0])) and math.isnan(hedges([1.0, 1.0, 1.0]))


def test_rank_agreement_by_hand_and_by_scipy() -> None:
    ours = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0, "only here": 9.0}
    swapped = {"only there": 1.0, "a": 9.0, "c": 8.0, "b": 7.0, "d": 6.0}  # one of six pairs is discordant
    agreement = rank_agreement(ours, swapped)
    assert agreement.names == ("a", "b", "c", "d")
    assert agreement.tau == pytest.approx((5 - 1) / 6)
    assert agreement.p == pytest.approx(stats.kendalltau([4, 3, 2, 1], [9, 7, 8, 6]).pvalue)
    assert rank_agreement(ours, {"a": 1, "b": 2, "c": 3, "d": 4}).tau == pytest.approx(-1)
    assert rank_agreement(ours, {"a": 2, "b": 2, "c": 1}).tau == pytest.approx(2 / math.sqrt(6))
    assert math.isnan(rank_agreement(ours, {"a": 1}).tau) and math.isnan(rank_agreement(ours, {"a": 1, "b": 1}).tau)


def test_equal_scores_are_no_difference() -> None:
    comparison = compare_arms(by_seed(full=[0.9, 0.8, 0.7], same=[0.9, 0.8, 0.7]), "full")["same"]
    assert comparison.p == comparison.p_holm == 1.0
    assert comparison.effect == 0 and not comparison.detected
    assert comparison.interval.covers_zero and comparison.bootstrap == (0, 0, 0)


def test_the_same_difference_in_every_seed_is_judged_against_one_puzzle() -> None:
    scores = by_seed(full=[1.0] * 5, broken=[0.0] * 5, one_puzzle=[0.999] * 5)
    compared = compare_arms(scores, "full", resolution=1e-3)
    assert compared["broken"].detected and compared["broken"].p_holm < 1e-9
    assert not compared["one_puzzle"].detected and compared["one_puzzle"].p == pytest.approx(
        2 * stats.t.sf(math.sqrt(5), 4), rel=1e-6
    )
    assert compare_arms(scores, "full", resolution=1e-5)["one_puzzle"].detected
    # The limit is continuous: rounding in the last place changes nothing.
    nearly = by_seed(full=[1.0] * 5, one_puzzle=[0.999, 0.999, 0.999, 0.999, 0.999 + 1e-12])
    assert compare_arms(nearly, "full")["one_puzzle"].p == pytest.approx(compared["one_puzzle"].p)


def test_one_contrary_seed_of_five_keeps_a_borderline_p_from_counting() -> None:
    comparison = compare_arms(by_seed(full=[0.0] * 5, other=[0.02, 0.02, 0.02, 0.02, -0.006]), "full")["other"]
    assert comparison.p_holm < 0.05 and not comparison.interval.covers_zero
    assert comparison.bootstrap.covers_zero and not comparison.detected


def test_a_single_seed_decides_nothing() -> None:
    comparison = compare_arms(by_seed(full=[0.9], broken=[0.0]), "full")["broken"]
    assert math.isnan(comparison.p) and math.isnan(comparison.p_holm) and math.isnan(comparison.effect)
    assert comparison.interval == comparison.bootstrap == (-0.9, -math.inf, math.inf)
    assert comparison.detectable == math.inf and not comparison.detected


def test_arms_are_paired_by_seed_over_the_seeds_they_share() -> None:
    scores = {"full": {3: 0.9, 1: 0.5, 2: 0.7}, "other": {2: 0.6, 1: 0.4, 3: 0.8, 9: 0.0}, "late": {3: 0.9}}
    compared = compare_arms(scores, "full")
    assert compared["other"].seeds == (1, 2, 3) and compared["other"].differences == pytest.approx((-0.1, -0.1, -0.1))
    assert compared["late"].seeds == (3,) and math.isnan(compared["late"].p)
    assert (
        compared["other"].p_holm == compared["other"].p
    )  # an arm that cannot be tested does not cost the others anything


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="no reference arm 'best'; there are full, other"):
        compare_arms(by_seed(full=[1.0], other=[1.0]), "best")
    with pytest.raises(ValueError, match="no seed shared with 'full' by other"):
        compare_arms({"full": {0: 1.0}, "other": {1: 1.0}}, "full")
    with pytest.raises(ValueError, match="finite"):
        compare_arms(by_seed(full=[1.0, 0.9], other=[1.0, math.nan]), "full")
    with pytest.raises(ValueError, match="resolution must be positive"):
        compare_arms(by_seed(full=[1.0], other=[1.0]), "full", resolution=0.0)
    for interval in (mean_interval, bootstrap_interval):
        with pytest.raises(ValueError, match="finite"):
            interval([])


def test_detectable_difference_shrinks_with_seeds_and_grows_with_arms() -> None:
    sizes = [detectable_difference(seeds, 0.02) for seeds in (2, 5, 6, 16, 100)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == pytest.approx((1.96 + 0.842) * 0.02 / 10, rel=0.02)  # the normal limit
    assert detectable_difference(5, 0.02, comparisons=5) > detectable_difference(5, 0.02)
    assert detectable_difference(1, 0.02) == math.inf
    # What is stated is always more than what the same study would have reported.
    comparison = compare_arms(by_seed(full=DRUG_1, other=DRUG_2), "full")["other"]
    assert comparison.detectable > comparison.interval.high - comparison.interval.value


@pytest.mark.parametrize("seeds", [5, 6])
@pytest.mark.parametrize("noise", [normal, skewed])
def test_two_identical_arms_are_told_apart_in_at_most_5_percent_of_studies(seeds: int, noise) -> None:
    scores = noise(np.random.default_rng(seeds), (STUDIES, 2, seeds))
    assert detections(scores).sum() <= MOST_FALSE


def test_six_identical_arms_are_told_apart_in_at_most_5_percent_of_studies() -> None:
    scores = skewed(np.random.default_rng(0), (STUDIES, 6, 5))
    assert detections(scores).any(axis=1).sum() <= MOST_FALSE
    # The simulation can tell a bad rule: uncorrected t tests fail it.
    uncorrected = stats.ttest_rel(scores[:, 1:], scores[:, :1], axis=-1).pvalue <= 0.05
    assert uncorrected.any(axis=1).sum() > 1.5 * MOST_FALSE


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 6, 16])
@pytest.mark.parametrize("noise", [normal, skewed])
def test_six_identical_arms_at_other_numbers_of_seeds(seeds: int, noise) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = noise(np.random.default_rng(seeds), (STUDIES, 6, seeds))
        assert detections(scores).any(axis=1).sum() <= MOST_FALSE


@pytest.mark.parametrize(("seeds", "arms"), [(5, 2), (6, 2), pytest.param(6, 4, marks=pytest.mark.slow)])
def test_a_difference_of_the_stated_smallest_size_is_found_with_80_percent_power(seeds: int, arms: int) -> None:
    scores = normal(np.random.default_rng(seeds), (STUDIES, arms, seeds))
    scores[:, 1] -= detectable_difference(seeds, 0.02 * math.sqrt(2), comparisons=arms - 1)
    detected = detections(scores)[:, 0].mean()
    error = math.sqrt(0.8 * 0.2 / STUDIES)
    assert (
        0.8 - 3 * error <= detected <= 0.8 + 3 * error + (0.03 if arms > 2 else 0)
    )  # Holm is kinder than its first step


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("count", [2, 3, 6, 40])
def test_interval_equals_scipy(count, confidence):
    values = np.random.default_rng(count).normal(0.8, 0.1, count)
    interval = mean_interval(values.tolist(), confidence)
    low, high = stats.t.interval(confidence, count - 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose(interval, (values.mean(), low, high), rtol=1e-12)


def test_an_interval_is_one_of_95_percent_unless_said_otherwise() -> None:
    values = np.random.default_rng(0).normal(size=6)
    assert mean_interval(values) == mean_interval(values, 0.95) != mean_interval(values, 0.9)
    assert bootstrap_interval(values) == bootstrap_interval(values, 0.95) != bootstrap_interval(values, 0.9)
    compared = compare_arms({"full": dict(enumerate(0 * values)), "other": dict(enumerate(values))}, "full")["other"]
    assert compared.interval == mean_interval(values, 0.95)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("count", [3, 6])
def test_interval_covers_the_true_mean_as_often_as_it_says(count, confidence):
    samples = np.random.default_rng(0).normal(5.0, 2.0, (4000, count))
    intervals = [mean_interval(sample, confidence) for sample in samples]
    covered = np.mean([interval.low <= 5.0 <= interval.high for interval in intervals])
    # Four standard errors of a share of 4000.
    assert covered == pytest.approx(confidence, abs=4 * (confidence * (1 - confidence) / 4000) ** 0.5)


def test_one_value_says_nothing_of_its_spread():
    assert mean_interval([0.7]) == (0.7, -np.inf, np.inf)


@pytest.mark.parametrize("values", [[], [0.5, np.nan], [np.inf, 1.0]])
def test_values_that_are_not_finite_are_refused(values):
    with pytest.raises(ValueError, match="needs finite values"):
        mean_interval(values)


def test_a_difference_counts_as_found_again_when_both_halves_of_the_seeds_find_it():
    def replicated(differences):
        return compare_arms(by_seed(base=[0.5] * len(differences), arm=0.5 + np.array(differences)), "base")[
            "arm"
        ].replicated

    assert replicated([0.1, 0.11, 0.12, 0.09, 0.1, 0.12]) is True
    assert replicated([0.1, 0.11, 0.12, 0.3, -0.3, 0.1]) is False  # the second half does not
    assert replicated([0.1, 0.11, 0.12, -0.1, -0.11, -0.12]) is False  # opposite directions
    assert replicated([0.1, 0.11, 0.12, 0.09, 0.1]) is None
