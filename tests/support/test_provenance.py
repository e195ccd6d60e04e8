"""What a number was made with is named: commit, versions, machine and command."""

import os
import platform
import shutil
import subprocess
import sys

import jax
import pytest

from trm_jax.support import provenance
from trm_jax.support.provenance import environment, git_commit


def test_the_environment_names_commit_versions_devices_and_machine():
    made_by = environment()
    assert made_by["commit"] == git_commit()
    assert made_by["python"] == platform.python_version()
    assert made_by["packages"]["jax"] == jax.__version__
    assert set(made_by["packages"]) == set(provenance.PACKAGES)
    assert made_by["devices"] == [device.device_kind for device in jax.devices()]
    assert made_by["machine"].endswith(f"{os.cpu_count()} cores")


def test_the_command_stands_beside_them_as_it_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script.py", "--name", "two words"])
    made_by = provenance.provenance(data="maps", commit="abc")
    assert made_by["command"] == "python script.py --name 'two words'"
    assert made_by["data"] == "maps" and made_by["commit"] == "abc" and made_by["jax"] == jax.__version__


@pytest.mark.skipif(not shutil.which("git"), reason="no git")
def test_the_commit_is_named_with_its_changes_and_unknown_outside_git(tmp_path, monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) == "unknown" == git_commit(tmp_path / "nowhere")

    def git(*arguments):
        author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        run = subprocess.run(["git", "-C", tmp_path, *author, *arguments], capture_output=True, text=True, check=True)
        return run.stdout.strip()

    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "untracked.txt").write_text("notes")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD")[:12]
    (tmp_path / "code.py").write_text("2")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD")[:12] + "+changes"
