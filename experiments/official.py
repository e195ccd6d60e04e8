"""Checkpoints of the official PyTorch TRM: score them, take them over, give them back, fine-tune and export them.

    python experiments/official.py evaluate --checkpoint step_65100 --data data/sudoku-extreme-1k-aug-1000
    python experiments/official.py evaluate --checkpoint step_65100 --data test.csv --limit 2000 --steps 64
    python experiments/official.py import   --checkpoint step_65100 --data data/... --output checkpoints/official
    python experiments/official.py finetune --checkpoint step_65100 --data my_data --output runs/mine
    python experiments/official.py export   --checkpoint runs/mine/weights-0 --output mine.pt
    python experiments/official.py onnx     --checkpoint step_65100 --data data/... --output runs/official-package

A checkpoint is a file of the official code (its all_config.yaml lies beside it, or is given by --config) or weights of
ours. Data are a folder in the official layout (train/, test/, each with dataset.json) or a CSV file of Sudoku puzzles.
`export` writes what pretrain.py loads with load_checkpoint=. docs/official.md has examples with their output.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

from trm_jax.core.config import Config
from trm_jax.core.start import Puzzles, fitted
from trm_jax.core.task import Examples, Task, task_from_options
from trm_jax.export import package
from trm_jax.export.report import make_package
from trm_jax.export.samples import TOKEN_TASKS, samples_for
from trm_jax.export.source import read_source
from trm_jax.official import evaluate
from trm_jax.official.checkpoint import read_checkpoint, write_checkpoint
from trm_jax.official.data import OfficialFolder, is_folder, read_part, repeated
from trm_jax.study.published import published_exact
from trm_jax.sudoku.csv_files import box_of, read_csv
from trm_jax.sudoku.puzzles import to_tokens
from trm_jax.sudoku.tables import read_table
from trm_jax.sudoku.task import Sudoku
from trm_jax.support.cli import main
from trm_jax.support.schema import parse_options, require
from trm_jax.training.checkpoint import load_weights, save_seeds, save_weights
from trm_jax.training.devices import to_host
from trm_jax.training.loop import fit
from trm_jax.training.processes import configure

FINETUNE: dict[str, Any] = {
    "run.steps": 1000, "run.seeds": (0,), "run.chunk": 50, "run.evaluate_every": 250, "run.checkpoint_every": 250,
    "optim.warmup": 100,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Arguments(package.Settings):
    """Score, take over, give back, fine-tune or export a checkpoint of the official code."""

    command: tyro.conf.Positional[Literal["evaluate", "import", "export", "finetune", "onnx"]]
    """What to do."""
    checkpoint: Path
    """File of the official code (step_N, .pt, .ckpt, .safetensors, .npz), or directory of weights of ours."""
    config: Path | None = None
    """Its all_config.yaml, or a JSON of the same fields; all_config.yaml beside the checkpoint if not given."""
    data: Path | None = None
    """Folder in the official layout, or CSV file of Sudoku puzzles."""
    key: str = ""
    """Name of the weights in a file that holds more."""
    puzzles: Puzzles = "keep"
    """Puzzle vectors where their number differs: keep (an error), enlarge (new ones at the mean), reset (all there)."""
    output: Path | None = None
    """What is written: a directory by import, finetune (a run) and onnx, a file by export (.pt, .safetensors, .npz)."""
    steps: int = 0
    """evaluate: supervision steps, more than trained with if you like; 0 for those."""
    limit: int = 0
    """evaluate: test examples, the first ones; 0 for all."""
    options: tuple[str, ...] = ()
    """finetune: options, e.g. run.steps=5000 optim.learning_rate=3e-5; values as in JSON."""
    puzzle: int | None = None
    """onnx: puzzle identifier whose vector becomes part of the files, where there are several."""
    calibration: int = 180
    """onnx: training inputs that set the ranges of int8."""
    samples: int = 500
    """onnx: test inputs to compare the files on."""


def task_of(data: Path) -> Task:
    """The task of a data set."""
    if is_folder(data):
        return OfficialFolder(folder=str(data))
    require(data.is_file(), f"no data at {data}: give a folder with test/dataset.json, or a CSV file of Sudoku puzzles")
    table = read_table(data)
    box, validation = box_of(table), max(1, len(table.lines) // 10)
    return Sudoku((box.rows, box.cols), train_file=str(data), test_file=str(data), validation=validation)


def load(arguments: Arguments) -> tuple[Config, Any, Task | None]:
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
    return found.config, found.params, task


def test_examples(data: Path, limit: int) -> Examples:
    """Test examples of a data set: test/ of a folder, every row of a CSV file; the first ``limit`` of them."""
    if is_folder(data):
        repeated(str(data))
        examples = OfficialFolder(folder=str(data)).examples("test")
    else:
        examples = Examples(dict(zip(("inputs", "labels"), to_tokens(read_csv(data)), strict=True)))
    return examples.take(np.arange(min(limit or 2**62, len(examples.arrays["labels"]))))


def run_evaluate(arguments: Arguments) -> None:
    """Print scores by supervision step, and how far they are from the published one."""
    config, params, _ = load(arguments)
    require(arguments.data is not None, "evaluate needs --data")
    examples = test_examples(arguments.data, arguments.limit)  # type: ignore[arg-type]
    steps = max(arguments.steps, config.recursion.N_sup)
    scores = evaluate.evaluate(config, params, examples, steps, str(arguments.data))
    print(evaluate.table(scores, config.recursion.N_sup))
    print(evaluate.conclusion(scores, config.recursion.N_sup, "puzzles", published_exact(config.model)))


def run_finetune(arguments: Arguments) -> None:
    """Train from the checkpoint on --data, and print validation before and after."""
    config, _, task = load(arguments)
    directory = arguments.output
    require(arguments.data is not None and directory is not None, "finetune needs --data and --output")
    require(not arguments.key, "finetune reads the checkpoint again by its path: `import` it with --key first")
    assert task is not None and directory is not None
    rows = {"model.puzzles": task.shape().get("model.puzzles", config.model.puzzles)}
    start = {"run.init": str(arguments.checkpoint), "run.init_puzzles": arguments.puzzles}
    config = config.override(**(FINETUNE | rows | start | parse_options(arguments.options)))
    training = fit(task, config, directory, directory.name)
    paths = save_seeds(directory, to_host(training.best.params), config, task)
    print(f"Best {task.metric} on validation: {', '.join(f'{score:.3f}' for score in to_host(training.best.score))}")
    print(f"Weights: {', '.join(map(str, paths))}")


def run_onnx(arguments: Arguments) -> None:
    """Write a package of ONNX files, calibrated on and compared with inputs of the checkpoint's own task."""
    config, params, task = load(arguments)
    output = arguments.output
    require(output is not None and task is not None, "onnx needs --output and, for an official file, --data")
    assert output is not None and task is not None
    package.check_output(output)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights"
        save_weights(weights, params, config, task)
        source = read_source(weights, puzzle=arguments.puzzle)
        samples = samples_for(source, (arguments.calibration, arguments.samples), None, None, False)
        print(make_package(output, source, samples, arguments))
    print(f"Package: {output}")


def run_copy(arguments: Arguments) -> None:
    """Write the checkpoint as weights of ours, or as a file of the official code."""
    config, params, task = load(arguments)
    output = arguments.output
    require(output is not None, f"{arguments.command} needs --output")
    assert output is not None
    if arguments.command == "export":
        beside = write_checkpoint(output, config, params)
        print(f"Weights: {output}; config: {beside}")
        return
    require(task is not None, "import needs --data, the data set of the checkpoint: its inputs go with the weights")
    assert task is not None
    save_weights(output, jax.tree.map(np.asarray, fitted(config.model, params)), config, task)
    print(f"Weights: {output}")


def run(arguments: Arguments) -> None:
    """Do what the command says."""
    commands = {"evaluate": run_evaluate, "finetune": run_finetune, "onnx": run_onnx}
    commands.get(arguments.command, run_copy)(arguments)


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
