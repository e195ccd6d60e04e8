"""Scripts of experiments/ as their user runs them, but in this process: starting one costs more than most tests."""

import os
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

from trm_jax.training import processes

FOLDER = Path(__file__).resolve().parents[2] / "experiments"


def script(name: str, *arguments: object) -> CompletedProcess:
    """What a script says with these arguments, and its exit code; devices and compiler stay as conftest.py set them."""
    argv, out, err = [str(FOLDER / name), *map(str, arguments)], StringIO(), StringIO()
    code = None
    with (
        mock.patch.multiple(sys, argv=argv, path=[str(FOLDER), *sys.path]),
        mock.patch.dict(os.environ),
        mock.patch.object(processes, "configure", lambda: None),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as ended:
            code = ended.code
    said = err.getvalue() + (f"{code}\n" if isinstance(code, str) else "")
    return CompletedProcess(argv, int(bool(code)) if isinstance(code, str) else code or 0, out.getvalue(), said)
