"""Stored predictions come back as they were, and nothing that contradicts itself is written or read."""

import numpy as np
import pytest

from trm_jax.wafer.evaluation.stored import Predicted, load_predicted, save_predicted, stopped_at

RNG = np.random.default_rng(0)
GOOD = Predicted(
    np.array([7, 3, 9, 1]), RNG.normal(size=(2, 3, 4, 9)).astype(np.float32), RNG.normal(size=(2, 3, 4)).astype("f4")
)


def test_what_is_saved_is_loaded(tmp_path):
    save_predicted(tmp_path / "test.npz", GOOD)
    found = load_predicted(tmp_path / "test.npz")
    for name in Predicted._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(GOOD, name))
    assert found.index.dtype == np.int64 and found.logits.dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == ["test.npz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": GOOD.index[:3]}, r"\(seeds, steps, 3 wafers, classes\)"),
        ({"index": GOOD.index.astype(float)}, "one row of positions"),
        ({"index": -GOOD.index}, "one row of positions"),
        ({"logits": GOOD.logits[0]}, "logits must be"),
        ({"halt": GOOD.halt[:1]}, r"halt must be \(2, 3, 4\)"),
        ({"halt": GOOD.halt * np.nan}, "halt must be finite"),
        ({"logits": GOOD.logits.astype(int)}, "logits must be finite floating-point"),
    ],
)
def test_contradictions_are_refused_both_ways(tmp_path, change, message):
    wrong, path = GOOD._replace(**change), tmp_path / "test.npz"
    with pytest.raises(ValueError, match=message):
        save_predicted(path, wrong)
    assert not any(tmp_path.iterdir())
    np.savez(path, **wrong._asdict())
    with pytest.raises(ValueError, match=message):
        load_predicted(path)


def test_damaged_foreign_and_missing_files_are_one_line(tmp_path):
    path = tmp_path / "test.npz"
    with pytest.raises(ValueError, match="no predictions at"):
        load_predicted(path)
    save_predicted(path, GOOD)
    content = path.read_bytes()
    for broken in (b"", content[: len(content) // 2], b"PK" + content[:50]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="no usable predictions") as caught:
            load_predicted(path)
        assert "\n" not in str(caught.value)
    np.savez(path, index=GOOD.index, halt=GOOD.halt)
    with pytest.raises(ValueError, match="no array logits"):
        load_predicted(path)
    np.savez(path, index=np.array([{}]), logits=GOOD.logits, halt=GOOD.halt)
    with pytest.raises(ValueError, match="no usable predictions"):
        load_predicted(path)


def test_wafers_stop_where_they_are_first_sure():
    halt = np.array([[[-1.0, 3.0, -9.0], [2.0, -2.0, -9.0], [-5.0, -5.0, -9.0]]])  # (1, 3 steps, 3 wafers)
    assert stopped_at(halt, 0.5).tolist() == [[1, 0, 2]]
    assert stopped_at(halt, 0.0).tolist() == [[0, 0, 0]] and stopped_at(halt, 1.0).tolist() == [[2, 2, 2]]
    assert stopped_at(halt[0], None).tolist() == [2, 2, 2]
