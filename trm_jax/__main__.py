"""The front door: every command of the project under one name, ``trm COMMAND`` or ``python -m trm_jax COMMAND``.

A command is a script in `experiments/`, found by its name: ``trm wafer predict`` runs `experiments/wafer_predict.py`
with the rest of the line. Nothing heavy is imported before a script needs it.
"""

import ast
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from trm_jax.support.schema import did_you_mean
from trm_jax.support.terminal import cli

SCRIPTS = Path(__file__).resolve().parent.parent / "experiments"
SHORT = {"sudoku_ablation": "study", "my_sequences": "sequences", "export_onnx": "export"}
"""Scripts whose command is not their name."""
EDGE = {
    "classify": "Classify maps with an exported package: numpy and onnxruntime alone.",
    "review": "Label the maps that a person should look at, in a browser.",
    "serve": "Answer over HTTP with an exported package.",
}


def commands() -> dict[str, Path]:
    """Scripts by command."""
    return {SHORT.get(path.stem, path.stem.replace("_", " ")): path for path in sorted(SCRIPTS.glob("*.py"))}


def main(line: Sequence[str] | None = None) -> None:
    """Run the command that the line names; without one, list them."""
    words = list(sys.argv[1:] if line is None else line)
    known = commands()
    if not words or words[0] in ("-h", "--help", "--list"):
        try:
            print(overview(known), flush=True)
        except BrokenPipeError:  # who reads, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif words[0] in EDGE:
        from trm_jax.edge.__main__ import main as edge

        edge(words)
    else:
        name = next((" ".join(words[:count]) for count in (2, 1) if " ".join(words[:count]) in known), None)
        if name is None:
            sys.exit(f"error: unknown command {words[0]!r}{_hint(words, known)}; `trm --help` lists all")
        rest = words[len(name.split()) :]
        if name == "study" and rest and not rest[0].startswith("-"):
            rest = ["--study", *rest]
        cli.program = f"trm {name}"
        sys.argv[1:] = rest
        runpy.run_path(str(known[name]), run_name="__main__")


def overview(known: dict[str, Path]) -> str:
    """What there is, a line each."""
    if not known:
        return f"The commands are the scripts of the project, and there is no {SCRIPTS}: run from a clone of it."
    trees = {name: ast.parse(path.read_text("utf-8")) for name, path in known.items()}
    lines = {name: (ast.get_docstring(tree) or "").partition("\n")[0] for name, tree in trees.items()} | EDGE
    width = max(map(len, lines))
    listed = "\n".join(f"  {name:{width}}  {text}" for name, text in sorted(lines.items()))
    return f"usage: trm COMMAND [OPTIONS]\n\n{listed}\n\n`trm COMMAND --help` explains its options."


def _hint(words: list[str], known: dict[str, Path]) -> str:
    return did_you_mean(" ".join(words[:2]), [*known, *EDGE]) or did_you_mean(words[0], [*known, *EDGE])


if __name__ == "__main__":
    main()
