"""Stored predictions and runs come back as they were, and nothing that contradicts itself is written or read."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from fake_wafer_run import SPLITS, WAFERS
from scipy.special import softmax

from trm_jax.wafer.evaluation.pooled import pool
from trm_jax.wafer.evaluation.stored import (
    Predicted,
    as_members,
    join_runs,
    load_predicted,
    read_run,
    save_predicted,
    stopped_at,
)
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.splits import folds

RNG = np.random.default_rng(0)
GOOD = Predicted(
    np.array([7, 3, 9, 1]), RNG.normal(size=(2, 3, 4, 9)).astype(np.float32), RNG.normal(size=(2, 3, 4)).astype("f4")
)


def test_what_is_saved_is_loaded(tmp_path):
    save_predicted(tmp_path / "test.npz", GOOD)
    loaded = load_predicted(tmp_path / "test.npz")
    for name in vars(GOOD):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(GOOD, name))
    assert loaded.index.dtype == np.int64 and loaded.logits.dtype == np.float32
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
    wrong, path = replace(GOOD, **change), tmp_path / "test.npz"
    with pytest.raises(ValueError, match=message):
        save_predicted(path, wrong)
    assert not any(tmp_path.iterdir())
    np.savez(path, **vars(wrong))
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


def test_predictions_of_other_wafers_and_unfinished_runs_are_refused(place, tmp_path):
    with pytest.raises(ValueError, match="other wafers than the validation part"):
        read_run(place / "run", synthetic_wafers(1600), folds(synthetic_wafers(1600)))
    with pytest.raises(ValueError, match="predictions of none of the splits lot-0"):
        read_run(tmp_path, WAFERS, SPLITS)
    shutil.copytree(place / "run" / "lot-0", tmp_path / "lot-0")
    with pytest.raises(ValueError, match=r"wafers.json: no record of how the run answers \(.*No such file"):
        read_run(tmp_path, WAFERS, SPLITS)
    with pytest.raises(ValueError, match="no run at"):
        read_run(tmp_path / "gone", WAFERS, SPLITS)
    with pytest.raises(ValueError, match="run is a run on all classes; expected one without Donut"):
        read_run(place / "run", WAFERS, SPLITS, "Donut")
    with pytest.raises(ValueError, match="without-Donut is a run without Donut; expected one on all classes"):
        read_run(place / "without-Donut", WAFERS, SPLITS)


def split_seeds(run, seeds):
    """The run as if each of its seeds had been trained on its own, numbered by ``seeds``."""
    parts = []
    for place, seed in enumerate(seeds):
        parts.append(
            [
                replace(
                    fold,
                    config=fold.config.override(**{"run.seeds": (seed,)}),
                    validation=fold.validation.of_seed(place),
                    test=fold.test.of_seed(place),
                    curve=fold.curve[fold.curve["seed"] == place].assign(seed=0),
                    unknown={name: answers.of_seed(place) for name, answers in fold.unknown.items()},
                )
                for fold in run
            ]
        )
    return parts


def test_runs_of_other_seeds_are_judged_as_one(used, pooled):
    joined = join_runs(split_seeds(used, (3, 8)))
    joined_answers = pool(joined, WAFERS)
    np.testing.assert_array_equal(joined_answers.logits, pooled.logits)
    np.testing.assert_array_equal(joined_answers.temperature, pooled.temperature)
    assert joined[0].config.run.seeds == (3, 8)
    ours, expected = (run[1].curve.sort_values(["step", "seed"]).reset_index(drop=True) for run in (joined, used))
    assert ours.equals(expected)
    np.testing.assert_array_equal(joined[2].unknown["mixes"].halt, used[2].unknown["mixes"].halt)


def test_seeds_as_members_answer_with_their_mean_probabilities(used):
    members = as_members(join_runs(split_seeds(used, (3, 8))))
    for one, seeds in zip(members, used, strict=True):
        assert one.config.model.members == 2 and one.config.run.seeds == (3, 8)
        for found, alone in ((one.test, seeds.test), (one.validation, seeds.validation)):
            expected = softmax(alone.logits, axis=-1).mean(axis=0, keepdims=True)
            np.testing.assert_allclose(np.exp(found.logits), expected, atol=1e-6)
            np.testing.assert_allclose(found.halt, alone.halt.mean(axis=0, keepdims=True), atol=1e-6)
        assert one.unknown["mixes"].logits.shape == (1, *seeds.unknown["mixes"].logits.shape[1:])
    with pytest.raises(ValueError, match="one seed, 3, cannot answer together"):
        as_members(split_seeds(used, (3, 8))[0])


def test_runs_that_do_not_belong_together_are_refused(used):
    with pytest.raises(ValueError, match=r"seeds of their own, got \(3, 3\)"):
        join_runs(split_seeds(used, (3, 3)))
    first, second = split_seeds(used, (3, 8))
    wider = [replace(fold, config=fold.config.override(**{"model.width": 48})) for fold in second]
    with pytest.raises(ValueError, match="lot-0: runs to be judged together may differ in their seeds only"):
        join_runs([first, wider])
    with pytest.raises(ValueError, match="may differ in their seeds only"):
        join_runs(
            [first, [replace(fold, prediction_options=fold.prediction_options | {"views": 2}) for fold in second]]
        )
    with pytest.raises(ValueError, match="runs of other seeds have splits lot-1"):
        join_runs([first, second[1:2]])


def test_curves_have_a_row_per_step_and_seed_and_forgive_a_cut_line(used):
    curve = used[0].curve
    assert len(curve) == 20 * 2 and curve["validation_macro_f1"].notna().sum() == 4 * 2
    assert used[0].config.recursion.N_sup == 3
