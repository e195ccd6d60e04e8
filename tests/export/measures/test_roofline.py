"""Operations of known graphs, kernels of known attention, and projections that say what they are."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_models import case, model_of
from onnx import helper

from trm_jax.core.network import model
from trm_jax.export import project as script
from trm_jax.export.measures import cost, roofline
from trm_jax.support.flops import matmul_flops

L, D = 5, 4


def attention() -> onnx.ModelProto:
    """softmax(relu(x w) y^T) y of x and y (L, D)."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("Relu", ["q"], ["r"]),
        helper.make_node("Transpose", ["y"], ["k"], perm=[1, 0]),
        helper.make_node("MatMul", ["r", "k"], ["s"]),
        helper.make_node("Reshape", ["s", "shape"], ["t"]),
        helper.make_node("Softmax", ["t"], ["p"]),
        helper.make_node("MatMul", ["p", "y"], ["o"]),
    ]
    weights = {"w": np.ones((D, D), np.float32), "shape": np.array([L, L])}
    return model_of(*nodes, weights=weights, inputs={"x": [L, D], "y": [L, D]}, outputs={"o": [L, D]})


def test_operations_kernels_and_what_crosses_them_can_be_counted_by_hand() -> None:
    counted = cost.count(attention())
    products = 2 * L * D * D + 2 * L * L * D + 2 * L * L * D
    assert counted.product_flops == products and counted.flops == products + L * D + L * L  # relu, softmax
    # Three products, relu, softmax, transpose; products read x, r and k, p and y.
    assert counted.nodes == 7 and counted.kernels == 6 and counted.weights == D * D + 2
    assert counted.product_reads == L * D + 2 * L * D + (L * L + L * D)
    # Written by products, then read and written by relu, transpose and softmax.
    assert counted.other_traffic == (L * D + L * L + L * D) + 4 * L * D + 2 * L * L


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_transposed_left_factor_is_summed_over_its_rows(transposed: int) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=transposed)
    shape = {"x": [7, 3] if transposed else [3, 7]}
    graph = model_of(node, weights={"w": np.ones((7, 2), np.float32)}, inputs=shape, outputs={"y": [3, 2]})
    assert cost.count(graph).flops == 2 * 3 * 2 * 7


def test_products_of_an_exported_model_are_those_of_its_program() -> None:
    tiny = case("prefix")
    counted = cost.count(tiny.graph("model"))
    blank = model.blank_inputs(tiny.config.model, 1)
    expected = matmul_flops(lambda inputs: model.forward(tiny.config, tiny.params, inputs), blank)
    assert counted.product_flops == expected > 0
    with pytest.raises(ValueError, match=r"has a Loop.*take model.onnx"):
        cost.count(tiny.graph("adaptive"))
    with pytest.raises(ValueError, match=r"no fixed size: take model.onnx"):
        cost.count(tiny.graph("dynamic"))


def test_bounds_follow_from_the_data_sheet_and_projections_from_anchors() -> None:
    counted = cost.count(attention())
    board = roofline.Board("b", fp16=1e3, int8=2e3, vector=1e2, bandwidth=roofline.BOARDS[0].bandwidth, watts=2.0)
    projected = roofline.project(counted, board, "fp16", (1.0, 10.0))
    products, others = 2 * L * D * D + 4 * L * L * D, L * D + L * L
    assert projected.bound == pytest.approx(products / 1e3 + others / 1e2)
    assert projected.low == pytest.approx(projected.bound + 6) and projected.high == pytest.approx(projected.bound + 60)
    assert projected.millijoule == pytest.approx((2e3 * projected.low, 2e3 * projected.high))
    assert roofline.project(counted, board, "int8").bound == pytest.approx(products / 2e3 + others / 1e2)
    slow = board._replace(bandwidth=1.0)
    expected = 2 * (counted.other_traffic + counted.product_reads + counted.weights)
    assert roofline.project(counted, slow, "fp16").bound == pytest.approx(expected)
    saved = expected - roofline.project(counted, slow, "int8").bound
    assert saved == pytest.approx(counted.product_reads + counted.weights)
    heavy = counted._replace(flops=1e9 * counted.flops, product_flops=1e9 * products)
    rates = [anchor.flops / anchor.seconds for anchor in roofline.ANCHORS]
    projected = roofline.project(heavy, board._replace(fp16=1e30, vector=1e30), "fp16", (0.0, 0.0))
    assert projected.low == pytest.approx(1e9 * products / max(rates))
    assert projected.high == pytest.approx(1e9 * products / min(rates))


def test_the_anchor_has_the_published_size() -> None:
    assert roofline.ANCHORS[0].flops / 2 == pytest.approx(1.25e9, rel=0.01)  # published: 1.3 GMAC


def test_every_projection_says_that_it_was_not_measured(tmp_path: Path, capsys) -> None:
    onnx.save(attention(), tmp_path / "a.onnx")
    arguments = script.Arguments(model=tmp_path / "a.onnx", output=tmp_path)
    script.run(arguments)
    text = (tmp_path / "roofline" / "roofline.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| Orin")]
    assert len(rows) == 4 and all(row.count("projection, not measured") == 3 for row in rows)
    assert text == capsys.readouterr().out.removesuffix("\n")
    numbers = json.loads((tmp_path / "roofline" / "roofline.json").read_text())
    assert numbers["product_flops"] == 2 * L * D * D + 4 * L * L * D and len(numbers["projections"]) == 4
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="holds no roofline"):
        script.run(dataclasses.replace(arguments, name="other"))
    with pytest.raises(ValueError, match=r"no model at"):
        script.run(script.Arguments(model=tmp_path / "nowhere.onnx", output=tmp_path / "third"))


def test_the_figure_puts_measured_quality_beside_projected_time(tmp_path: Path, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(script, "untrained", lambda *preset, **options: calls.append((preset, options)) or attention())
    scores = tmp_path / "results.csv"
    scores.write_text(
        "part,name,score,value,low,high\nscore,all,macro_f1,0.1,0,1\n"
        "step 1,all,macro_f1,0.7,0.6,0.8\nstep 2,all,accuracy,0.2,0,1\nstep 2,all,macro_f1,0.75,0.65,0.85\n"
    )
    first, second, paper = script.points(scores)
    assert [point.quality for point in (first, second, paper)] == [(0.7, 0.6, 0.8), (0.75, 0.65, 0.85), None]
    assert first.time == roofline.project(cost.count(attention()), roofline.BOARDS[0], "fp16")
    depths = [(("edge",), {"recursion.N_sup": depth}) for depth in (1, 2)]
    assert calls == [*depths, (("paper",), {})]
    onnx.save(attention(), tmp_path / "a.onnx")
    script.run(script.Arguments(model=tmp_path / "a.onnx", quality=scores, output=tmp_path, name="q"))
    assert (tmp_path / "q" / "quality.svg").read_text().startswith("<?xml")
    (axes,) = roofline.quality_against_time([first, second, paper], "score").axes
    assert {(0.6, 0.8), (0.65, 0.85)} <= {tuple(line.get_ydata()) for line in axes.lines}
    assert "projection, not measured" in axes.get_xlabel() and "paper" in axes.get_legend().get_texts()[0].get_text()
    scores.write_text("part,name,score,value,low,high\n")
    with pytest.raises(ValueError, match="has no macro_f1 of supervision steps"):
        script.points(scores)
    scores.write_bytes(b"\xc1\xff")
    with pytest.raises(ValueError, match=r"results\.csv is not a table of wafer_evaluate\.py"):
        script.points(scores)
