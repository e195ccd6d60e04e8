"""The look at the data counts right, finds the similar classes, says its source, and draws what can be read."""

import dataclasses
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from figure_text import boxes, overlap
from matplotlib.figure import Figure

from trm_jax.wafer import data, explore
from trm_jax.wafer import figures as wafer_figures
from trm_jax.wafer.explore import Overview
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.features import RADIAL, spatial_features
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN, Wafers

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))
import wafer_explore

FIGURES = ("class_counts", "examples", "mean_maps", "radial_profiles", "features", "similarity")


@pytest.fixture(scope="module")
def wafers() -> Wafers:
    """Some without a label, some that are copies."""
    generated = synthetic_wafers(400, seed=2)
    label, clean = generated.label.copy(), generated.clean.copy()
    label[::13], clean[3::19] = UNKNOWN, False
    return dataclasses.replace(generated, label=label, clean=clean)


@pytest.fixture(scope="module")
def overview(wafers: Wafers) -> Overview:
    return explore.explore(wafers)


@pytest.fixture(scope="module")
def figures(overview: Overview) -> dict[str, Figure]:
    return explore.draw(overview)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["wafer_explore.py", *map(str, arguments)])
    wafer_explore.main(wafer_explore.Arguments, wafer_explore.run, "")


def test_the_smoke_preset_looks_at_generated_wafers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore, "write_report", lambda directory, *_: directory.mkdir())  # another test draws
    monkeypatch.setattr(data, "find", lambda _: pytest.fail("looks for data"))
    run(monkeypatch, "--preset", "smoke", "--output", tmp_path / "look")
    summary = json.loads((tmp_path / "look" / "summary.json").read_text())
    assert summary["wafers"] == 1200 and "synthetic" in summary["source"] and len(summary["classes"]) == len(CLASSES)


def test_a_run_writes_figures_numbers_and_a_page_that_name_their_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, wafers: Wafers
) -> None:
    monkeypatch.setattr("trm_jax.wafer.data.load", lambda *_: wafers)
    run(monkeypatch, "--output", tmp_path / "look", "--limit", "20", "--examples", "1", "--pairs", "2")
    written = {str(path.relative_to(tmp_path / "look")) for path in (tmp_path / "look").rglob("*.*")}
    assert written == {*(f"figures/{name}.svg" for name in FIGURES), "summary.json", "report.md", "report.html"}
    summary = json.loads((tmp_path / "look" / "summary.json").read_text())
    usable = (wafers.label != UNKNOWN) & wafers.clean
    counts = {name: int((wafers.label[usable] == index).sum()) for index, name in enumerate(CLASSES)}
    assert summary["classes"] == counts and summary["wafers"] == 400
    assert summary["unlabelled"] == (wafers.label == UNKNOWN).sum()
    assert summary["labelled copies or contradictions left out"] == ((wafers.label != UNKNOWN) & ~wafers.clean).sum()
    assert summary["imbalance"] == round(max(counts.values()) / min(counts.values()), 1)
    assert summary["looked at"] == {name: min(count, 20) for name, count in counts.items()}
    rows = (tmp_path / "look" / "report.md").read_text().splitlines()[-2:]
    for row, (alike, cosine), (near, distance) in zip(rows, *summary["most similar"].values(), strict=True):
        assert row == f"| {alike} | {cosine:.2f} | {near} | {distance:.2f} |"
    page = (tmp_path / "look" / "report.html").read_text()
    assert "Data: synthetic wafers, seed 2." in page and page.count('<img src="data:image/svg+xml;base64,') == 6
    assert "href" not in page and "<script" not in page  # self-contained
    assert summary["source"] == "synthetic wafers, seed 2" and "synthetic" in capsys.readouterr().out


def test_the_seed_decides_everything(wafers: Wafers) -> None:
    small = wafers.take(np.arange(150))
    first, same, other = (explore.explore(small, seed=seed, limit=5) for seed in (1, 1, 2))
    assert all(map(np.array_equal, first.examples["none"], same.examples["none"]))
    assert np.array_equal(first.distance, same.distance) and not np.array_equal(first.distance, other.distance)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "nowhere.npz"], "error: no wafer maps at nowhere.npz"),
        (["--examples", "0"], "error: --examples must be 1 or more, got 0"),
        (["--limit", "-3"], "error: --limit must be 0 or more, got -3"),
    ],
)
def test_bad_input_gets_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, "--output", tmp_path / "look", *arguments)
    assert str(caught.value.code).startswith(reason) and "\n" not in str(caught.value.code)
    assert not (tmp_path / "look").exists()


def test_wafers_of_one_class_are_refused(wafers: Wafers) -> None:
    with pytest.raises(ValueError, match="need labelled wafers of two classes or more, got 1"):
        explore.explore(wafers.take(wafers.label == 3))


