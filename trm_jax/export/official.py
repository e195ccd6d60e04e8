"""What `experiments/official.py` does with checkpoints of the official code."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from trm_jax.core.config import Config, ModelConfig
from trm_jax.core.start import fitted
from trm_jax.core.task import Examples, Task, task_from_options
from trm_jax.export.samples import TOKEN_TASKS, samples_for
from trm_jax.export.settings import OfficialSettings
from trm_jax.export.source import read_source
from trm_jax.official import evaluate
from trm_jax.official.data import OfficialFolder, is_folder, read_part, repeated
from trm_jax.official.weights import read_checkpoint, write_checkpoint
from trm_jax.sudoku.csv_files import box_of, read_csv
from trm_jax.sudoku.puzzles import to_tokens
from trm_jax.sudoku.solver import Box
from trm_jax.sudoku.tables import read_table
from trm_jax.sudoku.task import Sudoku
from trm_jax.sudoku.think import chooser
from trm_jax.support.files import check_file, check_folder
from trm_jax.support.schema import parse_options, require
from trm_jax.training.checkpoint import load_weights, save_seeds, save_weights
from trm_jax.training.devices import to_host
from trm_jax.training.loop import fit

FINETUNE: dict[str, Any] = {
    "run.steps": 1000, "run.seeds": (0,), "run.chunk": 50, "run.evaluate_every": 250, "run.checkpoint_every": 250,
    "optim.warmup": 100,
}  # fmt: skip


def task_of(data: Path) -> Task:
    """The task of a data set."""
    if is_folder(data):
        return OfficialFolder(folder=str(data))
    require(data.is_file(), f"no data at {data}: give a folder with test/dataset.json, or a CSV file of Sudoku puzzles")
    table = read_table(data)
    box, validation = box_of(table), max(1, len(table.lines) // 10)
    return Sudoku((box.rows, box.cols), train_file=str(data), test_file=str(data), validation=validation)


def load(arguments: OfficialSettings) -> tuple[Config, Any, Task | None]:
    """The checkpoint, and the task of --data, or of the weights where there is none."""
    task = task_of(arguments.data) if arguments.data else None
    if arguments.checkpoint.is_dir():
        config, params, options = load_weights(arguments.checkpoint)
        kind = TOKEN_TASKS.get(options.get("name", ""))
        return config, params, task_from_options(kind, options) if task is None and kind else task
    dataset = read_part(str(arguments.data), "test").dataset if isinstance(task, OfficialFolder) else None
    if isinstance(task, Sudoku):
        side = task.box[0] * task.box[1]
        dataset = {"seq_len": side**2, "vocab_size": side + 2, "num_puzzle_identifiers": 1}
    found = read_checkpoint(arguments.checkpoint, arguments.config, dataset, arguments.key, arguments.puzzles)
    return *found, task


def test_examples(data: Path, limit: int) -> Examples:
    """Test examples of a data set: test/ of a folder, every row of a CSV file; the first ``limit`` of them."""
    if is_folder(data):
        repeated(str(data))
        examples = OfficialFolder(folder=str(data)).examples("test")
    else:
        examples = Examples(dict(zip(("inputs", "labels"), to_tokens(read_csv(data)), strict=True)))
    return examples.take(np.arange(min(limit or 2**62, len(examples.arrays["labels"]))))


def run_evaluate(arguments: OfficialSettings, published: Callable[[ModelConfig], tuple[str, float] | None]) -> None:
    """Print scores by supervision step, and how far they are from the published one of such a model."""
    config, params, task = load(arguments)
    require(arguments.data is not None, "evaluate needs --data")
    require(arguments.rollouts >= 0, f"--rollouts must not be negative, got {arguments.rollouts}")
    examples = test_examples(arguments.data, arguments.limit)  # type: ignore[arg-type]
    steps = max(arguments.steps, config.recursion.N_sup)
    scores = evaluate.evaluate(config, params, examples, steps, str(arguments.data))
    print(evaluate.table(scores, config.recursion.N_sup))
    print(evaluate.conclusion(scores, config.recursion.N_sup, "puzzles", published(config.model)))
    if arguments.rollouts:
        rules = partial(chooser, box=Box(*task.box)) if isinstance(task, Sudoku) else None
        chosen = evaluate.evaluate_rollouts(config, params, examples, arguments.rollouts, arguments.noise, rules)
        print(evaluate.rollout_table(chosen, arguments.noise))


def run_finetune(arguments: OfficialSettings) -> None:
    """Train from the checkpoint on --data, and print validation before and after."""
    directory = arguments.output
    if arguments.data is None or directory is None:
        raise ValueError("finetune needs --data and --output")
    require(not arguments.key, "finetune reads the checkpoint again by its path: `import` it with --key first")
    check_folder(directory)
    config, _, task = load(arguments)
    assert task is not None
    rows = {"model.puzzles": task.shape().get("model.puzzles", config.model.puzzles)}
    start = {"run.init": str(arguments.checkpoint), "run.init_puzzles": arguments.puzzles}
    config = config.override(**(FINETUNE | rows | start | parse_options(arguments.options)))
    training = fit(task, config, directory, directory.name)
    paths = save_seeds(directory, to_host(training.best.params), config, task)
    print(f"Best {task.metric} on validation: {', '.join(f'{score:.3f}' for score in to_host(training.best.score))}")
    print(f"Weights: {', '.join(map(str, paths))}")


def _output(arguments: OfficialSettings) -> Path:
    if arguments.output is None:
        raise ValueError(f"{arguments.command} needs --output")
    return arguments.output


def run_onnx(arguments: OfficialSettings) -> None:
    """Write a package of ONNX files, calibrated on and compared with inputs of the checkpoint's own task."""
    from trm_jax.export import package, report  # here: the other commands need no jax2onnx, which holds jax back

    output = _output(arguments)
    package.check_output(output)
    config, params, task = load(arguments)
    require(task is not None, "onnx of an official file needs --data")
    assert task is not None
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights"
        save_weights(weights, params, config, task)
        source = read_source(weights, puzzle=arguments.puzzle)
        samples = samples_for(source, (arguments.calibration, arguments.samples), None, None, False)
        print(report.make_package(output, source, samples, arguments))
    print(f"Package: {output}")


def run_copy(arguments: OfficialSettings) -> None:
    """Write the checkpoint as weights of ours, or as a file of the official code."""
    output = _output(arguments)
    if arguments.command == "export":
        check_file(output, force=True)
        config, params, _ = load(arguments)
        beside = write_checkpoint(output, config, params)
        print(f"Weights: {output}; config: {beside}")
        return
    check_folder(output)
    config, params, task = load(arguments)
    require(task is not None, "import needs --data, the data set of the checkpoint: its inputs go with the weights")
    assert task is not None
    save_weights(output, jax.tree.map(np.asarray, fitted(config.model, params)), config, task)
    print(f"Weights: {output}")
