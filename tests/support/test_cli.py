"""A wrong input ends a command with one line; a mistake of the program keeps its traceback."""

import pytest

from trm_jax.support.cli import PAUSED, Paused, errors_in_one_line


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


def test_a_command_that_stopped_in_time_is_told_from_one_that_failed(capsys):
    with pytest.raises(SystemExit) as stopped, errors_in_one_line():
        raise Paused("stopped at step 8")
    assert stopped.value.code == PAUSED == 75
    assert capsys.readouterr().err == "stopped at step 8\n"
