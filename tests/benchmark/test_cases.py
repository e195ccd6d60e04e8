"""Every case can be named, and sizes are those of the studies."""

import pytest

from trm_jax.benchmark import cases


def test_cases_have_names_of_their_own_and_equal_numbers_of_evaluations():
    standard = cases.all_cases("standard")
    assert len({case.name for case in standard}) == len(standard) > 30
    training = [case for case in standard if case.name.startswith("training/")]
    assert {case.config.layer_applications for case in training} == {36}
    assert {case.config.model.form for case in training} == {"alternating", "joint"}
    wafer = next(case.config for case in standard if case.name.startswith("wafer"))
    assert (wafer.model.tokens, wafer.recursion.T, wafer.recursion.n, wafer.recursion.N_sup) == (49, 2, 3, 3)
    teaching = next(case.config for case in standard if case.name.startswith("teaching"))
    assert (teaching.model.net_width, teaching.layer_applications) == (144, 24)
    smoke = {case.name for case in cases.all_cases("smoke")}
    assert 0 < len(smoke) < 7 and smoke <= {case.name for case in standard}
    assert {case.name.split("/")[0] for case in cases.choose(standard, ("wafer", "seeds", "growth"))} == {
        "wafer",
        "seeds",
    }
    with pytest.raises(ValueError, match=r"begins with 'trainings'; there are training, .*growth"):
        cases.choose(standard, ("trainings",))
