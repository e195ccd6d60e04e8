"""A wrong input ends a command with one line; a mistake of the program keeps its traceback."""

import pytest

from trm_jax.support.cli import errors_in_one_line


@pytest.mark.parametrize("error", [ValueError("bad"), FileNotFoundError("bad"), RuntimeError("bad")])
def test_what_the_caller_can_mend_is_one_line_and_a_non_zero_exit(error):
    @errors_in_one_line()
    def command():
        raise error

    with pytest.raises(SystemExit, match=r"^error: bad$"):
        command()


@pytest.mark.parametrize("error", [TypeError, KeyError, NotImplementedError, RecursionError])
def test_a_mistake_of_the_program_keeps_its_traceback(error):
    with pytest.raises(error), errors_in_one_line():
        raise error("bad")


def test_a_command_may_end_itself():
    with pytest.raises(SystemExit, match="3"), errors_in_one_line():
        raise SystemExit(3)
