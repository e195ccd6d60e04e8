"""What every command line does: read its arguments, run, and say a mistake or an interruption in one clear line."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar, get_args, get_origin

from trm_jax.support.files import message_of

Arguments = TypeVar("Arguments")
PAUSED = 75
"""Exit code of a command that must be given again to go on (EX_TEMPFAIL of sysexits.h)."""


class Paused(RuntimeError):
    """A command that stopped where it can be taken up again."""


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
program: str | None = None
"""What the user typed before the options, where it is not the name of the script."""


def main(
    arguments: type[Arguments],
    run: Callable[[Arguments], Any],
    description: str | None,
    setup: Callable[[], None] | None = None,
) -> None:
    """Parse the command line into a dataclass and call ``run`` with it; errors become one line and exit code 1.

    ``description`` is the docstring of the script; ``setup`` is called first, such as
    `trm_jax.training.processes.configure`. Where ``run`` returns False the exit code is 1, where it returns a number
    that number.
    """
    with errors_in_one_line():
        parsed = parse(arguments, description)
        if setup is not None:
            setup()
        code = run(parsed)
        if code is False or (type(code) is int and code):
            sys.exit(code or 1)


def parse(arguments: type[Arguments], description: str | None) -> Arguments:
    """The command line as a dataclass; ends the program where it asks for help or cannot be read."""
    import tyro

    for kind in filter(dataclasses.is_dataclass, arguments.__mro__):
        _quieten(kind, tyro.conf.arg(help_behavior_hint=""), tyro.conf.FlagCreatePairsOff)
    return tyro.cli(arguments, prog=program, description=description, config=(tyro.conf.DisallowNone,))


def _quieten(kind: Any, unset: Any, flag: Any) -> None:
    """Leave out of the help what nobody would write: that nothing is set by default, and how to switch off what is."""
    for field in dataclasses.fields(kind):
        own = kind.__annotations__.get(field.name)
        if dataclasses.is_dataclass(next(iter(get_args(own)), None)):
            _quieten(get_args(own)[0], unset, flag)
        elif own is not None and get_origin(own) is not Annotated and field.default in (None, "", (), False):
            kind.__annotations__[field.name] = Annotated[Annotated[own, unset], flag if own is bool else unset]


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End the command inside with the message of its error and exit code 1, after Ctrl-C with code 130.

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
        sys.exit(f"error: {message_of(error)}")
    except KeyboardInterrupt as stopped:
        said = str(stopped) or "stopped; nothing is half-written, and the same command begins again"
        print(f"\n{said}", file=sys.stderr)
        sys.exit(INTERRUPTED)
