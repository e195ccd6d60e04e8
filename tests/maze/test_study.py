"""The maze study from the command line to its report, tiny."""

import json

from experiments.maze_depth import Arguments, run
from trm_jax.support.terminal.flags import Training


def test_a_tiny_study_trains_seeds_on_mazes_of_their_own_and_reports(tmp_path):
    options = (
        "task.train=8", "task.validation=4", "task.test=4", "task.shortest=3", "model.width=8", "model.layers=1",
        "model.heads=2", "run.chunk=2", "run.evaluate_every=2", "run.checkpoint_every=2", "run.batch=2",
        "optim.warmup=1", "recursion.N_sup=1", "recursion.n=1", "task.sides=[9]",
    )  # fmt: skip
    run(
        Arguments(
            preset="smoke", name="tiny", arms=("deep",), options=options, output=tmp_path, training=Training(steps=2)
        )
    )
    results = json.loads((tmp_path / "tiny" / "results.json").read_text())
    assert list(results["arms"]) == ["deep"]
    assert [(row["arm"], row["seed"]) for row in results["rows"]] == [
        ("deep", 0), ("deep", 1),
    ]  # fmt: skip
    assert all(0 <= row["shortest"] <= row["valid"] <= 1 for row in results["rows"])
    report = (tmp_path / "tiny" / "report.md").read_text()
    assert "Every seed draws its own mazes and split." in report
    assert "0.0% of the test mazes have the walls of a training maze" in report
    assert "Rule, written before the run" in report
