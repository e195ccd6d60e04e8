"""The report says what the numbers say: against the paper if need be, and nothing where nothing was detected."""

import base64
import html
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from fake_study import SIX_ARMS, learning, study

from trm_jax.reporting import page
from trm_jax.study.results import figures
from trm_jax.study.results.findings import Wording
from trm_jax.study.results.published import TINY_RECURSIVE_MODELS as PAPER
from trm_jax.study.results.report import write_report

PROTOCOL = ["1,000 test puzzles with one solution each.", "600 updates of 64 puzzles for every arm."]
PROVENANCE = {"Command": "python experiments/sudoku_ablation.py --preset cpu", "Commit": "0123456789ab"}
EFFECT = re.compile(r"scores [\d.]+ points (lower|higher)")


def write(directory: Path, rows: pd.DataFrame, curves=None, **options) -> str:
    """Write a report and return its Markdown, with the minus sign of the keyboard."""
    options = {
        "title": "Which part matters?", "protocol": PROTOCOL, "provenance": PROVENANCE, "paper": PAPER,
        "wording": Wording("puzzle", "puzzles"),
    } | options  # fmt: skip
    write_report(directory, rows, curves or {}, **options)
    return (directory / "report.md").read_text().replace("\N{MINUS SIGN}", "-")


def about(text: str, arm: str) -> str:
    """What the list of effects says about an arm."""
    return next(line for line in text.splitlines() if re.match(rf"- `{arm}`(:| scores)", line))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures stay undrawn where only the text is read."""
    for name in ("forest", "cost", "learning_curves"):
        monkeypatch.setattr(figures, name, lambda *_: None)
    monkeypatch.setattr(page, "svg", lambda _: "<svg/>")


def test_a_result_that_contradicts_the_paper_is_reported_as_it_is(tmp_path: Path, undrawn) -> None:
    means = {"full": 0.88, "no_ema": 0.93, "attention": 0.90, "no_z": 0.95, "four_layers": 0.80, "one_step": 0.88}
    text = write(tmp_path, study(means, spread=0.004))
    assert {PAPER.difference(row) < 0 for row in PAPER.rows} == {True}
    for arm, paper in (("no_ema", "-7.5"), ("attention", "-12.7"), ("no_z", "-15.5")):
        sentence = about(text, arm)
        assert EFFECT.search(sentence)[1] == "higher"
        assert "contradicts the paper" in sentence and "the opposite direction" in sentence and paper in sentence
    assert EFFECT.search(about(text, "four_layers"))[1] == "lower"
    assert "The paper reports the same direction, -7.9 points" in about(text, "four_layers")
    assert "no difference detected" in about(text, "one_step") and "does not confirm" in about(text, "one_step")
    ranking = text[text.index("### Arms ranked") :]
    places = re.findall(r"\| `(\w+)` \| (\d) \| (\S+) \| [^|]+ \| (\d) \|", ranking)
    assert [(arm, paper) for arm, _, _, paper in places] == [
        ("four_layers", "4"),
        ("one_step", "1"),
        ("attention", "3"),
        ("no_ema", "5"),
        ("no_z", "2"),
    ]
    # Of ten pairs, (four_layers, no_ema), (one_step, the other three) and (attention, no_ema) stand in the same order.
    assert "Kendall's tau is +0.00 over 5 arms (p 1.00): this could be chance." in ranking


def test_where_nothing_differs_the_text_finds_nothing(tmp_path: Path, undrawn) -> None:
    text = write(tmp_path, study(dict.fromkeys(SIX_ARMS, 0.9)))
    assert "No difference detected between `full` and any other arm." in text
    assert not EFFECT.search(text) and "contradicts" not in text and "same direction" not in text
    for arm in SIX_ARMS.keys() - {"full"}:
        sentence = about(text, arm)
        assert f"`{arm}`: no difference detected (mean difference" in sentence
        assert re.search(r"The smallest difference that this comparison finds with 80 % probability is \d", sentence)
    assert "the order below is noise" in text and "tau is" not in text
    assert "this study does not confirm that" in about(text, "no_z")


def test_differences_between_broken_models_are_called_that(tmp_path: Path, undrawn) -> None:
    means = {arm: 0.3 * mean for arm, mean in SIX_ARMS.items()}
    text = write(tmp_path, study(means), predicted=["no_z", "attention"])
    warning = "Differences between broken models mean little"
    assert warning in text[: text.index("## Protocol")] and text.count(warning) == 2
    assert "solves less than 50 % of the puzzles" in text
    assert "The paper reports" not in text and "tau is" not in text
    assert "compared with no other" in text
    good = write(tmp_path, study({"full": 0.51, "no_z": 0.3}))
    assert "broken" not in good


def test_a_single_seed_gets_no_decision(tmp_path: Path, undrawn) -> None:
    text = write(tmp_path, study(seeds=1))
    assert "no decision is possible from a single shared seed" in about(text, "no_z")
    assert "No decision is possible for `no_z`" in text and "A single seed decides nothing" in text
    assert not EFFECT.search(text) and "The paper reports" not in text
    assert not re.search(r"\b(nan|inf)\b", text)


def test_identical_scores_and_a_lone_reference_arm(tmp_path: Path, undrawn) -> None:
    text = write(tmp_path, study({"full": 1.0, "no_z": 1.0}, spread=0.0))
    assert "`no_z`: no difference detected, every seed scores exactly as with `full`." in text
    assert "near the ceiling" in text and "at most 0.0 points of room" in text
    text = write(tmp_path, study({"full": 0.9}))
    assert "Only the reference arm `full` has results: nothing is compared." in text
    assert "### Impact" not in text and "ranked" not in text and "Confounds" not in text


def test_confounds_are_named_with_their_size(tmp_path: Path, undrawn) -> None:
    counts = {
        "four_layers": {"parameters": 47_000, "layer_applications": 36},
        "no_z": {"flops": 15_500_000, "parameters": 24_090},
    }
    text = write(tmp_path, study(counts=counts))
    assert "cannot be put down to the component alone" in text
    assert "- `four_layers` has 95 % more parameters and 25 % fewer layer applications than `full`." in text
    assert "- `no_z` has less than 0.1 % fewer parameters and 50 % fewer FLOPs than `full`." in text
    assert "- `attention` has" not in text
    assert "| `four_layers` | 47,000 | 36 | 31.00 | 64 |" in text
    clean = write(tmp_path, study())
    assert "All arms have the same parameters, layer applications and FLOPs as `full`." in clean


def test_best_checkpoints_that_change_a_decision_are_named(tmp_path: Path, undrawn) -> None:
    rows = study({"full": 0.9, "no_z": 0.8, "no_ema": 0.9})
    assert "Judged by best checkpoints, all decisions are the same." in write(tmp_path, rows)
    recovered = rows["arm"] == "no_z"
    rows.loc[recovered, "best_exact"] = rows.loc[rows["arm"] == "full", "best_exact"].to_numpy()
    text = write(tmp_path, rows)
    assert "Judged by best checkpoints, the decision about `no_z` is: no difference detected (0.0 points)." in text
    assert re.search(r"at most 1\d\.\d points \(`no_z`: \+1\d\.\d\)", text)


def test_predicted_ranking_stands_beside_the_result(tmp_path: Path, undrawn) -> None:
    order = ["no_z", "attention", "stop_gradient", "four_layers", "no_ema"]
    text = write(tmp_path, study(spread=0.001), predicted=order)
    assert "Against the predicted order Kendall's tau is +1.00 over 5 arms (p 0.017): more agreement" in text
    text = write(tmp_path, study(spread=0.001), predicted=order[::-1])
    assert "tau is -1.00 over 5 arms (p 0.017): more disagreement than by chance." in text
    assert "| `no_z` | 1 | +" in text and "| 5 |\n" in text
    with pytest.raises(ValueError, match="predicted order: full, no_x"):
        write(tmp_path, study(), predicted=["no_z", "full", "no_x"])


def test_each_difficulty_has_its_own_section_and_family(tmp_path: Path, undrawn) -> None:
    rows = pd.concat([study(difficulty="10 blanks"), study(dict.fromkeys(SIX_ARMS, 0.9), difficulty="8-9 blanks")])
    text = write(tmp_path, rows)
    assert text.index("## 8-9 blanks") < text.index("## 10 blanks")
    easy, hard = text[text.index("## 8-9 blanks") :].split("## 10 blanks")
    assert not EFFECT.search(easy) and EFFECT.search(hard)
    separately = write(tmp_path / "alone", study(difficulty="10 blanks"))
    assert about(hard, "no_z") == about(separately, "no_z")


def test_numbers_in_the_tables_are_those_of_the_rows(tmp_path: Path, undrawn) -> None:
    rows = study()
    text = write(tmp_path, rows)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "results.csv", dtype={"difficulty": str}), rows, check_dtype=False
    )
    line = next(line for line in text.splitlines() if re.match(r"\| `attention` \| \d+\.\d \| \d", line))
    group = rows[rows["arm"] == "attention"]
    shown = [cell.strip() for cell in line.split("|")[2:-1]]
    wanted = [group["exact"].mean(), group["exact"].min(), group["best_exact"].mean(), group["valid"].mean()]
    assert [shown[i] for i in (0, 2, 3, 4)] == [f"{100 * value:.1f}" for value in wanted]
    assert shown[-1] == "6"


class Page(HTMLParser):
    """Checks that every tag is closed, and collects what the page shows and loads."""

    VOID = frozenset({"meta", "img", "br", "hr", "wbr"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes) -> None:
        values = dict(attributes)
        self.loads += [values[name] for name in ("src", "href") if name in values] + [tag] * (tag in {"link", "script"})
        if tag == "img":
            self.images.append(values)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.words.append(data)


def test_report_is_whole_self_contained_and_the_same_in_both_forms(tmp_path: Path) -> None:
    means = {"full": 0.9, "no_z": 0.7, "no_ema": 0.89}
    text = write(tmp_path, study(means, counts={"no_z": {"flops": 15_500_000}}), learning(means))
    page_text = (tmp_path / "report.html").read_text()
    page = Page(page_text)
    names = {"effects", "curves", "cost"}
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == names
    assert set(re.findall(r"\(figures/(.+)\.svg\)", text)) == names
    assert len(page.images) == len(names)
    for image in page.images:
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/svg+xml;base64" and image["alt"]
        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")
    assert all(load.startswith("data:") for load in page.loads)
    assert 'name="viewport" content="width=device-width' in page_text and "@media print" in page_text
    assert not list(tmp_path.rglob("*.tmp"))
    shown = " ".join("".join(page.words).replace("\xa0", " ").replace("\N{MINUS SIGN}", "-").split())
    sentences = re.findall(r"^- (.+)$", text[: text.index("## Provenance")], flags=re.MULTILINE)
    assert len(sentences) > 10
    for sentence in sentences:
        assert re.sub(r"[`*]", "", sentence) in shown
    for value in PROVENANCE.values():
        assert value in text and value in shown


def test_names_with_markup_are_shown_as_they_are(tmp_path: Path, undrawn) -> None:
    odd = "<b>wide|48</b> & more"
    text = write(tmp_path, study({"full": 0.9, odd: 0.8}), title="1 < 2", provenance={"Command": "a --b '<c>'"})
    page_text = (tmp_path / "report.html").read_text()
    Page(page_text)
    assert "<b>wide" not in page_text and f"<code>{html.escape(odd)}</code>" in page_text
    assert "<title>1 &lt; 2</title>" in page_text and "&lt;c&gt;" in page_text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 5
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns=["flops", "valid"]), "lack the columns flops"),
        (lambda rows: rows.iloc[:0], "no results"),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), "seed 0 of arm 'full' occurs more than once"),
        (lambda rows: rows.assign(exact=math.nan), "from 0 to 1"),
        (lambda rows: rows.assign(exact=87.4), "from 0 to 1"),
        (lambda rows: rows.assign(parameters=math.inf), "measures must be numbers"),
        (lambda rows: rows[rows["arm"] != "full"], "no reference arm 'full'"),
    ],
)
def test_bad_results_are_refused_before_anything_is_written(tmp_path: Path, change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "report", change(study()))
    assert not any(tmp_path.iterdir())


def test_the_overview_marks_what_was_detected_and_nothing_else(tmp_path: Path, undrawn) -> None:
    rows = [
        study({"full": 0.9, "worse": 0.6, "same": 0.9}, difficulty="9 blanks"),
        study({"full": 0.8, "worse": 0.8, "same": 0.8}, difficulty="10 blanks"),
    ]
    text = write(tmp_path, pd.concat(rows))
    lines = text[: text.index("## Protocol")].splitlines()
    cells = {line.split("|")[1].strip(): line.split("|")[2:4] for line in lines if line.startswith("|")}
    assert [name.strip() for name in cells["Arm"]] == ["9 blanks", "10 blanks"]
    down = {arm: ["\N{DOWNWARDS ARROW}" in cell for cell in shown] for arm, shown in cells.items()}
    assert down["`worse`"] == [True, False] and down["`same`"] == down["`full`"] == [False, False]
    assert re.match(r" (59|60|61)\.\d \(", cells["`worse`"][0])


def test_a_figure_whose_axis_would_be_constant_is_not_drawn(tmp_path: Path) -> None:
    text = write(tmp_path, study())
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"effects"}
    assert "cost.svg" not in text and "curves.svg" not in text
    write(tmp_path / "alone", study({"full": 0.9}))
    assert not any((tmp_path / "alone" / "figures").iterdir())


def test_a_smoke_test_draws_no_conclusions(tmp_path: Path, undrawn) -> None:
    text = write(tmp_path, study({arm: 0.01 for arm in SIX_ARMS}), smoke=True)
    assert "its numbers mean nothing" in text
    for words in ("broken", "detected difference", "scores", "paper", "ranked"):
        assert words not in text[: text.index("## How to read")], words
