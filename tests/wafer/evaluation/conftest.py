"""A stored run, read and pooled once for all tests of evaluation."""

import pytest
from fake_wafer_run import SPLITS, WAFERS, write_baselines, write_run

from trm_jax.wafer.evaluation.pooled import pool
from trm_jax.wafer.evaluation.stored import read_run


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """Folder with a run, a run without a class, and baselines."""
    directory = tmp_path_factory.mktemp("runs")
    write_run(directory / "run", WAFERS, SPLITS)
    write_run(directory / "without-Donut", WAFERS, SPLITS, left_out="Donut")
    write_baselines(directory / "baselines", WAFERS, SPLITS)
    return directory


@pytest.fixture(scope="session")
def used(place):
    return read_run(place / "run", WAFERS, SPLITS)


@pytest.fixture(scope="session")
def pooled(used):
    return pool(used, WAFERS)
