"""A look at the arms of a study before anything is trained: their options, and what they will cost."""

import json
from collections.abc import Mapping

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import Task
from trm_jax.reporting.markdown import table
from trm_jax.study.arms import Arm
from trm_jax.support.terminal.flags import Training
from trm_jax.training.devices import run_mesh
from trm_jax.training.loop import begin, compile_chunk
from trm_jax.training.memory import Memory, describe, memory_limit, needed


def shown(arms: Mapping[str, Arm], flags: Training) -> bool:
    """Whether the flags ask for no more than a look at the arms, which is printed then."""
    if flags.show_config:
        print(json.dumps({name: arm.options for name, arm in arms.items()}, indent=2))
    elif flags.dry_run:
        print(cost_text(arms))
    return flags.show_config or flags.dry_run


def cost_text(arms: Mapping[str, Arm]) -> str:
    """Steps, parameters, FLOPs and memory of every arm as a table. Compiles the training step of each."""
    lines, too_large = [], []
    for name, arm in arms.items():
        config, run = arm.config, arm.config.run
        params = model.abstract_weights(config.model)
        flops = model.forward_flops(config, params)
        memory, limit = memory_of_run(arm.task, config)
        if memory.total > limit:
            too_large.append(f"`{name}` {describe(config, memory, limit)}")
        bytes_of_all = run_mesh(config).size * memory.total
        counts = [model.count_parameters(config.model, params), config.layer_applications, bytes_of_all // 2**20]
        size = [f"{run.steps:,}", len(run.seeds), run.batch, f"{flops / 1e6:,.2f}"]
        lines.append([f"`{name}`", *size, *(f"{count:,}" for count in counts)])
    columns = ["Arm", "Steps", "Seeds", "Batch", "MFLOP forward, an example", "Parameters", "Layer applications"]
    return "\n".join([table([*columns, "Memory of training, MiB"], lines), *too_large])


def memory_of_run(task: Task, config: Config) -> tuple[Memory, int]:
    """What training all seeds holds at once on a device, samples and state included, and how much there is."""
    mesh = run_mesh(config)
    training, data = begin(task, config, mesh)
    program = compile_chunk(task, config, min(config.run.chunk, config.run.steps), mesh, training.state, data)
    return needed(program), memory_limit(mesh)
