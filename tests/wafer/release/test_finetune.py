"""Adapting to a fab: labels reach their maps, lots are held out, and what got worse does not ship."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chex
import jax
import numpy as np
import pytest

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.edge.review import LabelFile
from trm_jax.wafer.checkpoint import Calibration, Classifier, joined, load_checkpoint, save_checkpoint
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.validate import ReadResult
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN
from trm_jax.wafer.release import finetune
from trm_jax.wafer.release.finetune import SHARES, Adapted, Measured, averaged, labelled, refusal, split_lots
from trm_jax.wafer.task import WaferTask

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "experiments"))
import wafer_finetune

WAFERS = synthetic_wafers(240, seed=1)
NAMES = {"lot": tuple(f"=L{row // 25}" for row in range(240))}


def test_labels_of_a_review_reach_their_maps_and_the_last_counts(tmp_path: Path) -> None:
    known = replace(WAFERS, label=np.full(240, UNKNOWN, np.int8))
    file = LabelFile(tmp_path / "labels.csv", ["source", "row", "lot", "prediction", "label"])
    for row, label in ((3, "Loc"), (7, "none"), (3, "Scratch"), (9, "Donut"), (9, "")):
        file.add([WAFERS.source, row, NAMES["lot"][row], "Center", label])
    found = labelled(ReadResult(known, [], NAMES), file.path).label
    assert [(int(row), CLASSES[found[row]]) for row in np.flatnonzero(found >= 0)] == [(3, "Scratch"), (7, "none")]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("file,label\na,Loc", "it has no lines with the columns row and label"),
        ("row,label\n", "it has no lines with the columns"),
        ("row,label\n0,Loc\n240,Loc", "line 3: row 240 is another map of --input"),
        ("row,label\nx,Loc", "line 2: row x is another map"),
        ("row,lot,label\n0,'=L0,Loc\n0,L1,Loc", "line 3: row 0 is another map"),
        ("row,label\n0,Lok", "line 2: unknown class 'Lok'"),
    ],
)
def test_labels_of_other_maps_are_refused(tmp_path: Path, lines: str, reason: str) -> None:
    (tmp_path / "labels.csv").write_text(lines)
    with pytest.raises(ValueError, match=reason):
        labelled(ReadResult(WAFERS, [], NAMES), tmp_path / "labels.csv")


def test_whole_lots_are_held_out_and_few_wafers_are_refused() -> None:
    split = split_lots(WAFERS)
    groups = [set(WAFERS.group[part].tolist()) for part in split[1:]]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    usable = np.flatnonzero(WAFERS.clean)
    assert sorted(np.concatenate(split[1:]).tolist()) == usable.tolist() and len(split.train) > len(split.test) > 20
    tested = [split_lots(WAFERS, number).test for number in range(4)]
    assert sorted(np.concatenate(tested).tolist()) == usable.tolist()  # every lot is held out once
    with pytest.raises(ValueError, match="100 labelled wafers are too few to adapt to; from 200 on"):
        split_lots(WAFERS.take(usable[:100]))
    with pytest.raises(ValueError, match=r"cannot split 1 lots .* into 4 parts"):
        split_lots(replace(WAFERS, group=np.zeros(240, np.int32)))


def test_what_gained_nothing_and_a_class_that_got_worse_are_refused(checkpoint: Path) -> None:
    before = Measured(np.array([0.5, 0.5, 0.9] + [0.0] * 6), 0.6, 0.5, 0.1)
    after = replace(before, f1=np.array([0.6, 0.45, 0.8] + [0.0] * 6))
    half, none = (Adapted(load_checkpoint(checkpoint), share, ()) for share in (0.5, 0.0))
    truth = np.array([0, 1, 1])  # class 2 is not among the held-out wafers
    assert refusal(half, before, after, truth, 0.01) == "worse than before for Donut; label more of these"
    assert refusal(half, before, after, truth, 0.06) == "" == refusal(half, before, before, np.arange(9), 0.0)
    assert refusal(none, before, before, truth, 0.01).startswith("no more than 0.01 of macro-F1 is gained; label more")


def distance(one: Classifier, other: Classifier) -> float:
    """How far all weights were moved."""
    return round(float(np.mean(one.params["readout"]["kernel"] - other.params["readout"]["kernel"])), 3)


@pytest.mark.parametrize("best", SHARES)
def test_the_nearest_to_the_checkpoint_of_the_best_on_validation_is_taken(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, best: float
) -> None:
    start = load_checkpoint(checkpoint)
    end = start._replace(params=jax.tree.map(lambda leaf: leaf + 2, start.params))
    split = split_lots(WAFERS, 2)

    def measured(one: Classifier, wafers: Any, index: np.ndarray) -> Measured:
        assert wafers is WAFERS and index is split.validation  # never those that are reported
        return Measured(np.zeros(9), 1 - abs(distance(one, start) / 2 - best), 0.0, 0.0)

    monkeypatch.setattr(finetune, "measure", measured)
    found = averaged(start, end, WAFERS, split)
    np.testing.assert_allclose(found.scores, [1 - abs(share - best) for share in SHARES])
    assert found.share == best
    expected = jax.tree.map(lambda leaf: leaf + np.float32(2 * best), start.params)
    chex.assert_trees_all_close(found.classifier.params, expected, atol=1e-5)
    if best in (0, 1):
        chex.assert_trees_all_equal(found.classifier.params, (end if best else start).params)
    for scores, share in (([0.5] * 5, 0), ([0.5, 0.55, 0.57, 0.575, 0.579], 0.5), ([0.5, 0.4, 0.3, 0.2, 0.509], 0)):
        measures = iter([Measured(np.zeros(9), score, 0.0, 0.0) for score in scores])
        monkeypatch.setattr(finetune, "measure", lambda *_, measures=measures: next(measures))
        assert averaged(start, end, WAFERS, split).share == share  # no further than is worth a hundredth


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = Config().override(
        **{"model.classes": 9, "model.encoder": {"patch": 4, "image": 12, "widths": (4,)}, "model.grid": (3, 3),
           "model.width": 8, "model.layers": 1, "model.readout": "mean_max", "model.halt_token": "mean",
           "recursion.N_sup": 1, "recursion.T": 1, "recursion.n": 1, "run.seeds": (5,)}
    )  # fmt: skip
    params = model.initialise(config.model, jax.random.key(0))
    path = tmp_path_factory.mktemp("shipped") / "edge"
    save_checkpoint(path, Classifier(config, params, WaferTask(), Calibration(2.0, 0.3)), "# Card\n", {"window": 250})
    return path


def arguments_for(folder: Path, checkpoint: Path, **more: Any) -> wafer_finetune.Arguments:
    arrays = {name: getattr(WAFERS, name) for name in ("flat", "height", "width", "label")}
    np.savez(folder / "maps.npz", **arrays, lot_block=WAFERS.group, classes=np.array(CLASSES))
    return wafer_finetune.Arguments(checkpoint, folder / "maps.npz", output=folder / "fab", held_out=2, **more)


def test_nets_that_answer_together_are_not_adapted(checkpoint: Path, tmp_path: Path) -> None:
    both = joined([load_checkpoint(checkpoint)] * 2)
    save_checkpoint(tmp_path / "both", both, "# Card\n", {})
    with pytest.raises(ValueError, match="both is 2 nets that answer together; adapt one net"):
        wafer_finetune.run(arguments_for(tmp_path, tmp_path / "both"))
    assert not (tmp_path / "fab").exists()


def test_only_what_it_gets_wrong_is_learned_from_the_labels(checkpoint: Path) -> None:
    classifier = load_checkpoint(checkpoint)  # of temperature 2
    said = finetune.classify(classifier._replace(calibration=Calibration()), WAFERS).probabilities
    label = said.argmax(axis=1).astype(np.int8)
    label[::3] = (label[::3] + 4) % 9
    targets = finetune.corrected(classifier, replace(WAFERS, label=label))
    np.testing.assert_array_equal(targets[::3], np.eye(9)[label[::3]])
    for rest in (slice(1, None, 3), slice(2, None, 3)):
        np.testing.assert_array_equal(targets[rest], said[rest])


def test_a_fab_gets_its_own_checkpoint_if_it_gained_and_no_class_got_worse(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    known = load_checkpoint(checkpoint)

    def fit(task: WaferTask, config: Config, directory: Path, name: str) -> Any:
        assert config.run.init == str(checkpoint) and config.run.steps == 7 and name == "adapting"
        assert config.optim.frozen == ("stem", "net") and task.balance == 0.75
        assert task.grids[task.split.train].any() and not task.grids[task.split.test].any()  # never even resized
        params = jax.tree.map(lambda leaf: leaf[None] + 1, known.params)
        return SimpleNamespace(best=SimpleNamespace(params=params))

    held_out = WAFERS.row[split_lots(WAFERS, 2).test].tolist()
    trained_says: dict[bool, str] = {}  # whether held out: one class, or "" for the right ones

    def classify(one: Classifier, wafers: Any) -> Any:
        says = trained_says[wafers.row.tolist() == held_out] if distance(one, known) == 1 else "Loc"
        labels = np.full(len(wafers), CLASSES.index(says)) if says else wafers.label
        return SimpleNamespace(probabilities=np.eye(9)[labels], unlike=None)

    monkeypatch.setattr(finetune, "fit", fit)
    monkeypatch.setattr(finetune, "classify", classify)
    arguments = arguments_for(tmp_path, checkpoint, steps=7)
    for says, reason in (
        ({False: "Loc", True: ""}, "no more than 0.01 of macro-F1 is gained"),
        ({False: "", True: "none"}, "worse than before for Loc; label more of these"),
    ):
        trained_says.update(says)
        assert wafer_finetune.run(arguments) is False and not (tmp_path / "fab").exists()
        assert f"not written: {reason}" in capsys.readouterr().err
    trained_says[True] = ""
    assert wafer_finetune.run(arguments) is True
    after = load_checkpoint(tmp_path / "fab")
    moved = {
        name: jax.tree.map(lambda leaf, add=name not in ("stem", "net"): leaf + add, part)
        for name, part in known.params.items()
    }
    chex.assert_trees_all_equal(after.params, moved)
    assert after.config == known.config and after.calibration == known.calibration and after.task == known.task
    card = (tmp_path / "fab" / "model_card.md").read_text()
    assert card.startswith("# Card\n") and "1.000 after; decided 100.0%, 100.0%; of the decided wrong" in card
    assert json.loads((tmp_path / "fab" / "reference.json").read_text()) == {"window": 250}
    with pytest.raises(FileExistsError, match="fab exists; choose another directory"):
        wafer_finetune.run(arguments)


@pytest.mark.slow
def test_another_naming_is_learned_and_holds_on_lots_held_out(checkpoint: Path, tmp_path: Path) -> None:
    """A net that learned to call rings donuts learns from a fab that calls them rings, and forgets nothing else."""
    ring, donut, split = CLASSES.index("Edge-Ring"), CLASSES.index("Donut"), split_lots(WAFERS, 2)
    begun = load_checkpoint(checkpoint)
    config = begun.config.override(
        **{"run.steps": 400, "run.batch": 32, "optim.learning_rate": 1e-2, "optim.ema": 0.9, "run.seeds": (0,)}
    )
    named = np.where(WAFERS.label == ring, donut, WAFERS.label)
    task = replace(begun.task, grids=begun.task.grids_of(config, WAFERS), labels=named, split=split)
    trained = finetune.fit(task, config, tmp_path / "run", "other names")
    known = begun._replace(params=jax.tree.map(lambda leaf: np.asarray(leaf[0]), trained.best.params))
    save_checkpoint(tmp_path / "known", known, "# Card\n", {"window": 250})
    options = finetune.options(200, 5e-3, len(split.train))
    adapted = finetune.adapt(known, tmp_path / "known", WAFERS, split, options, tmp_path / "adapting")
    found = averaged(known, adapted, WAFERS, split)
    before, after = (finetune.measure(one, WAFERS, split.test).f1 for one in (known, found.classifier))
    none = CLASSES.index("none")
    assert before[ring] == 0 and after[ring] > 0.9 and after[none] > before[none] - 0.05
