"""What every command line of the experiments does with a mistake: one clear line instead of a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Around a command or as its decorator: what input, files or the machine did wrong ends it with one line and
    exit code 1. Other exceptions are mistakes of the program and keep their traceback."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
