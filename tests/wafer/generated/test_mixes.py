"""Mixed patterns: every failing die of both wafers, no die that the wafer does not have."""

import numpy as np
import pytest

from trm_jax.wafer.generated.mixes import PAIRS, mixed_wafers, overlay
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES, FAIL, NO_DIE, PASS, UNKNOWN

WAFERS = synthetic_wafers(1500)
ALL = np.arange(len(WAFERS))


def test_an_overlay_by_hand():
    first, second = np.array([[0, 1, 1, 2]]), np.array([[2, 1, 2, 0]])
    np.testing.assert_array_equal(overlay(first, second), [[NO_DIE, PASS, FAIL, FAIL]])
    with pytest.raises(ValueError, match="maps of the same size"):
        overlay(first, second.T)


def test_the_pairs_are_the_thirteen_of_mixedwm38():
    assert len(PAIRS) == 13 and not {"Near-full", "Random", "none"} & {name for pair in PAIRS for name in pair}


def test_mixes_hold_both_patterns_and_the_mask():
    mixes = mixed_wafers(WAFERS, ALL, 60, seed=3)
    assert len(mixes) == 60 and (mixes.label == UNKNOWN).all() and mixes.source.endswith(WAFERS.source)
    firsts = {int(row): index for index, row in enumerate(WAFERS.row)}
    classes = set()
    for index in range(60):
        first, mix = firsts[int(mixes.row[index])], mixes.map(index)
        before = WAFERS.map(first)
        np.testing.assert_array_equal(mix == NO_DIE, before == NO_DIE)
        assert (mix[before == FAIL] == FAIL).all() and (mix == FAIL).sum() > (before == FAIL).sum()
        classes.add(CLASSES[WAFERS.label[first]])
        same = [i for i in ALL if WAFERS.map(i).shape == mix.shape and WAFERS.label[i] != WAFERS.label[first]]
        assert any((overlay(before, WAFERS.map(i)) == mix).all() for i in same)
    assert len(classes) >= 5


def test_mixes_are_drawn_from_the_chosen_wafers_and_repeat_with_the_seed():
    chosen = ALL[WAFERS.fold == 2]
    first, again, other = (mixed_wafers(WAFERS, chosen, 40, seed) for seed in (1, 1, 2))
    assert (first.fold == 2).all()
    np.testing.assert_array_equal(first.flat, again.flat)
    assert first.flat.shape != other.flat.shape or (first.flat != other.flat).any()


def test_without_two_patterns_of_a_size_there_is_no_mix():
    with pytest.raises(ValueError, match="no two wafers of different patterns"):
        mixed_wafers(WAFERS, ALL[WAFERS.label == CLASSES.index("none")], 5)
