"""The interval of a mean: equal to scipy, and right as often as it says."""

import numpy as np
import pytest
from scipy import stats

from trm_jax.study.statistics import mean_interval


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("count", [2, 3, 6, 40])
def test_interval_equals_scipy(count, confidence):
    values = np.random.default_rng(count).normal(0.8, 0.1, count)
    found = mean_interval(values.tolist(), confidence)
    low, high = stats.t.interval(confidence, count - 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose(found, (values.mean(), low, high), rtol=1e-12)


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
def test_values_that_are_no_numbers_are_refused(values):
    with pytest.raises(ValueError, match="needs finite values"):
        mean_interval(values)