def test_examples_and_features_belong_to_their_class(wafers: Wafers, overview: Overview) -> None:
    values = spatial_features(wafers)[0]
    for index, name in enumerate(CLASSES):
        members = np.flatnonzero((wafers.label == index) & wafers.clean)
        maps = {wafers.map(int(member)).tobytes() for member in members}
        assert len(overview.examples[name]) == 4 and all(cells.tobytes() in maps for cells in overview.examples[name])
        np.testing.assert_array_equal(overview.features[name], values[members])


def test_the_mean_map_is_the_share_of_dies_that_fail() -> None:
    maps = np.ones((2, 8, 8), np.uint8)
    maps[:, :, 0] = 0  # no die in the first column
    maps[0, 2, 3] = maps[:, 5, 5] = 2
    base = synthetic_wafers(9).take(np.arange(2))
    side = np.full(2, 8, np.int16)
    wafers = dataclasses.replace(base, flat=maps.ravel(), start=np.array([0, 64]), height=side, width=side)
    expected = np.zeros((8, 8))
    expected[:, 0], expected[2, 3], expected[5, 5] = np.nan, 0.5, 1
    np.testing.assert_allclose(explore.mean_map(wafers, 8), expected)


def test_similarity_has_closed_forms() -> None:
    slope = np.linspace(0, 1, 9).reshape(3, 3)
    waves = np.array([[1.0, -1, 1], [-1, 0, -1], [1, -1, 1]])  # orthogonal to the slope
    cosine = explore.mean_map_cosine({"a": slope, "b": 3 * slope + 7, "c": 1 - slope, "d": waves})
    np.testing.assert_allclose(cosine[0], [1, 1, -1, 0], atol=1e-12)
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(4000, 3))
    spread = (spread - spread.mean(axis=0)) / spread.std(axis=0)
    scale = np.array([1, 10, 100])
    features = {"a": spread * scale, "b": (spread + 2) * scale, "c": (spread + [3, 0, 0]) * scale}
    distance = explore.feature_distance(features)
    np.testing.assert_allclose(distance[0], [0, 2, 3 / np.sqrt(3)], atol=1e-9)
    assert explore.ranking(distance, list("abc"), 2, highest=False) == [
        ("a, c", pytest.approx(3**0.5)),
        ("b, c", pytest.approx((9 / 3) ** 0.5)),
    ]


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_written_overlaps_or_leaves_the_figure(figures: dict[str, Figure], name: str) -> None:
    figure = figures[name]
    written = boxes(figure)
    if name == "similarity":  # boxes around slanted names overlap, the names do not
        written = {text: extent for text, extent in written.items() if text[2:] not in CLASSES}
    assert f"Data: {synthetic_wafers(9, seed=2).source}" in written
    assert not [(a, b) for a, b in itertools.combinations(written, 2) if overlap(written[a], written[b])]
    width, height = figure.bbox.width, figure.bbox.height
    assert not [t for t, e in written.items() if e[0] < -1 or e[1] < -1 or e[2] > width + 1 or e[3] > height + 1]
    for legend in figure.legends:
        assert not any(axes.bbox.overlaps(legend.get_window_extent()) for axes in figure.axes)


def test_figures_show_their_numbers(overview: Overview, figures: dict[str, Figure]) -> None:
    linear, log = figures["class_counts"].axes
    order = sorted(overview.counts, key=lambda name: -overview.counts[name])
    for axes in (linear, log):
        assert [bar.get_width() for bar in axes.patches] == [overview.counts[name] for name in order]
    assert (linear.get_xscale(), log.get_xscale()) == ("linear", "log")
    for axes, name in zip(figures["radial_profiles"].axes, CLASSES, strict=True):
        mean = axes.lines[-1].get_ydata()
        np.testing.assert_allclose(mean, overview.features[name][:, RADIAL].mean(axis=0), rtol=1e-6)
    images = [axes.images[0].get_array() for axes in figures["examples"].axes if axes.images]
    assert len(images) == 36 and np.array_equal(images[1], overview.examples["Donut"][0])
    means = [axes.images[0].get_array().filled(np.nan) for axes in figures["mean_maps"].axes if axes.images]
    np.testing.assert_array_equal(means, list(overview.means.values()))


def test_colours_of_a_map_differ_in_lightness() -> None:
    colours = (wafer_figures.NO_DIE_COLOUR, wafer_figures.PASS_COLOUR, wafer_figures.FAIL_COLOUR)
    rgb = [[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in colours]
    light = np.array(rgb) @ [0.2126, 0.7152, 0.0722] / 255
    assert light[0] - light[1] > 0.12 and light[1] - light[2] > 0.4


def test_a_million_wafers_and_few_classes_fit() -> None:
    figure = wafer_figures.class_counts({"none": 1_234_567, "Edge-Ring": 3}, "some wafers")
    written = boxes(figure)
    assert not [(a, b) for a, b in itertools.combinations(written, 2) if overlap(written[a], written[b])]
    assert "411,522 times" in figure.get_suptitle()
