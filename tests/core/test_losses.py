"""Losses against scipy and closed forms; what must not count has a gradient of exactly zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax

from trm_jax.core import losses
from trm_jax.core.config import LossConfig
from trm_jax.core.losses import IGNORE
from trm_jax.core.network.model import StepOutput

B, L, V, N_SUP = 3, 5, 4, 4
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (B, L, V)).astype(np.float32)
LABELS = RNG.integers(0, V, (B, L))
LABELS[0, :2] = LABELS[2] = IGNORE


def stablemax(logits):
    """Log-probabilities of stablemax by its definition, in float64."""
    logits = np.float64(logits)
    with np.errstate(divide="ignore"):  # the branch that is not taken
        s = np.where(logits >= 0, logits + 1, 1 / (1 - logits))
    return np.log(s / s.sum(axis=-1, keepdims=True))


step_loss = jax.jit(losses.step_loss, static_argnums=0)
cross_entropy = jax.jit(losses.cross_entropy, static_argnums=0)
NORMALISERS = {"softmax": lambda logits: log_softmax(np.float64(logits), axis=-1), "stablemax": stablemax}


def cell_losses(logits, labels, kind, weights=(1.0,) * V):
    """Cross-entropy cell by cell, in float64."""
    expected = np.zeros(labels.shape)
    for cell in np.argwhere(labels != IGNORE):
        label = labels[tuple(cell)]
        expected[tuple(cell)] = -weights[label] * NORMALISERS[kind](logits[tuple(cell)])[label]
    return expected


def binary(logit, target):
    """Binary cross-entropy by its definition, in float64."""
    probability = expit(np.float64(logit))
    return -(target * np.log(probability) + (1 - target) * np.log1p(-probability))


@pytest.mark.parametrize("weights", [(), (1.0, 0.5, 2.0, 0.0)])
@pytest.mark.parametrize("kind", NORMALISERS)
def test_cross_entropy_equals_its_definition(kind, weights):
    found = cross_entropy(LossConfig(cross_entropy=kind, class_weights=weights), LOGITS, LABELS)
    np.testing.assert_allclose(found, cell_losses(LOGITS, LABELS, kind, weights or (1.0,) * V), rtol=1e-5, atol=1e-6)
    assert found.shape == LABELS.shape and np.count_nonzero(found) >= 5


@pytest.mark.parametrize("kind", NORMALISERS)
def test_smoothed_and_taught_targets_equal_their_definition(kind):
    """The target is a mix of the label, all classes alike and what the teacher says."""
    teacher = RNG.dirichlet(np.ones(V), (B, L)).astype(np.float32)
    config = LossConfig(cross_entropy=kind, label_smoothing=0.2, distillation=0.75)
    target = 0.25 * (0.8 * np.eye(V)[np.maximum(LABELS, 0)] + 0.2 / V) + 0.75 * teacher
    expected = np.where(LABELS == IGNORE, 0, -(target * NORMALISERS[kind](LOGITS)).sum(axis=-1))
    np.testing.assert_allclose(cross_entropy(config, LOGITS, LABELS, teacher), expected, rtol=1e-5, atol=1e-6)
    config = LossConfig(cross_entropy=kind)
    np.testing.assert_array_equal(cross_entropy(config, LOGITS, LABELS, teacher), cross_entropy(config, LOGITS, LABELS))
    with pytest.raises(ValueError, match="needs soft targets, and the task has none"):
        cross_entropy(LossConfig(distillation=0.5), LOGITS, LABELS)


@pytest.mark.parametrize("kind", NORMALISERS)
def test_ignored_cells_count_nothing_and_get_no_gradient(kind):
    config = LossConfig(cross_entropy=kind)

    @jax.jit
    def loss(logits):
        return step_loss(config, StepOutput(logits, jnp.zeros(B), jnp.zeros(B)), LABELS).cross_entropy

    gradient = np.asarray(jax.grad(loss)(LOGITS))
    counted = LABELS != IGNORE
    assert not gradient[~counted].any() and gradient[counted].all(axis=-1).all()
    changed = np.where(counted[..., None], LOGITS, -LOGITS)
    assert loss(changed) == loss(LOGITS) > 0
    # The mean is over the counted cells of a sample, then over samples; one without such cells adds zero.
    cells = cell_losses(LOGITS, LABELS, kind)
    expected = (cells[0].sum() / 3 + cells[1].mean() + 0) / 3
    np.testing.assert_allclose(loss(LOGITS), expected, rtol=1e-6)


def test_stablemax_equals_its_definition_on_both_sides_and_for_large_values():
    sizes = np.concatenate([[0.0], np.logspace(-6, 30, 37)])
    logits = np.float32(np.stack([np.concatenate([-sizes, sizes]), np.zeros(2 * len(sizes))], axis=-1))
    found = jax.jit(losses.log_stablemax)(logits)
    np.testing.assert_allclose(found, stablemax(logits), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(losses.log_stablemax(LOGITS), stablemax(LOGITS), rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda v: losses.log_stablemax(v)[:, 1].sum()))(logits)
    assert np.isfinite(found).all() and np.isfinite(gradient).all()


def test_stablemax_has_slope_one_at_zero():
    gradient = jax.jit(jax.grad(lambda v: losses.log_stablemax(v)[0]))(jnp.zeros(V))
    np.testing.assert_allclose(gradient, [1 - 1 / V, -1 / V, -1 / V, -1 / V], rtol=1e-6)


def test_binary_cross_entropy_equals_its_definition_and_does_not_overflow():
    logits, targets = np.float32([-9, -2, 0, 0.5, 3, 12]), np.float32([0, 1, 0.25, 1, 0, 1])
    np.testing.assert_allclose(
        losses.binary_cross_entropy(logits, targets), binary(logits, targets), rtol=1e-5, atol=1e-6
    )
    large = losses.binary_cross_entropy(np.float32([1e4, -1e4, 1e4, -1e4]), np.float32([1, 0, 0, 1]))
    np.testing.assert_allclose(large, [0, 0, 1e4, 1e4])


def test_sequence_right_asks_for_every_counted_cell():
    labels = np.array([[0, 1, 2], [0, 1, 2], [0, IGNORE, 2], [IGNORE] * 3, [IGNORE, 1, IGNORE]])
    answers = np.array([[0, 1, 2], [0, 1, 3], [0, 3, 2], [0, 1, 2], [3, 2, 3]])
    found = losses.sequence_correct(jax.nn.one_hot(answers, V), labels)
    assert found.tolist() == [True, False, True, False, False]
    pooled = losses.sequence_correct(jax.nn.one_hot(np.array([2, 1, 0]), V), np.array([2, 0, IGNORE]))
    assert pooled.tolist() == [True, False, False]


def test_step_terms_weigh_the_halting_losses_and_pass_no_gradient_to_the_target():
    config = LossConfig(halt_weight=0.25)
    logits = jax.nn.one_hot(np.where(LABELS == IGNORE, 0, LABELS), V) * 5  # samples 0 and 1 are right, 2 counts nothing
    halt, q_continue, target = np.float32([[1, -2, 3], [0.5, -1, 2], [0.2, 0.9, 0.6]])
    terms = step_loss(config, StepOutput(logits, halt, q_continue), LABELS, target)
    np.testing.assert_allclose(terms.halt, binary(halt, np.array([1, 1, 0])).mean(), rtol=1e-6)
    np.testing.assert_allclose(terms.q_continue, binary(q_continue, target).mean(), rtol=1e-6)
    np.testing.assert_allclose(terms.total, terms.cross_entropy + 0.25 * (terms.halt + terms.q_continue), rtol=1e-6)
    np.testing.assert_allclose(terms.exact, 2 / 3, rtol=1e-6)
    assert step_loss(config, StepOutput(logits, halt, q_continue), LABELS).q_continue == 0

    def total(q_continue, target):
        return step_loss(config, StepOutput(logits, halt, q_continue), LABELS, target).total

    by_logit, by_target = jax.jit(jax.grad(total, argnums=(0, 1)))(q_continue, target)
    np.testing.assert_allclose(by_logit, 0.25 * (expit(q_continue) - target) / B, rtol=1e-5)
    assert not by_target.any()


@pytest.mark.parametrize("kind", NORMALISERS)
def test_a_pooled_label_is_one_cell(kind):
    logits, labels = LOGITS[:, 0], np.array([3, IGNORE, 1])
    config = LossConfig(cross_entropy=kind)
    terms = step_loss(config, StepOutput(logits, np.zeros(B), np.zeros(B)), labels)
    np.testing.assert_allclose(terms.cross_entropy, cell_losses(logits, labels, kind).mean(), rtol=1e-6)
    right = (logits.argmax(axis=-1) == labels).mean()
    np.testing.assert_allclose(terms.exact, right, rtol=1e-6)
    np.testing.assert_allclose(terms.halt, np.log(2), rtol=1e-6)


def outputs() -> StepOutput:
    rng = np.random.default_rng(1)
    halt, q_continue = rng.normal(0, 2, (2, N_SUP, B)).astype(np.float32)
    return StepOutput(rng.normal(0, 3, (N_SUP, B, L, V)).astype(np.float32), halt, q_continue)


@pytest.mark.parametrize("continue_loss", [False, True])
def test_deep_supervision_is_the_sum_of_its_steps(continue_loss):
    config = LossConfig(continue_loss=continue_loss, cross_entropy="stablemax")
    total, terms = jax.jit(losses.deep_supervision, static_argnums=0)(config, outputs(), LABELS)
    targets = [None] * N_SUP
    if continue_loss:
        for k in range(N_SUP - 1):
            halt, q_continue = outputs().q_halt[k + 1], outputs().q_continue[k + 1]
            targets[k] = expit(halt if k + 1 == N_SUP - 1 else np.maximum(halt, q_continue)).astype(np.float32)
    for k in range(N_SUP):
        output = StepOutput(*(leaf[k] for leaf in outputs()))
        expected = step_loss(config, output, LABELS, targets[k])
        np.testing.assert_allclose([term[k] for term in terms], expected, rtol=1e-5)
        assert (expected.q_continue > 0) == (continue_loss and k + 1 < N_SUP)
    np.testing.assert_allclose(total, terms.total.sum(), rtol=1e-6)
    assert len(set(terms.total.tolist())) == N_SUP


def test_the_value_of_going_on_is_the_better_choice_of_the_next_step_or_its_halting_value_at_the_end():
    following = StepOutput(None, np.float32([2, -1, 2, -1]), np.float32([-3, 4, 5, -6]))
    last = np.array([False, False, True, True])
    np.testing.assert_allclose(losses.q_continue_target(following, last), expit([2, 4, 2, -1]), rtol=1e-6)


def test_the_continue_loss_sends_no_gradient_to_the_step_after():
    config = LossConfig(continue_loss=True)

    def total(halt, q_continue):
        return losses.deep_supervision(config, StepOutput(outputs().logits, halt, q_continue), LABELS)[0]

    by_halt, by_go_on = jax.jit(jax.grad(total, argnums=(0, 1)))(outputs().q_halt, outputs().q_continue)
    right = np.stack([losses.sequence_correct(logits, LABELS) for logits in outputs().logits])
    np.testing.assert_allclose(by_halt, 0.5 * (expit(outputs().q_halt) - right) / B, rtol=1e-5)
    assert not by_go_on[-1].any() and by_go_on[:-1].all()
