"""Figures show every seed and every arm, name their axes, and nothing written on them overlaps."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from fake_study import COUNTS, SIX_ARMS, learning, study
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from trm_jax.reporting.style import svg
from trm_jax.study import figures
from trm_jax.study.findings import Wording
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
MORE_COUNTS = {
    "four_layers": {"parameters": 47_000, "layer_applications": 36},
    "width_48_with_three_heads_and_more": {"parameters": 5_200_000, "layer_applications": 480},
}
SIDE_BY_SIDE = "\n(on a band: equal, side by side)"
STUDIES = {"six": SIX_ARMS, "twelve": TWELVE_ARMS, "three": {"full": 0.5, "no_z": 0.5, "no_ema": 0.5}}


def comparisons(rows) -> list:
    scores = {arm: dict(zip(group["seed"], group["exact"], strict=True)) for arm, group in rows.groupby("arm")}
    return list(compare_arms(scores, "full").values())


def draw(name: str, means) -> Figure:
    rows = study(means, counts=MORE_COUNTS)
    if name == "accuracy":
        return figures.accuracy(rows, "full", PUZZLES)
    if name == "impact":
        return figures.impact(comparisons(rows), "full")
    if name in figures.COUNTS:
        return figures.cost(rows, name, "full", PUZZLES)
    return figures.learning_curves(learning(means), name, "full", PUZZLES)


def boxes(figure: Figure) -> dict[str, tuple[float, float, float, float]]:
    """Edges of everything written on a figure: left, bottom, right, top in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    written = {}
    for place, axes in enumerate(figure.axes):
        ticks = [*axes.get_xticklabels(), *axes.get_yticklabels()]
        for text in [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts, *ticks]:
            if text.get_visible() and text.get_text():
                extent = Text.get_window_extent(text, canvas.get_renderer())  # without an annotation's arrow
                # Ticks beyond the limits keep a label that is not drawn.
                if text not in ticks or axes.bbox.padded(8).overlaps(extent):
                    written[f"{place} {text.get_text()}"] = extent
    for text in figure.texts:
        written[text.get_text()] = text.get_window_extent()
    for legend in figure.legends:
        written["legend"] = legend.get_window_extent()
    return {text: tuple(extent.extents) for text, extent in written.items()}


def overlap(a, b, slack: float = 1.0) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > slack and min(a[3], b[3]) - max(a[1], b[1]) > slack


@pytest.mark.parametrize(
    ("name", "arms"),
    [
        *itertools.product(["accuracy", "impact", "parameters", "layer_applications"], ["six", "twelve"]),
        ("validation_exact", "three"),
        ("loss", "twelve"),
    ],
)
def test_nothing_written_overlaps_or_leaves_the_figure(name: str, arms: str) -> None:
    figure = draw(name, STUDIES[arms])
    written = boxes(figure)
    clashes = [(a, b) for a, b in itertools.combinations(written, 2) if overlap(written[a], written[b])]
    assert not clashes
    width, height = figure.bbox.width, figure.bbox.height
    outside = [t for t, e in written.items() if e[0] < -1 or e[1] < -1 or e[2] > width + 1 or e[3] > height + 1]
    assert not outside
    for legend in figure.legends:
        assert not any(axes.bbox.overlaps(legend.get_window_extent()) for axes in figure.axes)


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("accuracy", "Test puzzles solved exactly (%)", ""),
        ("impact", "Exact accuracy, difference to full\n(percentage points)", ""),
        ("parameters", f"Parameters{SIDE_BY_SIDE}", "Test puzzles solved exactly (%)"),
        (
            "layer_applications",
            f"Effective depth: layers applied in a forward pass{SIDE_BY_SIDE}",
            "Test puzzles solved exactly (%)",
        ),
    ],
)
def test_axes_are_labelled_and_every_arm_is_named(name: str, x: str, y: str) -> None:
    figure = draw(name, SIX_ARMS)
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (x, y)
    names = {text.get_text() for text in [*axes.get_yticklabels(), *axes.texts]}
    assert set(SIX_ARMS) - {"full"} <= names
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert len(shown) >= 2 or shown == [f"{COUNTS[name]:,}"]


