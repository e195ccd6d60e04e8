"""Figures show every seed and every arm, name their axes, and nothing written on them overlaps or is too small."""

import itertools
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from fake_study import SIX_ARMS, learning, study
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from trm_jax.reporting.style import BLACK, svg
from trm_jax.study.results import figures
from trm_jax.study.results.findings import Wording
from trm_jax.study.statistics import compare_arms

PUZZLES = Wording("puzzle", "puzzles")
TWELVE_ARMS = {
    "full": 0.92,
    "stop_gradient": 0.91,
    "attention_with_rotary_2d_positions": 0.80,
    "four_layers_less_recursion": 0.915,
    "no_z": 0.0,
    "no_ema": 0.919,
    "one_step_gradient_as_in_hrm": 0.919,
    "separate_nets_for_z_and_y": 0.90,
    "single_latent_state_and_no_answer": 0.918,
    "continue_loss": 0.92,
    "T2_n2": 0.917,
    "width_48_with_three_heads_and_more": 1.0,
}
COUNTS = {"four_layers": {"flops": 47_000_000}, "T2_n2": {"parameters": 5_200_000, "flops": 480_000_000}}
STUDIES = {"six": SIX_ARMS, "twelve": TWELVE_ARMS}
PHONE = 358 / 480
"""Width of a figure on a page 390 pixels wide, over its own."""


def rows_of(means, levels=("8 blanks", "9 blanks", "10 blanks"), **options) -> pd.DataFrame:
    return pd.concat([study(means, difficulty=level, counts=COUNTS, **options) for level in levels])


def compared(rows: pd.DataFrame) -> dict:
    scores = {
        level: {
            arm: dict(zip(arm_rows["seed"], arm_rows["exact"], strict=True)) for arm, arm_rows in group.groupby("arm")
        }
        for level, group in rows.groupby("difficulty", sort=False)
    }
    return {level: list(compare_arms(by_arm, "full").values()) for level, by_arm in scores.items()}


def draw(name: str, means) -> Figure:
    rows = rows_of(means)
    if name == "forest":
        return figures.forest(rows, compared(rows), "full")
    if name == "cost":
        return figures.cost(rows[rows["difficulty"] == "9 blanks"], "full", PUZZLES)
    return figures.learning_curves(learning(means), "full", PUZZLES)


def texts(figure: Figure) -> list[tuple[str, Text, tuple[float, float, float, float]]]:
    """Everything written on a figure with its edges: left, bottom, right, top in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    written = []
    for place, axes in enumerate(figure.axes):
        ticks = [*axes.get_xticklabels(), *axes.get_yticklabels()]
        for text in [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts, *ticks]:
            if text.get_visible() and text.get_text():
                extent = Text.get_window_extent(text, canvas.get_renderer())  # without an annotation's arrow
                # Ticks beyond the limits keep a label that is not drawn.
                if text not in ticks or axes.bbox.padded(8).overlaps(extent):
                    written.append((f"{place} {text.get_text()}", text, tuple(extent.extents)))
    for text in [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]:
        written.append((text.get_text(), text, tuple(text.get_window_extent().extents)))
    return written


def overlap(a, b, slack: float = 1.0) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > slack and min(a[3], b[3]) - max(a[1], b[1]) > slack


@pytest.mark.parametrize("arms", STUDIES)
@pytest.mark.parametrize("name", ["forest", "cost", "curves"])
def test_nothing_written_overlaps_leaves_the_figure_or_is_too_small_for_a_phone(name: str, arms: str) -> None:
    figure = draw(name, STUDIES[arms])
    written = texts(figure)
    assert not [(a[0], b[0]) for a, b in itertools.combinations(written, 2) if overlap(a[2], b[2])]
    width, height = figure.bbox.width, figure.bbox.height
    assert not [t for t, _, e in written if e[0] < -1 or e[1] < -1 or e[2] > width + 1 or e[3] > height + 1]
    smallest = min(text.get_fontsize() for _, text, _ in written) * 96 / 72  # in pixels of a page
    assert smallest * min(1, PHONE * 480 / (96 * figure.get_figwidth())) > 8.9


def test_every_arm_has_one_colour_in_all_figures_and_the_reference_is_black() -> None:
    named = figures.colours(list(SIX_ARMS), "full")
    assert named["full"] == BLACK and len(set(named.values())) == len(SIX_ARMS)
    lines = draw("curves", SIX_ARMS).axes[0].lines
    assert [line.get_color() for line in lines] == list(named[arm] for arm in SIX_ARMS)


def test_the_forest_shows_every_seed_interval_and_decision_by_difficulty() -> None:
    rows = rows_of(SIX_ARMS | {"no_ema": SIX_ARMS["full"]}, seeds=5)
    comparisons = compared(rows)
    figure = figures.forest(rows, comparisons, "full")
    assert [axes.get_title() for axes in figure.axes] == ["8 blanks", "9 blanks", "10 blanks"]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[-1].startswith("no_z") and "24,100 · 31 M" in names[-1] and "47 M" in " ".join(names)
    for axes, listed in zip(figure.axes, comparisons.values(), strict=True):
        drawn = np.concatenate([line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 5])
        assert sorted(drawn) == pytest.approx(sorted(100 * d for c in listed for d in c.differences))
        means = [line for line in axes.lines if line.get_markersize() == 7]
        assert [line.get_markerfacecolor() != "white" for line in means] == [c.detected for c in listed]
        ends = [tuple(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 1.6]
        assert ends == [pytest.approx(c.interval.percent[1:]) for c in listed]


def test_the_axis_of_cost_is_true_and_begins_at_zero() -> None:
    axes = draw("cost", SIX_ARMS).axes[0]
    counts = {container.lines[0].get_xdata()[0] for container in axes.containers}
    assert counts == {31.0, 47.0} and axes.get_xlim()[0] == 0


def test_learning_curves_show_the_mean_of_each_arm_at_the_steps_that_were_measured() -> None:
    curves = learning(seeds=4)
    figure = figures.learning_curves(curves, "full", PUZZLES)
    exact, loss = figure.axes
    for line, table in zip(exact.lines, curves.values(), strict=True):
        measured = table.dropna(subset="validation_exact").groupby("step")["validation_exact"].mean()
        assert line.get_xdata().tolist() == measured.index.tolist() == list(range(100, 601, 100))
        assert line.get_ydata() == pytest.approx(100 * measured.to_numpy())
    assert len(loss.lines) == len(exact.collections) == len(SIX_ARMS)
    assert {text.get_text() for text in exact.texts} == set(SIX_ARMS)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_and_few_arms_can_be_drawn(seeds: int) -> None:
    rows = rows_of({"full": 1.0, "no_z": 0.0}, ("all puzzles",), seeds=seeds, spread=0.0)
    for figure in (
        figures.forest(rows, compared(rows), "full"),
        figures.cost(rows, "full", PUZZLES),
        figures.learning_curves(learning({"full": 0.9}, seeds=seeds), "full", PUZZLES),
    ):
        assert svg(figure).count("<svg") == 1


def test_svg_is_the_same_every_time_and_needs_no_font_and_no_network() -> None:
    first, second = (svg(draw("cost", SIX_ARMS)) for _ in range(2))
    assert first == second
    assert "<text" not in first and "<image" not in first and "@import" not in first


def test_drawing_imports_no_pyplot_and_no_jax() -> None:
    code = "import sys, trm_jax.study.results.report; print('matplotlib.pyplot' in sys.modules, 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
