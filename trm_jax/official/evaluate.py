"""What weights score on a data set, supervision step by supervision step, as the official code counts it."""

import sys
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from trm_jax.core import predict
from trm_jax.core.config import Config
from trm_jax.core.rollouts import CHOICES, right_by_count, rollouts
from trm_jax.core.task import IGNORE, Examples, check_tokens
from trm_jax.reporting.interval import Interval, wilson
from trm_jax.support.schema import require

CHUNK = 1024
"""Examples answered in one call."""


class Scores(NamedTuple):
    """Shares over N examples after each of K supervision steps, and where the halting rule stops."""

    exact: np.ndarray  # (K,) every counted cell right
    cells: np.ndarray  # (K,) mean over the examples of the share of counted cells that are right
    halted: np.ndarray  # (K,) examples whose halting logit has been above 0 by then
    stopped: np.ndarray  # (K,) exact where every example stops at its first such step, at step K at the latest
    mean_steps: np.ndarray  # (K,) steps that takes
    examples: int
    """N."""

    def interval(self, step: int) -> Interval:
        """Exact after a step (from 1) with its 95 % interval."""
        return wilson(round(float(self.exact[step - 1]) * self.examples), self.examples)


def evaluate(config: Config, params: Any, examples: Examples, steps: int = 0, what: str = "data") -> Scores:
    """Score weights after each of ``steps`` supervision steps (0: N_sup), more than they were trained with if asked.

    Raises ValueError for tokens or identifiers that the model does not have, or examples without a counted cell.
    """
    arrays = examples.arrays
    check_tokens(config.model, arrays, what)
    config = config.override(**{"recursion.N_sup": steps or config.recursion.N_sup})
    size = min(CHUNK, len(arrays["labels"]))
    answer = jax.jit(partial(predict.predict, config, batch=min(size, predict.BATCH), inference=True))
    parts = []
    for start in tqdm(range(0, len(arrays["labels"]), size), desc="evaluate", file=sys.stderr, disable=None):
        rows = np.minimum(np.arange(start, start + size), len(arrays["labels"]) - 1)  # the last again: one program
        labels, puzzle = arrays["labels"][rows], arrays["puzzle"][rows] if "puzzle" in arrays else None
        prediction = jax.device_get(answer(params, arrays["inputs"][rows], puzzle))
        counted = labels != IGNORE
        require(bool(counted.any(axis=1).all()), f"{what}: an example has no cell that counts")
        right = (prediction.classes == labels) & counted
        kept = min(size, len(arrays["labels"]) - start)
        values = (
            right.sum(axis=2) == counted.sum(axis=1),
            right.sum(axis=2) / counted.sum(axis=1),
            prediction.halt > 0.5,
        )
        parts.append([value[:, :kept] for value in values])
    return _summary(*(np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)))


def evaluate_rollouts(
    config: Config, params: Any, examples: Examples, K: int, noise: float, chooser: Any = None
) -> dict[tuple[int, str], float]:
    """Exact after N_sup steps by number of rollouts, 1, 2, 4, ... K, and by how the answer is chosen among them.

    Noise of this size is added to y and z before every step, with seed 0; ``chooser`` makes one more way to choose for
    some inputs (N, L), named rules.
    """
    rights: list[dict[tuple[int, str], np.ndarray]] = []
    count = len(examples.arrays["labels"])
    size = min(CHUNK, count)
    for start in tqdm(range(0, count, size), desc=f"{K} rollouts", file=sys.stderr, disable=None):
        arrays = examples.take(np.minimum(np.arange(start, start + size), count - 1)).arrays  # one program, as above
        key = jax.random.fold_in(jax.random.key(0), start)
        found = jax.device_get(rollouts(config, params, arrays["inputs"], key, K, noise, arrays.get("puzzle")))
        choices = CHOICES | ({"rules": chooser(arrays["inputs"])} if chooser else {})
        rights.append(right_by_count(found, arrays["labels"], choices))
    return {name: float(np.concatenate([right[name] for right in rights])[:count].mean()) for name in rights[0]}


def rollout_table(scores: dict[tuple[int, str], float], noise: float) -> str:
    """Exact in percent, a line for each number of rollouts, a column for each way to choose."""
    choices = list(dict.fromkeys(choice for _, choice in scores))
    lines = [f"Rollouts with noise of size {noise:g}, exact by how the answer is chosen:"]
    lines.append("tries  " + "  ".join(f"{choice:>8s}" for choice in choices))
    for count in dict.fromkeys(count for count, _ in scores):
        lines.append(f"{count:5d}  " + "  ".join(f"{100 * scores[count, choice]:6.1f} %" for choice in choices))
    return "\n".join(lines)


def _summary(exact: np.ndarray, cells: np.ndarray, halts: np.ndarray) -> Scores:
    """Scores of (K, N) values of each example."""
    halted = np.maximum.accumulate(halts, axis=0)
    steps, count = exact.shape
    first = np.where(halted[-1], halts.argmax(axis=0), steps)  # index of the first step above 0; K if there is none
    stop = np.minimum(first[None], np.arange(steps)[:, None])  # (K, N) where it stops with K steps at most
    stopped = np.take_along_axis(exact, stop, axis=0)
    means = [values.mean(axis=1) for values in (exact, cells, halted, stopped, stop + 1)]
    return Scores(means[0], means[1], means[2], means[3], means[4], count)


def table(scores: Scores, N_sup: int) -> str:
    """Lines by supervision step: all of the trained ones, then those that double them, and the last."""
    steps = len(scores.exact)
    deeper = {N_sup * 2**k for k in range(1, 20)} | {steps}
    shown = [step for step in range(1, steps + 1) if step <= N_sup or step in deeper]
    lines = ["step   exact    cells   halted   exact, if it stops (mean steps)"]
    for step in shown:
        row = [100 * float(values[step - 1]) for values in scores[:4]]
        note = "  <- trained" if step == N_sup and steps > N_sup else ""
        lines.append(
            f"{step:4d}  {row[0]:5.1f} %  {row[1]:5.1f} %  {row[2]:5.1f} %  {row[3]:5.1f} % "
            f"({scores.mean_steps[step - 1]:.2f}){note}"
        )
    return "\n".join(lines)


def conclusion(scores: Scores, N_sup: int, unit: str, published: tuple[str, float] | None) -> str:
    """A sentence on the score after the trained steps, and how far it is from the published one."""
    exact = scores.interval(min(N_sup, len(scores.exact))).percent
    text = f"After {N_sup} supervision steps {exact:.1f} % of {scores.examples:,} {unit} are exact (95 % interval)."
    if published is None:
        return f"{text} No published number belongs to this model."
    name, number = published
    inside = "inside" if exact.low <= number <= exact.high else "outside"
    return (
        f"{text} Published for {name}: {number:.1f} %; this is {exact.value - number:+.1f} points from it, which lies "
        f"{inside} the interval of these {unit}."
    )
