"""Statistics of a study with a handful of seeds: intervals, and paired differences between arms.

Arms are trained with the same seeds and the same data order, so an arm is compared with the reference arm seed by
seed. One rule decides, everything else is shown beside it:

- **Decision**: two-sided paired t test, Holm-corrected over the arms of a study, and a bootstrap interval that
  excludes zero. With 5 seeds a sign-flip test can never reach p = 0.05, and percentile or BCa bootstrap intervals
  miss the truth about 15 to 20 % of the time; the t test keeps its level, on skewed accuracies too, since the
  difference of two equal arms is symmetric. The tests simulate all of this. Not covered: an arm with the same mean
  but another shape, say one that collapses in a rare seed. Too few seeds cannot show that, so look at every one.
- **Spread**: scores are shares of a finite set of test examples, so the spread of differences is never taken as less
  than one example (``resolution``). An arm that is worse by the same amount in every seed is thereby judged by how
  that amount compares with an example, not by a division by zero.
- **Found again**: a difference that rests on one set of seeds may be that set's. The first and the second half of the
  seeds are each tested alone, and the report says whether both find it.
- **A single shared seed** decides nothing: p is NaN and the interval is infinite.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from trm_jax.reporting.interval import Interval
from trm_jax.support.holm import holm

RESAMPLES = 9999


@dataclass(frozen=True)
class Comparison:
    """An arm against the reference arm over the seeds they share; differences are arm minus reference."""

    arm: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    """One per shared seed, in the order of ``seeds``."""
    interval: Interval
    """Student's t interval of the mean difference, not corrected for the number of arms."""
    bootstrap: Interval
    """Expanded percentile bootstrap interval of the mean difference."""
    effect: float
    """Paired effect size, see ``hedges``."""
    p: float
    """Two-sided paired t test; NaN for a single seed."""
    p_holm: float
    """p corrected for all arms of the study."""
    detectable: float
    """Smallest true difference that would be found with 80 % power at this number of seeds and this spread."""
    detected: bool
    """The decision: ``p_holm`` is at most alpha and the bootstrap interval excludes zero."""
    replicated: bool | None = None
    """Whether the first and the second half of the seeds each find it: p at most alpha in the same direction. None for
    fewer than six seeds."""


class Agreement(NamedTuple):
    """How far two rankings agree."""

    tau: float
    """Kendall's tau-b: 1 for the same order, -1 for the reverse; NaN where it is undefined."""
    p: float
    """Probability of a tau at least as far from zero if the rankings had nothing to do with each other."""
    names: tuple[str, ...]
    """The names that both rankings have."""


def mean_interval(values, confidence: float = 0.95, min_spread: float = 0.0) -> Interval:
    """Mean of independent values with Student's t interval; one value has the interval (-inf, inf).

    The standard deviation of the values is taken as ``min_spread`` where it is smaller.
    Raises ValueError for no values, or for one that is not finite.
    """
    values = _finite(values)
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, -np.inf, np.inf)
    spread = max(float(values.std(ddof=1)), min_spread)
    margin = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * spread / math.sqrt(len(values)))
    return Interval(mean, mean - margin, mean + margin)


def bootstrap_interval(values, confidence: float = 0.95, resamples: int = RESAMPLES) -> Interval:
    """Expanded percentile bootstrap interval of a mean; one value has the interval (-inf, inf).

    Plain percentiles are too narrow in small samples; they are moved out as far as Student's t and the factor
    n / (n - 1) ask for (Hesterberg, "What Teachers Should Know about the Bootstrap", arXiv 1411.5279). The interval
    cannot leave the range of the values: with 5 of them it covers the mean at most 94 % of the time, with fewer than
    5 it is nearly that range. Seeded, so the same values give the same interval.
    Raises ValueError for no values, or for one that is not finite.
    """
    values = _finite(values)
    count, mean = len(values), float(values.mean())
    if count == 1:
        return Interval(mean, -np.inf, np.inf)
    quantile = stats.t.ppf(0.5 + confidence / 2, count - 1) * math.sqrt(count / (count - 1))
    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        confidence_level=float(1 - 2 * stats.norm.sf(quantile)),
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return Interval(mean, float(result.confidence_interval.low), float(result.confidence_interval.high))


def hedges(differences, min_spread: float = 0.0) -> float:
    """Effect size of paired differences: their mean over their standard deviation, times Hedges' small-sample factor.

    It says by how many standard deviations of the seed-to-seed difference an arm lies off the reference (Cohen's d_z,
    which is not comparable with a d between independent groups). Uncorrected it is too large on average: by 25 %
    with 5 seeds. NaN for fewer than 3 differences, and for equal ones with no ``min_spread``.
    """
    differences = _finite(differences)
    freedom = len(differences) - 1
    if freedom < 2:
        return math.nan
    spread = max(float(differences.std(ddof=1)), min_spread)
    correction = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    return float(differences.mean()) / spread * correction if spread > 0 else math.nan


