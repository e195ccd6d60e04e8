"""The page in a browser: puzzles typed, stepped and solved, faults in a sentence, wafers answered, nothing fetched."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from trm_jax.core.predict import everything, predict
from trm_jax.core.task import task_from_options
from trm_jax.maze import grids
from trm_jax.maze.task import Maze
from trm_jax.sudoku.answers import answer, parse_puzzle
from trm_jax.sudoku.solver import Box, is_solution
from trm_jax.think import agreement, page
from trm_jax.think.browser import find_browser, run_page
from trm_jax.wafer.checkpoint import joined, load_checkpoint, save_checkpoint
from trm_jax.wafer.classify import classify
from trm_jax.wafer.generated.synthetic import synthetic_wafers

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium")
CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
BOX = Box(2, 2)
PUZZLE = "1.....3..4.....2"
HELPERS = """
const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const all = query => [...document.querySelectorAll(query)];
const press = (node, key) => node.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const digits = () => all("#sudoku .board .cell").map(cell => cell.querySelector(".digit").textContent || "0").join("");
const set = (node, value, name) => { node.value = value; node.dispatchEvent(new Event(name)); };
"""


@pytest.fixture(scope="module")
def entries():
    return [page.entry_of(CHECKPOINTS / name, 1) for name in ("sudoku-4x4", "wafer-edge")]


@pytest.fixture(scope="module")
def html(entries):
    return page.build(entries, "See it think")


def test_a_puzzle_is_typed_stepped_and_solved(entries, html):
    script = f"""{HELPERS}(async () => {{
      all("#sudoku .controls button")[0].click();
      const cells = all("#sudoku .board .cell"), seen = {{}};
      "{PUZZLE}".split("").forEach((digit, i) => {{ cells[i].focus(); if (digit !== ".") press(cells[i], digit); }});
      await wait(3000);
      seen.first = [digits(), document.querySelector("#sudoku .message").textContent];
      set(document.querySelector("#sudoku .player input"), 6, "input");
      seen.last = [digits(), document.querySelector("#sudoku .message").textContent];
      all("#sudoku .controls button")[1].click();
      await wait(3000);
      seen.rollouts = all("#sudoku .rollouts figure").map(figure => figure.textContent);
      cells[1].focus();
      press(cells[1], "9");
      seen.nine = document.querySelector("#sudoku .message").textContent;
      press(cells[1], "1");
      await wait(3000);
      seen.wrong = document.querySelector("#sudoku .message").textContent;
      seen.marked = all("#sudoku .board .cell").map(cell => Number(cell.classList.contains("wrong"))).join("");
      show(JSON.stringify(seen));
    }})();"""
    seen = json.loads(run_page(html, script))
    puzzle = parse_puzzle(PUZZLE, BOX)
    solved = parse_puzzle(seen["last"][0], BOX)
    assert is_solution(solved, BOX) and ((puzzle == 0) | (puzzle == solved)).all()
    assert seen["last"][1].startswith("Solved: givens and rules hold. Belief")
    expected = answer(entries[0].source.config, entries[0].source.params, puzzle[None], BOX)
    assert seen["first"][0] == "".join(map(str, expected.digits[0, 0]))
    assert f"right: {100 * expected.belief[-1, 0]:.0f} %" in seen["last"][1]
    assert len(seen["rollouts"]) == 8 and all("belief" in text for text in seen["rollouts"])
    assert seen["nine"] == "This board takes the digits 1 to 4."
    assert seen["wrong"] == "Two cells of row 1 are 1: no answer can keep the rules. Clear one of them."
    assert seen["marked"] == "1100000000000000"


def test_wafers_are_resized_and_answered_as_in_jax(entries, html):
    script = f"""{HELPERS}(async () => {{
      all("[role=tab]")[1].click();
      const seen = {{answers: [], bad: []}}, select = document.querySelector("#wafer select"), entry = ENTRIES.wafer;
      for (const option of [...select.options].slice(0, 3)) {{
        set(select, option.value, "change");
        await wait(4000);
        const message = document.querySelector("#wafer .message").textContent;
        seen.answers.push([all(".bar.best .name")[0].textContent, message]);
      }}
      seen.grids = entry.maps.map(([, rows]) => Array.from(toGrid(parseMap(rows.join("\\n")), entry.size)));
      for (const text of ["", "0,1,7", "011\\n01"])
        try {{ parseMap(text); }} catch (error) {{ seen.bad.push(error.message); }}
      seen.size = parseMap("0,1,2,1,0\\n".repeat(6)).height;
      show(JSON.stringify(seen));
    }})();"""
    seen = json.loads(run_page(html, script))
    wafers = synthetic_wafers(400)
    chosen = wafers.take(np.array([np.flatnonzero(wafers.label == label)[0] for label in range(9)]))
    classifier = load_checkpoint(CHECKPOINTS / "wafer-edge")
    expected = classifier.task.grids_of(classifier.config, chosen).reshape(9, -1)
    np.testing.assert_array_equal(np.array(seen["grids"]), expected)
    classified = classify(classifier, chosen.take(np.arange(3)))
    names = entries[1].shown["classes"]
    for (name, message), label, sure in zip(seen["answers"], classified.prediction, classified.confidence, strict=True):
        limit = max(classifier.calibration.review_threshold, classifier.calibration.class_thresholds[label])
        automatic = limit < 1 and sure >= limit
        assert name == names[label] and f"{100 * sure:.0f} %" in message
        assert ("decided automatically" if automatic else "for review") in message
    assert seen["bad"] == [
        "the file is empty", 'row 1 has a cell "7"; cells are 0, 1 or 2', "row 2 has 2 cells, row 1 has 3"
    ]  # fmt: skip
    assert seen["size"] == 6


def test_a_maze_is_drawn_and_stepped_and_its_way_is_the_one_a_search_finds():
    entry = page.entry_of(CHECKPOINTS / "maze", 1)
    task, config = task_from_options(Maze, entry.source.task), entry.source.config
    test = task.examples("test").arrays
    output = predict(config, entry.source.params, entry.inputs, reduce=everything, inference=True)
    solved = np.flatnonzero((np.asarray(output.logits)[-1].argmax(-1) == test["labels"][: len(entry.inputs)]).all(-1))
    maze = entry.inputs[solved[-1]]  # none of the list: that has the first four
    assert solved[-1] >= 4
    html = page.build([dataclasses.replace(entry, compared=4)], "Mazes")
    script = f"""{HELPERS}(async () => {{
      const [mazes, sizes, tool] = all("#maze select"), seen = {{}}, wanted = {maze.tolist()};
      const message = () => document.querySelector("#maze .message").textContent;
      const click = cell => all("#maze .board .cell")[cell].click();
      seen.lengths = ENTRIES.maze.mazes.map(([, rows]) =>
        shortestWay(rows.flatMap(row => Array.from(row, symbol => 1 + "# SG".indexOf(symbol))), rows.length));
      set(tool, "start", "change"); click(wanted.indexOf(3));
      set(tool, "goal", "change"); click(wanted.indexOf(4));
      set(tool, "start", "change"); click(wanted.indexOf(3));
      set(tool, "wall", "change");
      wanted.forEach((token, cell) => {{
        if (all("#maze .board .cell")[cell].classList.contains("wall") !== (token === 1)) click(cell); }});
      await wait(4000);
      set(document.querySelector("#maze .player input"), {config.recursion.N_sup}, "input");
      seen.way = all("#maze .board .cell").map(cell => Number(cell.classList.contains("way")));
      seen.joined = message();
      seen.trained = document.querySelector("#maze .step").textContent;
      set(document.querySelector("#maze .player input"), {config.recursion.N_sup + 1}, "input");
      seen.past = document.querySelector("#maze .step").textContent;
      for (const cell of [-9, 9, -1, 1].map(step => wanted.indexOf(3) + step))
        if (!all("#maze .board .cell")[cell].classList.contains("wall")) click(cell);
      await wait(3000);
      seen.closed = message();
      set(sizes, "11", "change");
      await wait(3000);
      seen.carved = all("#maze .board .cell").length;
      seen.size = message();
      const stroke = (cell, kind) => {{
        const place = all("#maze .board .cell")[cell].getBoundingClientRect();
        const where = {{clientX: place.x + 3, clientY: place.y + 3, buttons: 1, bubbles: true}};
        document.querySelector("#maze .board").dispatchEvent(new PointerEvent(kind, where));
      }};
      seen.edge = [1, 2, 3].map(cell => (stroke(cell, cell === 1 ? "pointerdown" : "pointermove"),
        all("#maze .board .cell")[cell].classList.contains("wall")));
      show(JSON.stringify(seen));
    }})();"""
    seen = json.loads(run_page(html, script))
    ways = test["labels"].reshape(-1, 9, 9)
    assert seen["lengths"] == (grids.way_lengths(ways[:4]) + 1).tolist()
    found = grids.solve(maze.reshape(9, 9))
    np.testing.assert_array_equal(np.reshape(seen["way"], (9, 9)), found == grids.PATH)
    length = int((found == grids.PATH).sum()) + 1
    assert seen["joined"].startswith(f"The dots join S and G in one line. The shortest way takes {length} steps.")
    assert seen["trained"] == f"Step {config.recursion.N_sup}" and seen["past"].endswith("JAX may say otherwise")
    assert seen["closed"].startswith("No way leads from S to G")
    assert seen["carved"] == 121 and "The shortest way takes" in seen["size"]
    assert seen["edge"] == [False, False, False]  # a stroke over the outer wall opens it


def test_nothing_is_fetched(html):
    assert "default-src 'none'" in html and "connect-src" not in html
    links = html.replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in links and "https:" not in links and " src=" not in links


def test_the_build_fails_when_numbers_differ(entries, monkeypatch):
    small = dataclasses.replace(entries[0], inputs=entries[0].inputs[:4])
    same = page.checked(small)
    assert same.difference < agreement.TOLERANCE and same.compared == 2 * small.source.config.recursion.N_sup
    answers, depth = agreement.page_answers, small.source.config.recursion.N_sup

    def changed(*arguments):
        probabilities, halting = answers(*arguments)
        return probabilities, halting + 2e-4 * (np.arange(len(halting)) >= first - 1)[:, None]

    monkeypatch.setattr(agreement, "page_answers", changed)
    first = depth + 1
    assert page.checked(small).compared == depth
    first = depth
    with pytest.raises(RuntimeError, match=f"sudoku-4x4: the page differs from JAX by 2.0e-04 after step {depth}"):
        page.checked(small)


def test_nets_that_answer_together_are_not_for_the_page(tmp_path):
    edge = load_checkpoint(CHECKPOINTS / "wafer-edge")
    save_checkpoint(tmp_path / "both", joined([edge, edge]), "", {})
    with pytest.raises(ValueError, match="both is 2 nets that answer together; the page computes one"):
        page.entry_of(tmp_path / "both", 1)


def test_a_page_without_a_result_is_an_error():
    with pytest.raises(RuntimeError, match="left no result"):
        run_page("<!DOCTYPE html>")
    assert run_page("<!DOCTYPE html>", "undefinedFunction()").startswith("error: Uncaught ReferenceError")
