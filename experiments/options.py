"""Every option of a run with its default and a sentence, for --options and for arms of your own.

python experiments/options.py                # all of them
python experiments/options.py recursion      # those of a section
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from trm_jax.support.files import write_text
from trm_jax.support.terminal.cli import main


@dataclass(frozen=True)
class Arguments:
    section: tyro.conf.Positional[str] = ""
    """Beginning of the names to show, such as model or optim.beta; all if empty."""
    write: Path | None = None
    """File for the page about all of them, instead of printing."""


def run(arguments: Arguments) -> None:
    from trm_jax.options import document, sections

    if arguments.write:
        write_text(arguments.write, document())
        return
    for found in sections().values():
        for option in found:
            if option.name.startswith(arguments.section):
                print(f"{option.name}={option.default}  ({option.values})\n    {option.sentence}")


if __name__ == "__main__":
    main(Arguments, run, __doc__)
