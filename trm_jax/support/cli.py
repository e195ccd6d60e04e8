"""What every command line of the experiments does with a mistake: one clear line instead of a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Around a command or as its decorator: ends it with the message of the error and exit code 1.

    Only for the exceptions by which this project reports wrong input, files and machines; others keep their traceback.
    """
    try:
        yield
    except (NotImplementedError, RecursionError):  # kinds of RuntimeError that are mistakes of the program
        raise
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
