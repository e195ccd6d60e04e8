"""Memory as the compiler tells it: exact where it is known, less where an option says so, and named in words."""

import jax
import numpy as np
import pytest
from toys import Toy

from trm_jax.core import train_step
from trm_jax.core.config import Config
from trm_jax.study.preview import memory_of_run
from trm_jax.training.memory import Memory, advice, describe

CONFIG = Config().override(
    **{"model.width": 8, "model.layers": 1, "recursion.N_sup": 1, "recursion.T": 1, "recursion.n": 1, "run.batch": 8,
       "run.seeds": (0, 1, 2, 3)}
)  # fmt: skip
TASK = Toy({"inputs": np.ones((9, 16), np.int32), "labels": np.ones((9, 16), np.int32)})
GIB = 2**30
# A batch of the paper in bfloat16, on a board of 30 x 30.
WIDE = Config().override(
    **{"model.width": 512, "model.heads": 8, "model.grid": (30, 30), "model.mixer": "attention",
       "model.positions": "rotary_2d", "model.relations": "lines", "model.dtype": "bfloat16",
       "model.hidden_multiple": 256, "recursion.T": 3, "recursion.n": 6, "loss.supervision": "carried",
       "recursion.gradient": "last_cycle", "run.batch": 768, "run.seeds": (0,), "run.data_parallel": 1,
       "recursion.N_sup": 16}
)  # fmt: skip


def test_state_and_data_are_counted_to_the_byte_and_arithmetic_comes_on_top():
    memory, limit = memory_of_run(TASK, CONFIG)
    data = train_step.training_data(TASK.examples("train"), CONFIG.run.steps)
    state = jax.eval_shape(lambda: train_step.init(CONFIG, data, 0))
    per_seed = sum(jax.eval_shape(jax.random.key_data, leaf).size * 4 if str(leaf.dtype).startswith("key")
                   else leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))  # fmt: skip
    assert memory.arguments == 2 * per_seed + 2 * 9 * 16  # two seeds on each of two devices
    assert 1e4 < memory.temporary < 1e7 and limit > GIB


def test_words_say_what_does_not_fit_and_what_to_lower():
    memory = Memory(20 * 10**9, 90 * 10**9)
    fits = describe(CONFIG, memory, 200 * 10**9)
    assert fits == "needs 110 GB on each device (state and data 20 GB, while it computes 90 GB), of 200 GB"
    assert describe(CONFIG, memory, 80 * 10**9).endswith(
        "of 80 GB; set run.accumulate=2, or set model.dtype=bfloat16, or set recursion.segment=2"
    )
    stored = CONFIG.override(**{"recursion.remat": False, "run.seeds_at_once": 4, "run.accumulate": 2})
    assert advice(stored)[:3] == ["set recursion.remat=true", "set run.seeds_at_once=2", "set run.accumulate=4"]
    wide = CONFIG.override(**{"run.batch": 768, "run.seeds_at_once": 4, "model.dtype": "bfloat16"})
    assert "; set run.seeds_at_once=1, or set run.accumulate=12, or" in describe(
        wide, Memory(5 * 10**9, 200 * 10**9), 25 * 10**9
    )  # ten times too large: the next number of parts that divides the batch
    least = CONFIG.override(**{"run.accumulate": 8, "model.dtype": "bfloat16", "recursion.segment": 2})
    assert advice(least) == ["choose a smaller model or batch"]


@pytest.mark.slow
def test_attention_of_900_tokens_fits_a_gpu_of_80_gb_in_parts():
    """Compiled for a processor, which writes the scores out: an upper bound of what the fused kernel needs."""
    shape = (8, 900)
    task = Toy({"inputs": np.ones(shape, np.int32), "labels": np.ones(shape, np.int32)})
    config = WIDE.override(**{"run.accumulate": 32, "run.chunk": 2, "run.evaluate_every": 2, "run.checkpoint_every": 2})
    memory, _ = memory_of_run(task, config)
    assert memory.total < 80e9, describe(config, memory, 80 * 10**9)
    whole, _ = memory_of_run(task, config.override(**{"run.accumulate": 1}))
    assert whole.total > 80e9
