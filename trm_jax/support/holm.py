"""Holm's correction for several tests at once, for devices too."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """p values (N,) after Holm's step-down correction: at most alpha of all families report any difference by chance.

    A p that is NaN was not tested: it stays NaN and does not count as a member of the family.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN comes last
    corrected = np.full_like(p, np.nan)
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.maximum.accumulate(np.minimum(factors * p[order], 1.0))
    return corrected
