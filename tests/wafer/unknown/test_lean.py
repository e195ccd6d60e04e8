"""Weights without a pattern: trained on what is left, kept where they are done."""

import numpy as np
import pytest

from trm_jax.wafer.checkpoint import load_checkpoint
from trm_jax.wafer.classify import classify
from trm_jax.wafer.folds import without
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.presets import PRESETS
from trm_jax.wafer.splits import folds
from trm_jax.wafer.unknown import lean


@pytest.mark.filterwarnings("ignore:.*no wafer of class")
def test_a_left_out_pattern_is_never_answered_and_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(lean, "EDGE", PRESETS["smoke"] | {"model.encoder.widths": (), "run.data_parallel": 1})
    monkeypatch.setattr(lean, "HELD_OUT", 60)
    wafers, ring = synthetic_wafers(600), CLASSES.index("Edge-Ring")
    split = lean.thinned(without(folds(wafers)[3], wafers.label, ring))
    assert len(split.validation) == 60 and (np.diff(split.validation) > 0).all()
    place = lean.lean_weights(wafers, split, tmp_path / "Edge-Ring", updates=60)
    classifier = load_checkpoint(place)
    assert classifier.config.model.encoder.views == lean.VIEWS
    answered = classify(classifier, wafers.take(split.test))
    assert not (answered.prediction == ring).any()
    known = wafers.label[split.test] != ring
    assert (answered.prediction == wafers.label[split.test])[known].mean() > 0.6  # most of them are none
    monkeypatch.setattr(lean, "fit", lambda *_: pytest.fail("trained again"))
    assert lean.lean_weights(wafers, split, tmp_path / "Edge-Ring", updates=60) == place
