"""A wrong input ends a command with one line; a mistake of the program keeps its traceback."""

import sys
from dataclasses import dataclass

import pytest

from trm_jax.support.files import check_folder
from trm_jax.support.schema import replace_nested
from trm_jax.support.terminal.cli import INTERRUPTED, PAUSED, Paused, errors_in_one_line, main
from trm_jax.support.terminal.describe import Option, options_of
from trm_jax.support.terminal.flags import Training
from trm_jax.support.terminal.progress import Lines, duration


@pytest.mark.parametrize("error", [ValueError("bad"), FileNotFoundError("bad"), RuntimeError("bad")])
def test_what_the_caller_can_mend_is_one_line_and_a_non_zero_exit(error):
    @errors_in_one_line()
    def command():
        raise error

    with pytest.raises(SystemExit, match=r"^error: bad$"):
        command()


def test_what_the_system_says_names_the_file_and_no_number(tmp_path):
    with (
        pytest.raises(SystemExit, match=rf"^error: {tmp_path / 'none'}: No such file or directory$"),
        errors_in_one_line(),
    ):
        (tmp_path / "none").read_text()


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


@pytest.mark.parametrize(("said", "shown"), [("stopped at step 3 of 9", "stopped at step 3 of 9"), ("", "stopped")])
def test_ctrl_c_ends_with_a_sentence_and_a_code_of_its_own(said, shown, capsys):
    with pytest.raises(SystemExit) as ended, errors_in_one_line():
        raise KeyboardInterrupt(*([said] if said else []))
    assert ended.value.code == INTERRUPTED
    assert capsys.readouterr().err.strip().startswith(shown)


@dataclass(frozen=True)
class Base:
    """Options that a command shares with another."""

    seed: int | None = None
    """A number."""


@dataclass(frozen=True)
class Arguments(Base):
    """A command."""

    loud: bool = False
    """Say it."""
    names: tuple[str, ...] = ()
    """Words."""
    width: int = 3
    """A size."""


def test_help_has_no_word_that_only_a_generator_would_write(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--help"])
    with pytest.raises(SystemExit):
        main(Arguments, print, "What it does.")
    text = capsys.readouterr().out
    assert "None" not in text and "--no-loud" not in text and "(default: )" not in text and "(default: 3)" in text
    seen = []
    monkeypatch.setattr(sys, "argv", ["x", "--loud", "--seed", "4", "--names", "a", "b"])
    main(Arguments, seen.append, None)
    assert seen == [Arguments(4, True, ("a", "b"), 3)]


def test_five_flags_set_the_options_that_matter_and_never_twice():
    flags = Training(steps=50, seeds=2, width=48, lr=0.01, batch=8)
    expected = {"run.steps": 50, "run.seeds": [0, 1], "model.width": 48, "optim.learning_rate": 0.01, "run.batch": 8}
    assert flags.options(["recursion.n=3"]) == {"recursion.n": 3} | expected
    assert Training().options([]) == {}
    with pytest.raises(ValueError, match="is set by a flag too"):
        flags.options(["run.steps=3"])
    with pytest.raises(ValueError, match="--seeds is a number of seeds"):
        Training(seeds=0).options([])


def test_options_are_described_by_their_own_sentences_and_a_misspelt_one_gets_a_suggestion():
    found = options_of(Arguments, "a.")
    assert [(option.name, option.sentence) for option in found[:2]] == [("a.seed", "A number."), ("a.loud", "Say it.")]
    assert found[2:] == [
        Option("a.names", "list of texts", "[]", "Words."),
        Option("a.width", "whole number", "3", "A size."),
    ]
    with pytest.raises(ValueError, match=r"unknown option a.widht \(did you mean a.width\?\)"):
        replace_nested(Arguments(), {"widht": 4}, "a.")


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    check_folder(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="is a file, and results need a folder"):
            check_folder(path)


def test_a_log_gets_a_line_when_something_begins_and_at_the_end(capsys):
    lines = Lines("arm 1 of 2, full", 20, 10)
    lines.set_description("arm 1 of 2, full, compiling")
    lines.set_description("arm 1 of 2, full")
    lines.set_postfix({"exact": "0.5"})
    lines.update(5)
    lines.update(5)
    assert capsys.readouterr().err.splitlines() == [
        "arm 1 of 2, full, compiling",
        "arm 1 of 2, full",
        "arm 1 of 2, full: step 20 of 20, exact 0.5, 0 s left",
    ]
    assert (duration(89), duration(600)) == ("89 s", "10 min")
