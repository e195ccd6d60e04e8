"""The checkpoint that ships: small, whole, and as good on real wafers as its model card says."""

import json
from pathlib import Path

import numpy as np
import pytest

from trm_jax.edge.classify import classify as edge_classify
from trm_jax.edge.monitor import examine, measured
from trm_jax.edge.package import choose, open_model
from trm_jax.support.checksums import check_sums
from trm_jax.wafer.checkpoint import load_checkpoint
from trm_jax.wafer.classify import classify
from trm_jax.wafer.data import load
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.splits import all_lots

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
MOST_BYTES = {"wafer-edge": 3e6, "wafer-plain": 3e6, "wafer-ensemble": 5e6}
"""Of each checkpoint, its package included."""


@pytest.mark.parametrize("name", MOST_BYTES)
def test_it_is_small_and_says_what_it_is(name):
    path = CHECKPOINTS / name
    assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < MOST_BYTES[name]
    card = (path / "model_card.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}: ")
    shipped = load_checkpoint(path)
    assert (shipped.config.model.layers > 0) == (name == "wafer-edge")
    assert shipped.config.model.members == (3 if name == "wafer-ensemble" else 1)
    listed = (path / "SHA256SUMS").read_text(encoding="utf-8").split()[1::2]
    assert {"calibration.json", "reference.json", "unlike.npz", "weights/SHA256SUMS"} <= set(listed)
    check_sums(path, listed)
    assert f"{shipped.calibration.review_threshold:.3f}" in card and "| Scratch |" in card
    assert 0.5 < shipped.calibration.review_threshold < 1


@pytest.mark.parametrize("name", MOST_BYTES)
def test_on_lots_that_it_was_not_trained_on_it_is_as_good_as_its_card_says(name, data_root):
    path = CHECKPOINTS / name
    wafers = load(data_root / "wm811k" / "wm811k_labelled.npz")
    chosen = np.random.default_rng(0).choice(all_lots(wafers).validation, 1024, replace=False)
    shown, shipped = wafers.take(chosen), load_checkpoint(path)
    answers = classify(shipped, shown)
    right = answers.probabilities.argmax(axis=1) == shown.label
    assert right.mean() > 0.94
    sure = answers.probabilities.max(axis=1) >= shipped.calibration.review_threshold
    assert sure.mean() > 0.8 and right[sure].mean() > 0.98
    # A window of the wafers that made the reference raises no alarm.
    reference = json.loads((path / "reference.json").read_text(encoding="utf-8"))
    values = measured(shown, answers.probabilities, answers.steps, shipped.calibration.review_threshold)
    assert not examine(reference, values[: reference["window"]]).alarms


@pytest.mark.parametrize("checkpoint", MOST_BYTES)
def test_it_classifies_generated_wafers_and_so_does_the_exported_package_beside_it(checkpoint):
    """It never saw one, and they are cleaner than real ones. The package runs in the device's own code."""
    path = CHECKPOINTS / checkpoint
    wafers, shipped = synthetic_wafers(128), load_checkpoint(path)
    answered = classify(shipped, wafers)
    expected = answered.probabilities
    assert np.mean(expected.argmax(axis=1) == wafers.label) > 0.5
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    for name in ("model.onnx", "model_dynamic.onnx", "model_adaptive.onnx", "step.onnx"):
        opened = open_model(choose(path / "onnx" / name))
        found = edge_classify(opened, wafers)
        np.testing.assert_allclose(found.probabilities, expected, atol=2e-5)
        np.testing.assert_allclose(found.unlike, answered.unlike, atol=2e-3)
        assert opened.metadata.thresholds == shipped.calibration.thresholds
        assert tuple(opened.metadata.dies) == shipped.calibration.dies
        assert opened.metadata.review_threshold == shipped.calibration.review_threshold
        assert opened.metadata.reference == json.loads((path / "reference.json").read_text(encoding="utf-8"))
