"""A directory of results made with other options is refused; one without results is free."""

import json

import pytest

from trm_jax.support.files import refuse_other_options


def test_results_of_other_options_are_refused(tmp_path):
    path = tmp_path / "run" / "options.json"
    refuse_other_options(path, {"folds": (0, 1), "seed": 0}, "results")
    refuse_other_options(path, {"folds": (0, 2), "seed": 0}, "results")  # nothing was kept
    (path.parent / "result").touch()
    refuse_other_options(path, {"folds": (0, 2), "seed": 0}, "results")
    for options, names in (({"folds": (0, 2), "seed": 1}, "seed"), ({"folds": (0, 2)}, "seed"), ({}, "folds, seed")):
        with pytest.raises(ValueError, match=rf"run holds results with other options \({names}\); choose another"):
            refuse_other_options(path, options, "results")
    assert json.loads(path.read_text()) == {"folds": [0, 2], "seed": 0}
    path.write_text('{"folds": ')
    with pytest.raises(ValueError, match=r"options.json is damaged .*; choose another name or remove \S+run$"):
        refuse_other_options(path, {"folds": (0, 2), "seed": 0}, "results")
