"""A measured value with its interval, and how both are written."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A value and its 95 % interval; the ends are infinite where nothing is known of them."""

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether the interval has ends."""
        return math.isfinite(self.low)

    @property
    def covers_zero(self) -> bool:
        """Whether zero lies in the interval, its ends included."""
        return self.low <= 0 <= self.high

    @property
    def percent(self) -> "Interval":
        """The same of a share, in percent."""
        return Interval(*(100 * number for number in self))

    @property
    def clipped(self) -> "Interval":
        """The interval of a share, cut at 0 and 1; the value alone where the ends are not known."""
        low, high = (self.low, self.high) if self.known else (self.value, self.value)
        return Interval(self.value, max(0.0, low), min(1.0, high))

    def ends(self, write: Callable[[float], str]) -> str:
        """Both ends, each as ``write`` puts it, or "none"."""
        return f"{write(self.low)} to {write(self.high)}" if self.known else "none"

    def __format__(self, spec: str) -> str:
        """Value and ends, such as "0.967 (0.958 to 0.975)", each number by ``spec`` (three decimals if not given)."""
        value, ends = format(self.value, spec or ".3f"), self.ends(lambda end: format(end, spec or ".3f"))
        return f"{value} ({ends})" if self.known else value

    def __str__(self) -> str:
        return format(self, "")


def quantile_interval(values: np.ndarray) -> Interval:
    """The first of the values with the range of the middle 95 % of the others, its bootstrap resamples."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))


def wilson(right: int, count: int) -> Interval:
    """Share with its 95 % interval by Wilson's score (1927)."""
    from scipy.stats import binomtest  # slow to import

    ends = binomtest(right, count).proportion_ci(method="wilson")
    return Interval(right / count, float(ends.low), float(ends.high))


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    text = magnitude(share)
    sign = "" if float(text) == 0 else "\N{MINUS SIGN}" if share < 0 else "+"
    return sign + text


def magnitude(share: float) -> str:
    """The size of a difference of shares in percentage points, with two decimals where one would show nothing."""
    value = abs(100 * share)
    return f"{value:.1f}" if value >= 0.1 or value < 0.005 else f"{value:.2f}"
