"""Holm's correction by hand."""

import numpy as np
import pytest

from trm_jax.support.holm import holm


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_array_equal(holm([0.5, 0.6]), [1.0, 1.0])
    assert len(holm([])) == 0


def test_what_was_not_tested_stays_nan_and_costs_the_others_nothing():
    corrected = holm([0.02, np.nan, 0.03])
    assert corrected[[0, 2]] == pytest.approx([0.04, 0.04]) and np.isnan(corrected[1])
