"""The front door finds every command, and what the documents tell a newcomer to type works."""

import csv
import re
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from trm_jax import __main__ as door
from trm_jax.edge.__main__ import main as edge
from trm_jax.edge.__main__ import parser as edge_parser
from trm_jax.options import document
from trm_jax.support.terminal import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "docs/getting-started.md", "docs/wafer-guide.md", "docs/edge-guide.md", "docs/data-formats.md"]


def commands(page: str) -> list[str]:
    """Lines of code of a page that a newcomer types, and code in its text that is a whole command."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```\n(.*?)^```", text, flags=re.M | re.S) + re.findall(
        r"^    (?=\S)(.*\n)", text, flags=re.M
    )
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`((?:trm|make) [^`]+)`", text)
    return [line for line in lines if re.match(r"(trm|make) .*(-|study|demo|make)", line) and "COMMAND" not in line]


LINES = sorted({line for page in PAGES for line in commands(page)})


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_documents_is_understood(line, monkeypatch):
    """Every one is parsed by the command that it names; the quick ones also run, below."""
    program, *words = shlex.split(line)
    if program == "make":
        assert re.search(rf"^{re.escape(words[0].replace('.venv', '$(VENV)'))}:", (ROOT / "Makefile").read_text(), re.M)
        return
    if words[0] in door.EDGE:
        edge_parser().parse_args(words)
        return
    parsed = []
    monkeypatch.setattr(cli, "main", lambda kind, run, text, setup=None: parsed.append(cli.parse(kind, text)))
    monkeypatch.setattr(sys, "argv", ["trm"])
    if "--help" in words:
        with pytest.raises(SystemExit) if len(words) > 1 else nullcontext():
            door.main(words)
        return
    door.main(words)
    assert parsed


def test_the_readme_is_short_and_names_enough_commands():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150 and len(text.split()) <= 900
    assert len(commands("README.md")) >= 10
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_first_command_of_the_readme_prints_what_the_readme_says(monkeypatch, tmp_path, capsys):
    line = next(line for line in commands("README.md") if line.startswith("trm classify"))
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)[1:]
    for name in ("answers.csv", "answers.html"):
        words[words.index(name)] = str(tmp_path / name)
    edge(words)
    said = capsys.readouterr().out.replace(f"{tmp_path}/", "").strip()
    assert said and said in (ROOT / "README.md").read_text()
    answers = csv.DictReader((tmp_path / "answers.csv").read_text().splitlines())
    assert [(row["prediction"], row["decision"]) for row in answers] == [
        ("Center", "auto"),
        ("Edge-Loc", "review"),
        ("Scratch", "auto"),
    ]


def test_every_script_is_a_command_with_a_sentence(capsys):
    door.main([])
    listed = capsys.readouterr().out
    for name, path in door.commands().items():
        assert path.is_file() and re.search(rf"^  {name}  +\S.*\S", listed, re.M)
    assert {"study", "sequences", "export", "wafer predict", "demo", "compare"} <= door.commands().keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stdy"], "unknown command 'stdy' (did you mean study?)"),
        (["wafer", "predcit"], "(did you mean wafer predict?)"),
        (["study", "dept"], "unknown study dept (did you mean depth?)"),
        (["study", "--arms", "fulll"], "unknown arm fulll (did you mean full?)"),
        (["study", "--options", "model.widht=3"], "unknown option model.widht (did you mean model.width?)"),
        (["study", "--width", "0"], "model.width must be at least 1"),
    ],
)
def test_what_is_misspelt_gets_one_line_with_a_suggestion(words, message, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["trm"])
    with pytest.raises(SystemExit) as ended:
        door.main(words)
    assert message in str(ended.value.code) and "\n" not in str(ended.value.code)


def test_the_page_of_options_is_what_the_code_says():
    assert (ROOT / "docs/configuration.md").read_text() == document()


@pytest.mark.slow
def test_the_demo_finds_a_difference_and_solves_a_board(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["trm"])
    door.main(["demo", "--output", str(tmp_path)])
    said = capsys.readouterr().out
    assert "step 3, 0 wrong" in said
    report = (tmp_path / "demo" / "report.md").read_text()
    assert "1 of 1 arms differs from `recursive`: `at_once`" in report
