"""The training step as a pure function of state and data, and its scan over K steps.

A state here belongs to one model; `trm_jax.training.devices` runs many of them in one compiled program.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trm_jax.core import losses, optim
from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.sharding import shard_batch, tree_where
from trm_jax.core.task import Batch, Examples, Task
from trm_jax.support.schema import require


class TrainingData(NamedTuple):
    """What training draws from, on device."""

    arrays: Batch  # leading axis N
    cdf: Any  # (P, N) cumulated probabilities of drawing each sample in each phase; None draws all alike
    starts: Any  # (P,) update with which each phase begins
    shared: Mapping[str, Any]  # what augmentation needs besides the batch

    @property
    def size(self) -> int:
        """Number of samples N."""
        return self.arrays["labels"].shape[0]


class Carry(NamedTuple):
    """What a slot of the batch keeps between updates when supervision is carried (paper, Algorithm 3)."""

    batch: Batch
    y: Any
    z: Any
    steps: Any  # (B,) supervision steps this sample has had
    halted: Any  # (B,) the slot takes a new sample before the next step


class TrainState(NamedTuple):
    """Everything that training changes; resuming needs nothing else."""

    step: Any  # optimizer steps done
    params: Any
    optimizer: Any
    ema: Any
    key: Any  # constant; every draw folds the step into it
    carry: Carry | None


def training_data(examples: Examples, steps: int) -> TrainingData:
    """Samples as a training of so many updates draws them.

    Raises ValueError for samples without inputs or labels, or arrays of different lengths.
    """
    arrays = examples.arrays
    shapes = {name: np.shape(values) for name, values in arrays.items()}
    sizes = {shape[:1] for shape in shapes.values()}
    require(
        {"inputs", "labels"} <= set(shapes) and len(sizes) == 1 and not sizes & {(), (0,)},
        f"a task must give arrays inputs and labels with equally many samples, got shapes {shapes}",
    )
    cdf = None
    if examples.weights is not None:
        weights = examples.weights
        cdf = (np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    starts = np.array([round(phase * steps) for phase in examples.phases], np.int32)
    return TrainingData({name: _narrow(values) for name, values in arrays.items()}, cdf, starts, dict(examples.shared))


def _narrow(values):
    """Whole numbers in the fewest bytes that hold them, since the data stay on the device; others as they are."""
    if values.dtype not in (np.int32, np.int64):
        return values
    low, high = int(values.min()), int(values.max())
    fitting = [kind for kind in (np.int8, np.int16) if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max]
    return np.asarray(values).astype(fitting[0]) if fitting else values


def _wide(values):
    """What `_narrow` was given, as jax holds it."""
    return jnp.asarray(values).astype(jnp.int32) if values.dtype in (np.int8, np.int16) else jnp.asarray(values)


def init(config: Config, data: TrainingData, seed) -> TrainState:
    """State before the first update. ``seed`` decides weights and data order."""
    key = jax.random.key(seed)
    weights_key, training_key = jax.random.split(key)
    params = model.initialise(config.model, weights_key)
    carry = None
    if config.loss.supervision == "carried":
        batch = jax.tree.map(
            lambda leaf: _wide(jnp.zeros((config.run.batch, *leaf.shape[1:]), leaf.dtype)), data.arrays
        )
        y, z = model.initial(config, params, config.run.batch)
        zeros = jnp.zeros(config.run.batch, jnp.int32)
        carry = Carry(batch, y, z, zeros, jnp.ones(config.run.batch, bool))
    opt_state = optim.optimizer(config.optim, config.run.steps).init(optim.split_table(params)[0])
    ema = optim.init_ema(params, config.optim)
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state, ema, training_key, carry)


def draw_batch(config: Config, task: Task, data: TrainingData, key, step) -> Batch:
    """Draw B samples with replacement, by the sampling weights of the phase that ``step`` is in, and augment them."""
    index_key, augment_key = jax.random.split(key)
    if data.cdf is None:
        index = jax.random.randint(index_key, (config.run.batch,), 0, data.size)
    else:
        phase = jnp.searchsorted(data.starts, step, side="right") - 1
        uniform = jax.random.uniform(index_key, (config.run.batch,))
        index = jnp.searchsorted(jnp.asarray(data.cdf)[phase], uniform, side="right")
        index = jnp.minimum(index, data.size - 1)  # the last sum may be rounded to less than 1
    batch = {name: _wide(jnp.asarray(values)[index]) for name, values in data.arrays.items()}
    return shard_batch(task.augment(augment_key, batch, data.shared))


def train_step(config: Config, task: Task, state: TrainState, data: TrainingData) -> tuple[TrainState, dict[str, Any]]:
    """One optimizer update. Returns the new state and scalar metrics."""
    batch_key, explore_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    batch = draw_batch(config, task, data, batch_key, state.step)
    loss: Callable
    samples: tuple
    if config.loss.supervision == "carried":
        slots = _refill(config, state, batch)
        loss, samples = _carried_loss, (slots, minimum_steps(config, explore_key, slots.steps.shape))
    else:
        loss, samples = _summed_loss, (batch,)

    def trained(params, *samples):
        return loss(config, optim.held(config.optim, params), *samples)

    gradient, terms, carry = _gradient(trained, config.run.accumulate, state.params, samples)
    drawn = (batch if carry is None else carry.batch).get("puzzle")
    params, opt_state = _updated(config, state, gradient, drawn)
    metrics = {
        "loss": terms.total.sum(),
        "cross_entropy": terms.cross_entropy.sum(),
        "halt_loss": terms.halt.sum(),
        "exact": jnp.atleast_1d(terms.exact)[-1],  # after the last step, or over slots at any step if carried
        "gradient_norm": optax.tree.norm(gradient),
    }
    ema = optim.update_ema(config.optim, state.ema, params)
    return TrainState(state.step + 1, params, opt_state, ema, state.key, carry), metrics


def _gradient(loss, parts: int, params, samples):
    """Mean gradient and loss terms over the batch, and the carry, computed in so many parts one after another.

    ``samples`` are the arguments of the loss that have a leading axis B.
    """
    gradient = jax.grad(loss, has_aux=True)
    if parts == 1:
        total, (terms, carry) = gradient(params, *samples)
        return total, terms, carry

    # Every parts-th sample makes a part, so that devices which share a batch share each of its parts.
    def split(leaf):
        return leaf.reshape(-1, parts, *leaf.shape[1:]).swapaxes(0, 1)

    def join(leaf):
        return leaf.swapaxes(0, 1).reshape(-1, *leaf.shape[2:])

    def add(total, part):
        more, kept = gradient(params, *part)
        return jax.tree.map(jnp.add, total, more), kept

    zeros = jax.tree.map(jnp.zeros_like, params)
    total, (terms, carry) = jax.lax.scan(add, zeros, jax.tree.map(split, samples))
    total, terms = jax.tree.map(lambda leaf: leaf / parts, total), jax.tree.map(lambda leaf: leaf.mean(axis=0), terms)
    return total, terms, jax.tree.map(join, carry)


def _updated(config: Config, state: TrainState, gradient, drawn):
    """Weights and optimizer state after one update; ``drawn`` (B,) are the puzzles of the batch, None for the first."""
    (weights, table), (slope, table_slope) = optim.split_table(state.params), optim.split_table(gradient)
    updates, opt_state = optim.optimizer(config.optim, config.run.steps).update(slope, state.optimizer, weights)
    params = optax.apply_updates(weights, optim.still(config.optim, updates))
    if table is not None:
        drawn = jnp.zeros(1, jnp.int32) if drawn is None else drawn
        table = optim.update_table(config.optim, config.run.steps, table, table_slope, drawn, state.step)
        params = {**params, optim.TABLE: table}
    return params, opt_state


def _summed_loss(config: Config, params, batch: Batch):
    """All N_sup supervision steps from a fresh state; their losses are summed."""
    outputs = model.forward(config, params, batch["inputs"], batch.get("puzzle"))
    total, terms = losses.deep_supervision(config.loss, outputs, batch["labels"], batch.get("soft_targets"))
    return total, (terms, None)


def _refill(config: Config, state: TrainState, batch: Batch) -> Carry:
    """Give every halted slot a new sample, its labels and initial states; the others keep all of theirs."""
    assert state.carry is not None
    halted = state.carry.halted
    y, z = model.initial(config, state.params, config.run.batch)
    fresh = Carry(batch, y, z, jnp.zeros_like(state.carry.steps), jnp.zeros_like(halted))
    return tree_where(halted, fresh, state.carry)


def _carried_loss(config: Config, params, slots: Carry, minimum):
    """One supervision step from the carried state; says which slots halt after it, not before ``minimum`` (B,) steps
    (official code, ACT wrapper)."""
    batch, N_sup = slots.batch, config.recursion.N_sup
    x = model.embed(config, params, batch["inputs"], batch.get("puzzle"))
    y, z = model.supervision_step(config, params, x, slots.y, slots.z)
    output = model.heads(config, params, y)
    steps = slots.steps + 1
    last = steps >= N_sup
    target = None
    if config.loss.continue_loss:
        stopped = jax.lax.stop_gradient((params, x, y, z))
        following, _ = model.supervision_step(config, *stopped)
        target = losses.q_continue_target(model.heads(config, params, following), last)
    terms = losses.step_loss(config.loss, output, batch["labels"], target, batch.get("soft_targets"))
    stop = output.q_halt > (output.q_continue if config.loss.continue_loss else 0.0)
    halted = last | (stop & (steps >= minimum))
    y, z = jax.lax.stop_gradient((y, z))
    return terms.total, (terms, Carry(batch, y, z, steps, halted))


def minimum_steps(config: Config, key, shape):
    """Exploration, drawn per sample: with its probability a random minimum of 2..N_sup steps, else 0."""
    explore_key, steps_key = jax.random.split(key)
    explores = jax.random.bernoulli(explore_key, config.loss.exploration, shape)
    drawn = jax.random.randint(steps_key, shape, 2, config.recursion.N_sup + 1)
    return jnp.where(explores, drawn, 0)


def train_chunk(config: Config, task: Task, K: int, state: TrainState, data: TrainingData):
    """K training steps as one scan; metrics get a leading axis K."""

    def body(state, _):
        return train_step(config, task, state, data)

    return jax.lax.scan(body, state, None, length=K)


def eval_params(config: Config, state: TrainState):
    """Weights that are evaluated: the moving average, or the weights themselves where ema is 0."""
    if config.optim.ema == 0:
        return state.params
    return optim.debiased_ema(config.optim, state.ema, state.step)
