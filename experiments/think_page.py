"""Build a page that runs trained models in the reader's browser, checked against JAX before it is written.

    python experiments/think_page.py --output docs/think/index.html \
        --checkpoint checkpoints/sudoku-4x4 checkpoints/sudoku-6x6 checkpoints/maze checkpoints/wafer-edge

The page is one file and needs no network. A headless Chromium computes 50 inputs with the page's own code, at every
step up to twice the trained depth; where a probability differs from JAX's up to the trained depth, nothing is written,
and past it the page warns from that step on.
"""

from dataclasses import dataclass
from pathlib import Path

from trm_jax.support.files import check_file, write_text
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure


@dataclass(frozen=True)
class Arguments:
    checkpoint: tuple[Path, ...]
    """Checkpoints of Sudoku, of mazes and of wafers."""
    output: Path
    """HTML file to write."""
    title: str = "See it think"
    """Heading of the page."""
    examples: int = 4
    """Examples of every difficulty or class in the lists."""


def run(arguments: Arguments) -> None:
    from trm_jax.think.page import build, checked, entry_of  # here: --help needs no jax

    require(len(arguments.checkpoint) > 0, "give at least one --checkpoint")
    require(arguments.examples >= 1, f"--examples must be at least 1, got {arguments.examples}")
    check_file(arguments.output, force=True)
    entries = [checked(entry_of(path, arguments.examples)) for path in arguments.checkpoint]
    for entry in entries:
        told = f"differs from JAX by {entry.difference:.1e} on {len(entry.inputs)} inputs up to step {entry.compared}"
        print(f"{entry.name}: {told}")
    page = build(entries, arguments.title)
    write_text(arguments.output, page)
    print(f"{arguments.output}: {len(page.encode()):,} bytes")


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
