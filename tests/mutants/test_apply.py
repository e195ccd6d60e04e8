"""The runner of faults tells those that die from those that live, and leaves its copy as it was."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import apply

CODE = "def double(x):\n    return 2 * x\n"
TEST = "from code_under_test import double\n\ndef test_double():\n    assert double(2) == 4\n"


@pytest.mark.parametrize(("new", "found"), [("3 * x", "dies"), ("x ** 2", "LIVES"), ("x +", "")])
def test_a_fault_dies_lives_or_does_not_run(tmp_path, new, found):
    (tmp_path / "code_under_test.py").write_text(CODE)
    (tmp_path / "test_code.py").write_text(TEST)
    fault = {"about": "doubling", "file": "code_under_test.py", "old": "2 * x", "new": new, "tests": ["test_code.py"]}
    assert apply.fits(fault, tmp_path)
    if not found:
        with pytest.raises(RuntimeError, match="doubling: the tests do not run with it"):
            apply.outcome(fault, tmp_path)
    else:
        assert apply.outcome(fault, tmp_path) == found
    assert (tmp_path / "code_under_test.py").read_text() == CODE
    assert not apply.fits(fault | {"old": "x"}, tmp_path) and not apply.fits(fault | {"file": "gone.py"}, tmp_path)


def test_every_fault_fits_the_code_as_it_is(capsys):
    faults, stale = apply.listed_faults("")
    assert len(faults) > 100 and stale == 0, capsys.readouterr().out
