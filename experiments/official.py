"""Checkpoints of the official PyTorch TRM: score them, take them over, give them back, fine-tune and export them.

    python experiments/official.py evaluate --checkpoint step_65100 --data data/sudoku-extreme-1k-aug-1000
    python experiments/official.py evaluate --checkpoint step_65100 --data test.csv --steps 64 --rollouts 16
    python experiments/official.py import   --checkpoint step_65100 --data data/... --output checkpoints/official
    python experiments/official.py finetune --checkpoint step_65100 --data my_data --output runs/mine
    python experiments/official.py export   --checkpoint runs/mine/weights-0 --output mine.pt
    python experiments/official.py onnx     --checkpoint step_65100 --data data/... --output runs/official-package

A checkpoint is a file of the official code (its all_config.yaml lies beside it, or is given by --config) or weights of
ours. Data are a folder in the official layout (train/, test/, each with dataset.json) or a CSV file of Sudoku puzzles.
`export` writes what pretrain.py loads with load_checkpoint=. docs/official.md has examples with their output.
"""

from trm_jax.export.settings import OfficialSettings
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure

Arguments = OfficialSettings


def run(arguments: OfficialSettings) -> None:
    from trm_jax.export import official  # here: --help needs neither jax nor onnx
    from trm_jax.study.results.published import published_exact

    if arguments.command == "evaluate":
        official.run_evaluate(arguments, published_exact)
        return
    commands = {"finetune": official.run_finetune, "onnx": official.run_onnx}
    commands.get(arguments.command, official.run_copy)(arguments)


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
