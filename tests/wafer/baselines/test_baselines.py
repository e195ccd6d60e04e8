"""Rules learn from their inputs, and the script that tests them goes on where it was."""

import sys
from pathlib import Path

import chex
import numpy as np
import pytest

from trm_jax.wafer.baselines import RULES, rules
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.splits import folds

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "experiments"))
import wafer_baselines


@pytest.fixture(scope="module")
def wafers():
    return synthetic_wafers(1200)


@pytest.fixture(scope="module")
def inputs(wafers):
    return {extract: extract(wafers) for extract in set(rules.INPUTS.values())}


@pytest.mark.parametrize("rule", RULES)
def test_rules_give_probabilities_and_trees_beat_the_constant(wafers, inputs, rule):
    split = folds(wafers)[0]
    values, labels = inputs[rules.INPUTS[rule]], wafers.label
    model = rules.train(rule, *((values[part], labels[part]) for part in (split.train, split.validation)), seed=0)
    probabilities = rules.probabilities(model, values[split.test])
    chex.assert_shape(probabilities, (len(split.test), len(CLASSES)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    accuracy = (probabilities.argmax(axis=1) == labels[split.test]).mean()
    constant = np.bincount(labels[split.test]).max() / len(split.test)
    if rule in ("decision_tree", "boosting"):
        assert accuracy > constant + 0.2
    else:
        assert accuracy == pytest.approx(constant, abs=0.05)
    assert (rules.count_nodes(model) > 0) == (rule != "constant")


def test_every_wafer_is_answered_by_the_rule_that_was_not_trained_on_its_fold(wafers, inputs):
    splits = folds(wafers)[:2]
    values = inputs[rules.features]
    outcome = rules.cross_validate("decision_tree", wafers, splits, values, seed=0)
    expected = []
    for split in splits:
        model = rules.train("decision_tree", *((values[part], wafers.label[part]) for part in split[1:3]), seed=0)
        expected.append(rules.probabilities(model, values[split.test]))
    np.testing.assert_array_equal(outcome.probabilities, np.concatenate(expected))
    assert outcome.parameters > 10 and outcome.train_seconds > 0 and outcome.latency_ms > 0


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The script with these arguments on generated wafers."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["x", "--preset", "smoke", "--output", str(tmp_path), *map(str, arguments)])
        wafer_baselines.main(wafer_baselines.Arguments, wafer_baselines.run, "")

    return command


def test_the_script_goes_on_where_it_was_and_refuses_other_options(tmp_path, run, monkeypatch, capsys):
    run("--models", "constant", "grid_size")
    directory = tmp_path / "baselines-smoke"
    first = (directory / "results.csv").read_text()
    assert "synthetic wafers, seed 0: 1,200 wafers are tested" in capsys.readouterr().out
    monkeypatch.setattr(rules, "cross_validate", lambda *_: pytest.fail("trained again"))
    run("--models", "constant", "grid_size")
    assert (directory / "results.csv").read_text() == first
    with pytest.raises(SystemExit, match=r"^error: \S+ holds results with other options \(split, seed\); choose"):
        run("--models", "constant", "--split", "random", "--seed", "1")


def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, run):
    with pytest.raises(SystemExit, match=r"^error: no wafer maps at \S+gone.npz; give a frame[^\n]*$"):
        run("--data", tmp_path / "gone.npz")
    assert not list(tmp_path.iterdir())
