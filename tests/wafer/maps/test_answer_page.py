"""The page of answers has every map and answer as they are, and what a person corrects comes out as CSV."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest

from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.answer_page import page, page_data, write_page
from trm_jax.wafer.maps.answers import answers, summary
from trm_jax.wafer.maps.validate import ReadResult, Rejected
from trm_jax.wafer.maps.wafers import CLASSES

WAFERS = synthetic_wafers(9, seed=5)
CONFIDENCE = np.array([0.6, 0.99, 0.7, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93])
SHARES = np.full((9, 9), 0.0)
SHARES[np.arange(9), np.arange(9)] = CONFIDENCE
SHARES[np.arange(9), (np.arange(9) + 1) % 9] = 1 - CONFIDENCE
NAMES = {"file": tuple(f"</script>{row}.csv" for row in range(10)), "lot": ("=1+1", *"abcdefghi")}
READ = ReadResult(WAFERS, [Rejected(9, "has no die")], NAMES, ("2 files that are no maps were left out: 2 .md",))
STEPS = np.ones(9, int)


def data_of(path: Path) -> Any:
    return json.loads(re.findall(r"^const DATA = (.*), SIZE = 24;$", path.read_text(encoding="utf-8"), re.MULTILINE)[0])


def unpacked(data: Any) -> list[np.ndarray]:
    content = np.frombuffer(gzip.decompress(base64.b64decode(data["maps"])), np.uint8)
    maps, start = [], 0
    for height, width in data["sizes"]:
        end = start + -(-height * width // 5)
        digits = content[start:end, None].astype(int) // 3 ** np.arange(5) % 3
        maps.append(digits.ravel()[: height * width].reshape(height, width))
        start = end
    return maps


def test_the_page_has_every_map_with_its_answer_and_the_doubtful_first(tmp_path: Path) -> None:
    write_page(tmp_path / "a.html", READ, SHARES, STEPS, 0.9)
    data = data_of(tmp_path / "a.html")
    assert [row["name"][0] for row in data["rows"]] == [9, 0, 2, 8, 7, 6, 5, 4, 3, 1]
    assert [row["decision"] for row in data["rows"]] == ["rejected", "review", "review", *["auto"] * 7]
    assert data["counts"] == {"auto": 7, "review": 2, "rejected": 1} and data["rows"][0]["reason"] == "has no die"
    assert data["rows"][1]["name"] == [0, "</script>0.csv", "=1+1"] and data["rows"][1]["shares"][:2] == [600, 400]
    for cells, row in zip(unpacked(data)[1:], data["rows"][1:], strict=True):
        assert np.array_equal(cells, WAFERS.map(row["name"][0]))
    assert (tmp_path / "a.html").read_text().count("</script>") == 1  # no name ends the script
    assert "http" not in re.sub(r"createObjectURL", "", (tmp_path / "a.html").read_text())


def test_a_page_has_no_more_maps_than_it_may() -> None:
    data = page_data(READ, list(answers(READ, SHARES, STEPS, 0.9)), 3)
    assert len(data["rows"]) == len(data["sizes"]) == 3 and data["left_out"] == 7


def test_the_summary_counts_classes_reviews_and_broken_maps() -> None:
    lines = summary(READ, SHARES, 0.9).splitlines()
    assert (
        lines[0].startswith("decided:   7 (Donut 1, Edge-Ring 1") and lines[1] == "to review: 2 (Center 1, Edge-Loc 1)"
    )
    assert lines[2] == "broken:    1, the first: row 9 has no die" and lines[3].endswith("left out: 2 .md")
    nothing = READ._replace(wafers=WAFERS.take(np.zeros(0, int)))
    assert summary(nothing, np.zeros((0, 9)), 0.9).splitlines()[0] == "decided:   0"


def test_keys_and_filters_in_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    write_page(path, READ, SHARES, STEPS, 0.9)
    script = """
    press("ArrowRight"); press("ArrowRight"); press("3");                      // the second card: row 0
    press("ArrowRight"); press("4"); press("u"); press("ArrowRight"); press("9");  // row 2 taken back, row 8
    const say = (text) => document.body.append(Object.assign(document.createElement("pre"), {textContent: text}));
    say("CSV " + csv());
    const canvas = document.querySelector("canvas");
    say("PIXELS " + canvas.width + " " + canvas.height + " " + canvas.getContext("2d").getImageData(0, 0,
      canvas.width, canvas.height).data.filter((value, at) => at % 4 === 3 && value).length);
    document.getElementById("decision").value = "review";
    document.getElementById("decision").dispatchEvent(new Event("input"));
    say("CARDS " + document.querySelectorAll(".card").length + " " + document.getElementById("where").textContent);
    """
    path.write_text(browser.acted(path.read_text(encoding="utf-8"), script), encoding="utf-8")
    found = browser.dom(path.as_uri())
    # A carriage return does not survive in a document.
    table = re.search(r"<pre>CSV (.*?)</pre>", found, re.DOTALL)
    expected = ["row,file,lot,prediction,label", f"0,&lt;/script&gt;0.csv,'=1+1,Center,{CLASSES[2]}"]
    assert table and table[1].split() == [*expected, f"8,&lt;/script&gt;8.csv,h,none,{CLASSES[8]}"]
    cells = WAFERS.map(0)
    assert f"<pre>PIXELS {cells.shape[1]} {cells.shape[0]} {np.count_nonzero(cells)}<" in found
    assert "CARDS 2 1 to 2 of 2 maps; 2 corrected" in found


def test_a_label_of_a_cluster_is_that_of_all_its_maps_also_of_those_that_the_page_does_not_have(tmp_path: Path) -> None:
    path, cluster = tmp_path / "a.html", np.array([0, 1, 0, 1, 1, 0, 2, 1, 0])
    lines = list(answers(READ, SHARES, STEPS, 0.9, dict.fromkeys([1, 3, 4, 6, 7], "is unlike"), cluster=cluster))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trm_jax.wafer.maps.answer_page.THUMBNAILS", 2)
        data = page_data(READ, lines, 4)
    assert [entry["count"] for entry in data["clusters"]] == [4, 1]
    assert sorted(row["name"][0] for row in data["rows"] if row["cluster"]) == [4, 6, 7]  # the least confident of each
    assert [other[0] for other in data["clusters"][0]["others"]] == [3, 1] and not data["clusters"][1]["others"]
    script = """
    const select = document.querySelector(".cluster select");
    select.value = "Donut"; select.dispatchEvent(new Event("change"));
    const say = (text) => document.body.append(Object.assign(document.createElement("pre"), {textContent: text}));
    say("CSV " + csv());
    const count = (what) => document.querySelectorAll(what).length;
    say("SHOWN " + count(".cluster") + " " + count(".row canvas"));
    document.querySelector(".cluster select").value = "";
    document.querySelector(".cluster select").dispatchEvent(new Event("change"));
    say("LEFT " + csv().trim().split("\\n").length);
    """
    path.write_text(browser.acted(page(data, "Answers"), script), encoding="utf-8")
    found = browser.dom(path.as_uri())
    table = re.search(r"<pre>CSV (.*?)</pre>", found, re.DOTALL)
    rows = [(4, "d", "Loc"), (7, "g", "Scratch"), (3, "c", "Edge-Ring"), (1, "a", "Donut")]
    expected = {f"{row},&lt;/script&gt;{row}.csv,{lot},{name},Donut" for row, lot, name in rows}
    assert table and set(table[1].split()[1:]) == expected
    assert "SHOWN 2 3" in found and "LEFT 1<" in found
