"""Rows of results, and the figure of their ratios."""

import pytest

from trm_jax.benchmark import report, rows


def test_rows_hold_medians_ratios_per_round_and_shares_of_the_matrix_product():
    times = {"ours": [1.0, 2.0, 6.0], "eager": [2.0, 2.0, 3.0], "compiled": [1.0, 4.0, 2.0], "matrix": [0.5, 1.0, 2.0]}
    peers = {"eager": "PyTorch eager", "compiled": "PyTorch compiled"}
    eager, compiled = rows.make_rows("x", times, peers=peers, steps=4, flops=10**9, matrix_flops=8 * 10**9)
    assert (eager.ours_ms, eager.peer_ms, compiled.peer_ms) == (500, 500, 500)
    assert (eager.ratio, eager.ratio_low, eager.ratio_high) == (1.0, 0.5, 2.0)
    assert (compiled.ratio, compiled.ratio_low, compiled.ratio_high) == (1.0, 0.5, 3.0)
    assert eager.gflops == 4 / 2
    # 4 and 16, 2 and 8, 4/6 and 4 GFLOP/s
    assert (eager.share, eager.share_low) == (0.25, pytest.approx(1 / 6)) and eager.share_high == 0.25
    (alone,) = rows.make_rows("x", times, peers={})
    assert (alone.ours_ms, alone.peer, alone.ratio, alone.share) == (2000, "", None, None)


def test_the_figure_shows_every_ratio_beside_a_line_at_one():
    shown = [
        rows.Row(name, 1.0, peer, 2.0, ratio, ratio / 2, ratio * 2)
        for name, peer, ratio in (("a", "PyTorch eager", 0.5), ("a", "PyTorch compiled", 2.0), ("b", "", 9.0))
    ]
    (axes,) = report.ratio_figure(shown).axes
    drawn = [tuple(line.get_xdata()) for line in axes.lines]
    assert {(0.5,), (2.0,), (1, 1)} <= set(drawn) and not any(9.0 in data for data in drawn)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a"]