def detectable_difference(
    seeds: int, spread: float, comparisons: int = 1, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Smallest true difference that the decision finds with this power, for differences with this spread.

    Counts on the first, strictest step of Holm's correction, alpha / comparisons, so it holds for an arm whatever the
    others do. Infinite for a single seed. ``spread`` is usually estimated from those few seeds and shares their error.
    """
    if seeds < 2:
        return math.inf
    return _standard_detectable(seeds, alpha / comparisons, power) * spread / math.sqrt(seeds)


@functools.cache
def _standard_detectable(seeds: int, alpha: float, power: float) -> float:
    """Noncentrality at which the t test has this power; the tail of the wrong sign is left out."""
    freedom = seeds - 1
    critical = stats.t.isf(alpha / 2, freedom)
    return float(optimize.brentq(lambda shift: stats.nct.sf(critical, freedom, shift) - power, 0, 4 * critical + 10))


def compare_arms(
    scores: Mapping[str, Mapping[int, float]],
    reference: str,
    *,
    resolution: float = 1e-3,
    alpha: float = 0.05,
    resamples: int = RESAMPLES,
) -> dict[str, Comparison]:
    """Compare every other arm with the reference arm over shared seeds; the decisions are Holm-corrected together.

    ``scores`` holds a score per seed for every arm. ``resolution`` is the smallest difference a score can show, 1 /
    test examples: the spread of differences is never taken as smaller.
    Raises ValueError for an unknown reference, an arm that shares no seed with it, a score that is not finite, or a
    resolution that is not positive.
    """
    if reference not in scores:
        raise ValueError(f"no reference arm {reference!r}; there are {', '.join(scores)}")
    if not resolution > 0:
        raise ValueError(f"resolution must be positive, got {resolution}")
    base = scores[reference]
    shared = {arm: tuple(sorted(base.keys() & values)) for arm, values in scores.items() if arm != reference}
    unpaired = [arm for arm, seeds in shared.items() if not seeds]
    if unpaired:
        raise ValueError(f"no seed shared with {reference!r} by {', '.join(unpaired)}")
    differences = {arm: _finite([scores[arm][s] - base[s] for s in seeds]) for arm, seeds in shared.items()}
    p_values = [_paired_t(values, resolution) for values in differences.values()]
    tested = sum(not math.isnan(p) for p in p_values)
    comparisons = {}
    for (arm, values), p, p_holm in zip(differences.items(), p_values, holm(p_values).tolist(), strict=True):
        bootstrap = bootstrap_interval(values, 1 - alpha, resamples)
        comparisons[arm] = Comparison(
            arm=arm,
            seeds=shared[arm],
            differences=tuple(values.tolist()),
            interval=mean_interval(values, 1 - alpha, resolution),
            bootstrap=bootstrap,
            effect=hedges(values, resolution),
            p=p,
            p_holm=p_holm,
            detectable=detectable_difference(len(values), _spread(values, resolution), max(1, tested), alpha),
            detected=p_holm <= alpha and not bootstrap.covers_zero,
            replicated=_replicated(values, resolution, alpha),
        )
    return comparisons


def rank_agreement(first: Mapping[str, float], second: Mapping[str, float]) -> Agreement:
    """Kendall's tau-b between two rankings given as sizes by name, over the names that both hold.

    NaN for fewer than two shared names, or where either gives all of them the same size.
    """
    names = tuple(name for name in first if name in second)
    if len(names) < 2:
        return Agreement(math.nan, math.nan, names)
    result = stats.kendalltau([first[name] for name in names], [second[name] for name in names])
    return Agreement(float(result.statistic), float(result.pvalue), names)


def _paired_t(differences: np.ndarray, resolution: float) -> float:
    """p of ``scipy.stats.ttest_rel``, with a floor under the spread."""
    count = len(differences)
    if count < 2:
        return math.nan
    statistic = abs(differences.mean()) / (_spread(differences, resolution) / math.sqrt(count))
    return float(2 * stats.t.sf(statistic, count - 1))


def _replicated(differences: np.ndarray, resolution: float, alpha: float) -> bool | None:
    halves = np.array_split(differences, 2)
    if min(map(len, halves)) < 3:
        return None
    same = np.sign(halves[0].mean()) == np.sign(halves[1].mean())
    return bool(same and all(_paired_t(half, resolution) <= alpha for half in halves))


def _spread(differences: np.ndarray, resolution: float) -> float:
    return max(float(differences.std(ddof=1)), resolution) if len(differences) > 1 else resolution


def _finite(values) -> np.ndarray:
    values = np.asarray(values, float)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"an interval needs finite values, got {values.tolist()}")
    return values
