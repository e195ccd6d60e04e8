"""Evaluation: all supervision steps, and padding that changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trm_jax.core import predict
from trm_jax.core.config import Config
from trm_jax.core.network import model

CONFIG = Config().override(**{"model.width": 8, "model.layers": 1, "recursion.N_sup": 4, "recursion.n": 1})
INPUTS = jnp.asarray(np.random.default_rng(0).integers(1, 6, (7, 16)), jnp.int32)
PARAMS = model.initialise(CONFIG.model, jax.random.key(1))


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_predictions_do_not_depend_on_the_batch_size(batch):
    predictions = predict.predict(CONFIG, PARAMS, INPUTS, batch=batch)
    outputs = model.forward(CONFIG, PARAMS, INPUTS)
    np.testing.assert_array_equal(predictions.classes, outputs.logits.argmax(-1))
    np.testing.assert_allclose(predictions.halt, jax.nn.sigmoid(outputs.q_halt), rtol=1e-6)


def test_evaluation_runs_all_supervision_steps():
    predictions = predict.predict(CONFIG, PARAMS, INPUTS)
    assert predictions.classes.shape == (4, 7, 16)
    x = model.embed(CONFIG, PARAMS, INPUTS)
    y, z = model.initial(CONFIG, PARAMS, 7)
    for step in range(4):
        y, z = model.supervision_step(CONFIG, PARAMS, x, y, z)
        np.testing.assert_array_equal(predictions.classes[step], model.heads(CONFIG, PARAMS, y).logits.argmax(-1))
    assert not np.array_equal(predictions.classes[0], predictions.classes[3])
