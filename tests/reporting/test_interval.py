"""Intervals and differences are written as reports show them."""

import math

import numpy as np
import pytest

from trm_jax.reporting.interval import Interval, magnitude, points, quantile_interval


def test_an_interval_is_written_with_its_ends_where_they_are_known():
    interval = Interval(0.91234, 0.9, 0.95)
    assert str(interval) == f"{interval}" == "0.912 (0.900 to 0.950)"
    assert f"{interval.percent:.0f}" == "91 (90 to 95)" and f"{interval:+.2f}" == "+0.91 (+0.90 to +0.95)"
    unknown = Interval(0.5, -math.inf, math.inf)
    assert str(unknown) == "0.500" and unknown.ends(str) == "none" and not unknown.known
    assert unknown.clipped == (0.5, 0.5, 0.5) and Interval(0.98, 0.9, 1.1).clipped == (0.98, 0.9, 1.0)


def test_zero_at_an_end_is_covered():
    assert Interval(0.1, 0.0, 0.2).covers_zero and not Interval(0.1, 0.01, 0.2).covers_zero
    assert Interval(-0.1, -0.2, 0.0).covers_zero and not Interval(-0.1, -0.2, -0.01).covers_zero


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.123, "+12.3"), (-0.0004, "-0.04"), (0.0, "0.0"), (-0.00001, "0.0"), (-0.0099, "-1.0")],
)
def test_differences_have_a_sign_and_two_decimals_where_one_shows_nothing(share, text):
    assert points(share).replace("\N{MINUS SIGN}", "-") == text
    assert magnitude(share) == text.lstrip("+-")


def test_the_quantile_interval_is_the_middle_of_the_resamples():
    assert quantile_interval(np.r_[7.0, np.arange(101)]) == (7.0, 2.5, 97.5)
