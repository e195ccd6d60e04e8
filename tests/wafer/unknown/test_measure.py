"""Temperature and thresholds of what ships come from the test wafers of a cross-validation, or from nowhere."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from fake_wafer_run import SPLITS, WAFERS, write_run
from scipy.special import softmax

from trm_jax.wafer.checkpoint import untrained
from trm_jax.wafer.evaluation.pooled import lots
from trm_jax.wafer.evaluation.stored import load_predicted, save_predicted
from trm_jax.wafer.evaluation.trust.calibration import fit_temperature
from trm_jax.wafer.evaluation.trust.cross_fit import fit_decisions
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.release import ship
from trm_jax.wafer.unknown import measure


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("folds") / "run"
    write_run(directory, WAFERS, SPLITS, seeds=1)
    return directory


def test_a_checkpoint_is_calibrated_with_the_wafers_of_all_folds(run, capsys):
    settings = measure.UnlikeSettings(alpha=0.08, class_alpha=0.2, folds=(run,))
    found = measure.calibrated(untrained(), settings, WAFERS)
    tested = [load_predicted(run / split.name / "test.npz") for split in SPLITS]
    index = np.concatenate([answers.index for answers in tested])
    logits = np.concatenate([answers.logits[0, 2] for answers in tested])  # after the third step, the last trained one
    temperature, threshold = fit_decisions(logits, WAFERS.label[index], lots(WAFERS, index), 0.08, 0.1)
    assert found.calibration.temperature == pytest.approx(temperature) != 1
    assert found.calibration.review_threshold == threshold < 1
    limits = found.calibration.class_thresholds
    assert len(limits) == 9 and min(limits) == threshold and max(limits) == limits[CLASSES.index("Random")] == 1
    others = measure.calibrated(untrained(), replace(settings, reviewed=()), WAFERS).calibration
    different = [name for name, one, two in zip(CLASSES, limits, others.class_thresholds, strict=True) if one != two]
    assert different == ["Random"] and others == replace(found.calibration, class_thresholds=others.class_thresholds)
    assert "of a fold the others decide" in capsys.readouterr().out


def test_folds_with_too_many_errors_for_any_promise_are_refused(run):
    with pytest.raises(ValueError, match="run: at no confidence is so little wrong that anything may be decided"):
        measure.calibrated(untrained(), measure.UnlikeSettings(folds=(run,)), WAFERS)


def test_the_answers_of_all_seeds_calibrate(run, tmp_path):
    """A second run whose seed has another number: what is fitted is fitted to both, each wafer twice."""
    shutil.copytree(run, tmp_path / "second")
    for split in SPLITS:
        path = tmp_path / "second" / split.name / "config.json"
        options = json.loads(path.read_text())
        path.write_text(json.dumps(options | {"run": options["run"] | {"seeds": [1]}}))
        for part in ("test", "validation"):
            answers = load_predicted(tmp_path / "second" / split.name / f"{part}.npz")
            doubtful = replace(answers, logits=answers.logits / 2)
            (tmp_path / "second" / split.name / f"{part}.npz").unlink()
            save_predicted(tmp_path / "second" / split.name / f"{part}.npz", doubtful)
    pooled = ship.tested_folds((run, tmp_path / "second"), WAFERS)
    one = ship.tested_folds((run,), WAFERS)
    np.testing.assert_array_equal(pooled.logits, np.concatenate([one.logits, one.logits / 2]))
    together = ship.tested_folds((run, tmp_path / "second"), WAFERS, members=2)
    mean = softmax(pooled.logits, axis=-1).mean(axis=0, keepdims=True)
    np.testing.assert_allclose(np.exp(together.logits), mean, atol=1e-6)
    with pytest.raises(ValueError, match=r"3 nets answer together: --folds must have as many seeds, not \(0, 1\)"):
        ship.tested_folds((run, tmp_path / "second"), WAFERS, members=3)
    settings = measure.UnlikeSettings(alpha=0.08, class_alpha=0.2, folds=(run, tmp_path / "second"))
    found = measure.calibrated(untrained(), settings, WAFERS).calibration.temperature
    logits = np.concatenate([one.logits[0, 2], one.logits[0, 2] / 2])
    assert found == pytest.approx(fit_temperature(logits, np.tile(one.truth, 2)), rel=1e-3)
