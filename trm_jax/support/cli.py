"""What every command line does: read its arguments, run, and say a mistake in one clear line."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Arguments = TypeVar("Arguments")
PAUSED = 75
"""Exit code of a command that must be given again to go on (EX_TEMPFAIL of sysexits.h)."""


class Paused(RuntimeError):
    """A command that stopped where it can be taken up again."""


def main(
    arguments: type[Arguments],
    run: Callable[[Arguments], Any],
    description: str | None,
    setup: Callable[[], None] | None = None,
) -> None:
    """Parse the command line into a dataclass and call ``run`` with it; errors become one line and exit code 1.

    ``description`` is the docstring of the script; ``setup`` is called first, such as
    `trm_jax.training.processes.configure`. Where ``run`` returns False the exit code is 1.
    """
    import tyro

    with errors_in_one_line():
        parsed = tyro.cli(arguments, description=description)
        if setup is not None:
            setup()
        if run(parsed) is False:
            sys.exit(1)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End the command inside with the message of its error and exit code 1.

    Only for the exceptions by which this project reports wrong input, files and machines; others keep their traceback.
    """
    try:
        yield
    except (NotImplementedError, RecursionError):  # kinds of RuntimeError that are mistakes of the program
        raise
    except Paused as pause:
        print(pause, file=sys.stderr)
        sys.exit(PAUSED)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
