"""Configs of earlier versions say the same in the layout of today."""

import copy

import pytest

from trm_jax.core.config import Config, migrate
from trm_jax.core.model_config import ImageEncoder
from trm_jax.support.schema import from_dict

MODEL = {
    "width": 96, "layers": 2, "grid": [4, 4], "patch": 0, "image": 26, "stem_widths": [], "stem_convolutions": [],
    "forward_only": True, "views": 1,
}  # fmt: skip
OLD = {
    "model": MODEL,
    "recursion": {"N_sup": 3, "first_N_sup": 1, "first_share": 0.7},
    "loss": {}, "optim": {},
    "data": {"box": [2, 3], "blanks": [8, 10], "first_blanks": [6, 8], "first_share": 0.5, "loss_cells": "all"},
    "wafer": {"representation": "max", "noise": [0.01, 0.02]},
    "run": {"steps": 60, "seed_axis": "auto"},
}  # fmt: skip


def test_a_sudoku_config_becomes_a_task_and_the_rest():
    options = migrate(copy.deepcopy(OLD))
    curriculum = {"curriculum_blanks": [6, 8], "curriculum_fraction": 0.5}
    assert options.pop("task") == {"name": "sudoku", "box": [2, 3], "blanks": [8, 10], **curriculum}
    config = from_dict(options, Config)
    assert (config.model.encoder, config.model.width, config.run.steps) == (None, 96, 60)
    assert (config.recursion.curriculum_N_sup, config.recursion.curriculum_fraction) == (1, 0.7)


def test_a_wafer_config_gets_its_encoder():
    images = {"patch": 16, "image": 52, "stem_widths": [16, 32], "stem_convolutions": [1, 2], "views": 2}
    options = migrate(OLD | {"model": MODEL | images | {"readout": "pooled"}})
    assert options.pop("task") == {"name": "wafer", "representation": "max", "noise": [0.01, 0.02]}
    expected = ImageEncoder(image=52, channels=2, patch=16, widths=(16, 32), convolutions=(1, 2), views=2)
    assert from_dict(options, Config).model.encoder == expected


def test_a_config_of_today_stays_as_it_is_and_an_unknown_option_is_refused():
    today = {"task": {"name": "sudoku"}, "model": {"width": 8}}
    assert migrate(today) is today
    with pytest.raises(ValueError, match="unknown option 'breadth'"):
        options = migrate(OLD | {"model": MODEL | {"breadth": 3}})
        options.pop("task")
        from_dict(options, Config)
