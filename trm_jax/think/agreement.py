"""Whether the model in the page computes what JAX computes, at every step."""

import base64
import json
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from trm_jax.core.config import Config
from trm_jax.core.predict import everything, predict
from trm_jax.think.browser import run_page
from trm_jax.think.weights import describe, javascript

TOLERANCE = 1e-4
"""Largest difference of probabilities, of classes or of halting, between page and JAX."""
_SCRIPT = """
const model = new Model(DESCRIPTION), values = [];
for (const input of INPUTS) {
  let state = model.start(input);
  for (let step = 0; step < STEPS; step++) {
    state = model.step(state);
    const {logits, halt} = model.read(state);
    for (let row = 0; row < logits.rows; row++)
      values.push(...softmax(logits.data.subarray(row * logits.columns, (row + 1) * logits.columns)));
    values.push(halt);
  }
}
const bytes = new Uint8Array(new Float32Array(values).buffer);
let text = "";
for (const byte of bytes) text += String.fromCharCode(byte);
show(btoa(text));
"""


def page_answers(config: Config, params: Any, inputs: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """What the page's model answers to N inputs: probabilities (steps, N, ..., classes) and halting (steps, N)."""
    values = {"DESCRIPTION": describe(config, params), "INPUTS": inputs.reshape(len(inputs), -1).tolist()}
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in (values | {"STEPS": steps}).items())
    page = f"<!DOCTYPE html><meta charset=utf-8><script>{javascript('matrix', 'images', 'model')}{constants}</script>"
    text = run_page(page, _SCRIPT)
    if text.startswith("error"):
        raise RuntimeError(f"the page's model fails: {text}")
    flat = np.frombuffer(base64.b64decode(text), np.float32).reshape(len(inputs), steps, -1).swapaxes(0, 1)
    shape = (*config.model.answer_shape, config.model.classes)
    return flat[..., :-1].reshape(steps, len(inputs), *shape), flat[..., -1]


def differences(config: Config, params: Any, inputs: np.ndarray, steps: int) -> np.ndarray:
    """Largest difference between page and JAX after each step (steps,), of any probability of any input."""
    deep = config.override(**{"recursion.N_sup": steps})
    output = predict(deep, params, inputs, reduce=everything, inference=True)
    expected, halt = softmax(np.asarray(output.logits, np.float64), axis=-1), expit(np.asarray(output.q_halt, float))
    probabilities, halting = page_answers(config, params, inputs, steps)
    classes = np.abs(probabilities - expected).reshape(steps, -1)
    return np.maximum(classes.max(axis=1), np.abs(halting - halt).max(axis=1))
