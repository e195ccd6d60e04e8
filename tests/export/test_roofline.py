"""Operations of known graphs, kernels of known attention, and projections that say what they are."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.edge.format import Metadata
from trm_jax.export import graph as export
from trm_jax.support.flops import matmul_flops

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))
import edge_roofline as roofline

from trm_jax.export import cost

L, D = 5, 4
TOKENS = {"model.width": 8, "model.layers": 1, "model.heads": 2, "model.mixer": "attention", "recursion.N_sup": 2,
          "recursion.T": 1, "recursion.n": 1}  # fmt: skip


def attention(loop: bool = False) -> onnx.ModelProto:
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
    values = {"w": np.ones((D, D), np.float32), "shape": np.array([L, L])}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [L, D]) for name in "xyo"]
    held = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", ends[:2], ends[2:], initializer=held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_operations_of_a_graph_that_can_be_counted_by_hand() -> None:
    counted = cost.count(attention())
    flops = {node.kind + node.writes[0]: node.flops for node in counted.nodes}
    assert flops == {
        "MatMulq": 2 * L * D * D, "Relur": L * D, "Transposek": 0, "MatMuls": 2 * L * L * D, "Reshapet": 0,
        "Softmaxp": L * L, "MatMulo": 2 * L * L * D,
    }  # fmt: skip
    assert counted.sizes["s"] == L * L and counted.ends == ("x", "y", "o")


def test_kernels_and_what_crosses_them() -> None:
    counted = cost.count(attention())
    apart = cost.traffic(counted, cost.units(counted, fused=False))
    # Three products, relu, softmax, transpose; products read x, r and k, p and y.
    assert apart.kernels == 6 and apart.weights == D * D + 2
    assert apart.products == L * D + 2 * L * D + (L * L + L * D)
    # Written by products, then read and written by relu, transpose and softmax.
    assert apart.others == (L * D + L * L + L * D) + 4 * L * D + 2 * L * L
    fused = cost.traffic(counted, cost.units(counted, fused=True))
    # The scores and the softmax of them stay inside: two products and a softmax are one kernel.
    assert fused.kernels < apart.kernels - 1
    assert apart.products + apart.others - fused.products - fused.others >= 4 * L * L


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_transposed_left_factor_is_summed_over_its_rows(transposed: int) -> None:
    shape = [7, 3] if transposed else [3, 7]
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=transposed)
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 2])]
    held = [numpy_helper.from_array(np.ones((7, 2), np.float32), "w")]
    graph = helper.make_graph([node], "g", ends, outs, initializer=held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert cost.count(made).nodes[0].flops == 2 * 3 * 2 * 7


def test_products_of_an_exported_model_are_those_of_its_program() -> None:
    config = Config().override(**TOKENS)
    params = model.initialise(config.model, jax.random.key(0))
    about = Metadata(["a"], {}, 1.0, 0.5, {}, {}, {})
    counted = cost.count(export.export(config, params, "model", about))
    expected = matmul_flops(lambda x: model.forward(config, params, x), model.blank_inputs(config.model, 1))
    assert sum(node.flops for node in counted.nodes if cost.is_product(node)) == expected > 0
    separate, fused = (cost.traffic(counted, cost.units(counted, kind)) for kind in (False, True))
    assert separate.kernels - fused.kernels == 2 * 2 * 2  # in four evaluations two products less
    with pytest.raises(ValueError, match=r"has a Loop.*take model.onnx"):
        cost.count(export.export(config, params, "adaptive", about))
    with pytest.raises(ValueError, match=r"no fixed size: take model.onnx"):
        cost.count(export.export(config, params, "dynamic", about))


def test_bounds_follow_from_the_data_sheet_and_projections_from_anchors() -> None:
    counted = cost.count(attention())
    board = roofline.Board("b", fp16=1e3, int8=2e3, vector=1e2, bandwidth=roofline.BOARDS[0].bandwidth, watts=2.0)
    found = roofline.project(counted, board, "fp16", False, (1.0, 10.0))
    products, others = 2 * L * D * D + 4 * L * L * D, L * D + L * L
    assert found.bound == pytest.approx(products / 1e3 + others / 1e2)
    assert found.low == pytest.approx(found.bound + 6) and found.high == pytest.approx(found.bound + 60)
    assert found.millijoule == pytest.approx((2e3 * found.low, 2e3 * found.high))
    assert roofline.project(counted, board, "int8", False).bound == pytest.approx(products / 2e3 + others / 1e2)
    slow = board._replace(bandwidth=1.0)
    moved = cost.traffic(counted, cost.units(counted, fused=False))
    expected = 2 * (moved.others + moved.products + moved.weights)
    assert roofline.project(counted, slow, "fp16", False).bound == pytest.approx(expected)
    assert expected - roofline.project(counted, slow, "int8", False).bound == pytest.approx(
        moved.products + moved.weights
    )
    heavy = counted._replace(nodes=[node._replace(flops=1e9 * node.flops) for node in counted.nodes])
    fast = board._replace(fp16=1e30, vector=1e30)
    rates = [anchor.flops / anchor.seconds for anchor in roofline.ANCHORS]
    projected = roofline.project(heavy, fast, "fp16", False, (0.0, 0.0))
    assert projected.low == pytest.approx(1e9 * products / max(rates))
    assert projected.high == pytest.approx(1e9 * products / min(rates))


def test_the_anchor_has_the_published_size() -> None:
    assert roofline.vit_flops(192, 197, 12, 16) / 2 == pytest.approx(1.25e9, rel=0.01)  # published: 1.3 GMAC


def test_every_projection_says_that_it_is_none_measured(tmp_path: Path, monkeypatch, capsys) -> None:
    onnx.save(attention(), tmp_path / "a.onnx")
    arguments = roofline.Arguments(model=tmp_path / "a.onnx", output=tmp_path)
    roofline.run(arguments)
    text = (tmp_path / "roofline" / "roofline.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| Orin")]
    assert len(rows) == 8 and all(row.count("projection, not measured") == 3 for row in rows)
    assert text == capsys.readouterr().out.removesuffix("\n")
    numbers = json.loads((tmp_path / "roofline" / "roofline.json").read_text())
    assert numbers["product_flops"] == 2 * L * D * D + 4 * L * L * D and len(numbers["projections"]) == 8
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="holds no roofline"):
        roofline.run(dataclasses.replace(arguments, name="other"))
    monkeypatch.setattr(sys, "argv", ["edge_roofline.py", "--model", str(tmp_path / "nowhere.onnx")])
    with pytest.raises(SystemExit, match=r"error: no model at"):
        roofline.main()


def test_the_figure_puts_measured_quality_beside_projected_time(tmp_path: Path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(roofline, "untrained", lambda *given, **options: asked.append((given, options)) or attention())
    scores = tmp_path / "results.csv"
    scores.write_text(
        "part,name,score,value,low,high\nscore,all,macro_f1,0.1,0,1\n"
        "step 1,all,macro_f1,0.7,0.6,0.8\nstep 2,all,accuracy,0.2,0,1\nstep 2,all,macro_f1,0.75,0.65,0.85\n"
    )
    one, two, paper = roofline.points(scores)
    assert [point.quality for point in (one, two, paper)] == [(0.7, 0.6, 0.8), (0.75, 0.65, 0.85), None]
    expected = roofline.project(cost.count(attention()), roofline.BOARDS[0], "fp16", False)
    assert (one.low, one.high) == (1e3 * expected.low, 1e3 * expected.high)
    depths = [(("edge",), {"recursion.N_sup": depth}) for depth in (1, 2)]
    assert asked == [*depths, (("paper",), {})]
    onnx.save(attention(), tmp_path / "a.onnx")
    roofline.run(roofline.Arguments(model=tmp_path / "a.onnx", quality=scores, output=tmp_path, name="q"))
    assert "projection, not measured" in (tmp_path / "q" / "quality.svg").read_text()
    scores.write_text("part,name,score,value,low,high\n")
    with pytest.raises(ValueError, match="has no macro_f1 of supervision steps"):
        roofline.points(scores)
    scores.write_bytes(b"\xc1\xff")
    with pytest.raises(ValueError, match=r"results\.csv is no table of wafer_evaluate\.py"):
        roofline.points(scores)
