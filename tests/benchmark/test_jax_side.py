"""Our side: changed_fields that stop a comparison, operations, memory and halting."""

import numpy as np
import pytest

from trm_jax.benchmark import jax_side as ours
from trm_jax.benchmark.cases import random_data
from trm_jax.core.config import Config

SMALL = Config().override(**{"model.width": 8, "model.layers": 1, "recursion.N_sup": 2, "run.batch": 6})


def test_a_difference_between_the_sides_is_an_error_that_names_it():
    logits, gradients = np.array([1.0, 100.0]), {("a", "kernel"): np.array([3.0, 4.0]), ("initial_y",): np.zeros(2)}
    close = {("a", "kernel"): np.array([3.0, 4.0003])}
    assert ours.check_equal("x", (logits, gradients), (logits + 0.005, close)) == pytest.approx(7.5e-5, rel=1e-3)
    for other, what in (
        ((logits + 0.02, close), "logits differs by 2.0e-04"),
        ((logits, {("a", "kernel"): np.array([3.0, 4.001])}), "gradient of a/kernel"),
        ((logits, {}), "gradient of a/kernel"),
        ((logits, close | {("initial_y",): np.array([0.0, 1e-5])}), "gradient of initial_y"),
        ((logits, {("a", "kernel"): np.array([3.0, np.nan])}), "gradient of a/kernel"),
    ):
        with pytest.raises(ours.Mismatch, match=f"x: .*{what}"):
            ours.check_equal("x", (logits, gradients), other)


def test_operations_of_a_step_are_counted_without_recomputation():
    forward = ours.forward_flops(SMALL, 6)
    full, cut = (
        ours.training_flops(SMALL.override(**{"recursion.gradient": mode}), 6) for mode in ("full", "one_step")
    )
    assert full == pytest.approx(3 * forward, rel=0.03)
    evaluations = SMALL.recursion.T * (SMALL.recursion.n + 1)
    assert cut == pytest.approx(forward * (1 + 2 * 2 / evaluations), rel=0.05)


def temp(n: int, **options) -> float:
    config = SMALL.override(**{"recursion.T": 1, "recursion.N_sup": 1, "recursion.n": n} | options)
    return ours.temporary_mb(config)


def test_memory_of_a_truncated_gradient_stays_flat_and_that_of_a_stored_one_does_not():
    few, many = (temp(n, **{"recursion.gradient": "one_step"}) for n in (3, 15))
    assert 0 < many <= 1.05 * few
    assert temp(15, **{"recursion.remat": False}) > 3 * many


def test_segments_span_cycles():
    segments = temp(2, **{"recursion.T": 32, "recursion.segment": 6})  # stores every second cycle instead of all states
    assert segments < 0.6 * temp(2, **{"recursion.T": 32})


def test_halted_inference_uses_about_half_of_the_steps():
    config = SMALL.override(**{"recursion.N_sup": 6})
    calls, share = ours.halting_predictors(config, ours.weights(config), random_data(config, 12)["inputs"], 4)
    steps = np.asarray(calls["halted"]().steps)
    assert steps.mean() / 6 == pytest.approx(share) and 0.3 < share < 0.7
    assert calls["all steps"]().classes.shape == (6, 12, 16)
    halt = np.array([[0.1, 0.9, 0.2], [0.8, 0.1, 0.3], [0.9, 0.2, 0.4]])
    assert ours.stopping_steps(halt, 0.5).tolist() == [2, 1, 3] and ours.stopping_steps(halt, 0.9).tolist() == [3, 3, 3]
