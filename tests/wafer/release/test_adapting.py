"""What adapting is worth: real wafers of lots held out, named as a fab might that draws the line elsewhere.

`python -m pytest -m slow -s tests/wafer/release/test_adapting.py` prints the tables; a minute and a half each on two
quiet cores.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from trm_jax.wafer.checkpoint import load_checkpoint
from trm_jax.wafer.data import load
from trm_jax.wafer.maps.wafers import CLASSES, Wafers
from trm_jax.wafer.release import finetune
from trm_jax.wafer.splits import all_lots

CHECKPOINT = Path(__file__).resolve().parents[3] / "checkpoints/wafer-plain"
LOC, EDGE_LOC = CLASSES.index("Loc"), CLASSES.index("Edge-Loc")


def distance_of_largest_region(wafer_map: np.ndarray) -> float:
    """How far from the centre of the wafer the largest group of failing dies lies, as a share of the radius."""
    regions, count = ndimage.label(wafer_map == 2, np.ones((3, 3)))
    largest = np.bincount(regions.ravel(), minlength=count + 1)[1:].argmax() + 1
    offsets = [
        (place - (side - 1) / 2) / (side / 2)
        for place, side in zip(ndimage.center_of_mass(regions == largest), wafer_map.shape, strict=True)
    ]
    return float(np.hypot(*offsets))


def of_a_fab(wafers: Wafers) -> Wafers:
    """The wafers of a fab that calls Edge-Loc what lies beyond 0.6 of the radius: every second Loc of WM-811K."""
    label = wafers.label.copy()
    for index in np.flatnonzero(label == LOC):
        if distance_of_largest_region(wafers.map(index)) > 0.6:
            label[index] = EDGE_LOC
    return replace(wafers, label=label)


def test_the_largest_region_lies_where_it_was_drawn() -> None:
    drawn = np.ones((21, 41), np.uint8)
    drawn[9:12, 33:36] = 2
    drawn[2, 3] = 2
    assert distance_of_largest_region(drawn) == pytest.approx(14 / 20.5)


@pytest.mark.slow
@pytest.mark.parametrize("held_out", range(4))
def test_a_line_drawn_elsewhere_is_learned_or_nothing_changes(held_out: int, data_root: Path, tmp_path: Path) -> None:
    wafers = load(data_root / "wm811k" / "wm811k_labelled.npz")
    fab = of_a_fab(wafers.take(all_lots(wafers).validation))  # lots that the checkpoint was not trained on
    split, classifier = finetune.split_lots(fab, held_out), load_checkpoint(CHECKPOINT)
    trained = finetune.adapt(
        classifier, CHECKPOINT, fab, split, finetune.options(300, 1e-3, len(split.train)), tmp_path / "run"
    )
    adapted = finetune.averaged(classifier, trained, fab, split)
    before, after = (finetune.measure(one, fab, split.test) for one in (classifier, adapted.classifier))
    refused = finetune.refusal(adapted, before, after, fab.label[split.test], 0.01)
    print(f"\nQuarter {held_out} held out: {refused or 'written'}\n")
    print(finetune.report(before, after, adapted, fab, split))
    assert after.macro_f1 > before.macro_f1 - 0.005  # what a fab did not label is not forgotten
    if adapted.share == 1:
        assert not refused and min(after.f1[[LOC, EDGE_LOC]] - before.f1[[LOC, EDGE_LOC]]) > 0.05