@pytest.mark.parametrize("name", figures.COUNTS)
@pytest.mark.parametrize("means", [SIX_ARMS, TWELVE_ARMS], ids=["six", "twelve"])
def test_arms_of_equal_count_stand_apart_on_a_band_around_their_count(name: str, means) -> None:
    rows = study(means, counts=MORE_COUNTS)
    axes = figures.cost(rows, name, "full", PUZZLES).axes[0]
    intervals = [line for line in axes.lines if line.get_linestyle() == "-"]
    places = {arm: line.get_xdata() for arm, line in zip(means, intervals, strict=True)}
    drawn = {arm: axes.transData.transform([(x, 0) for x in place])[:, 0] for arm, place in places.items()}
    assert all(left == right for left, right in drawn.values())
    assert np.diff(sorted(left for left, _ in drawn.values())).min() > 4  # pixels
    counts = rows.groupby("arm")[name].first()
    equal = [arm for arm in means if counts[arm] == COUNTS[name]]
    (band,) = axes.patches
    low, high = band.get_x(), band.get_x() + band.get_width()
    assert low < COUNTS[name] < high
    assert all((low < places[arm][0] < high) == (arm in equal) for arm in means)
    best_first = sorted(equal, key=lambda arm: places[arm][0])
    assert best_first == sorted(equal, key=lambda arm: -rows[rows["arm"] == arm]["exact"].mean())


def test_arms_of_different_counts_stand_at_their_counts() -> None:
    counts = {arm: {"parameters": size} for arm, size in {"full": 10_000, "no_z": 20_000, "no_ema": 30_000}.items()}
    axes = figures.cost(study(STUDIES["three"], counts=counts), "parameters", "full", PUZZLES).axes[0]
    places = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "-"]
    assert places == pytest.approx([10_000, 20_000, 30_000])
    assert axes.get_xlabel() == "Parameters" and not axes.patches
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10,000", "20,000", "30,000"]


def test_every_seed_is_a_dot_at_its_score() -> None:
    rows = study(seeds=5)
    axes = figures.accuracy(rows, "full", PUZZLES).axes[0]
    drawn = np.concatenate([line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 5])
    assert sorted(drawn) == pytest.approx(sorted(100 * rows["exact"]))
    axes = figures.impact(comparisons(rows), "full").axes[0]
    drawn = np.concatenate([line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 5])
    wanted = [100 * d for comparison in comparisons(rows) for d in comparison.differences]
    assert sorted(drawn) == pytest.approx(sorted(wanted))


def test_a_mean_is_filled_only_where_a_difference_was_detected() -> None:
    compared = comparisons(study(SIX_ARMS | {"no_ema": SIX_ARMS["full"]}))
    axes = figures.impact(compared, "full").axes[0]
    faces = [line.get_markerfacecolor() for line in axes.lines if line.get_markersize() == 7]
    ordered = sorted(compared, key=lambda comparison: comparison.interval.value)
    assert [face != "white" for face in faces] == [comparison.detected for comparison in ordered]
    assert {comparison.detected for comparison in compared} == {True, False}


def test_learning_curves_have_a_panel_per_arm_with_every_seed_and_a_band() -> None:
    curves = learning(seeds=4)
    figure = figures.learning_curves(curves, "validation_exact", "full", PUZZLES)
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == list(SIX_ARMS)
    for axes, arm in zip(panels, SIX_ARMS, strict=True):
        assert len(axes.lines) == 4 + 1 + (arm != "full")  # seeds, their mean, and the reference behind
        assert len(axes.collections) == 1
        assert axes.lines[-1].get_xdata().tolist() == list(range(100, 601, 100))  # no step without a measurement
    assert figure.get_supxlabel() == "Optimizer step"
    assert figure.get_supylabel() == "Validation puzzles solved exactly (%)"


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_and_few_arms_can_be_drawn(seeds: int) -> None:
    rows = study({"full": 1.0, "no_z": 0.0}, seeds=seeds, spread=0.0)
    curves = learning({"full": 0.9}, seeds=seeds)
    for figure in (
        figures.accuracy(rows, "full", PUZZLES),
        figures.impact(comparisons(rows), "full"),
        figures.cost(rows, "parameters", "full", PUZZLES),
        figures.learning_curves(curves, "loss", "full", PUZZLES),
    ):
        assert svg(figure).count("<svg") == 1


def test_svg_is_the_same_every_time_and_needs_no_font_and_no_network() -> None:
    first, second = (svg(figures.accuracy(study(), "full", PUZZLES)) for _ in range(2))
    assert first == second
    assert "<text" not in first and "<image" not in first and "@import" not in first


def test_drawing_imports_no_pyplot_and_no_jax() -> None:
    code = "import sys, trm_jax.study.report; print('matplotlib.pyplot' in sys.modules, 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
