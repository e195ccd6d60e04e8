"""A review: labels are on the disk before the browser hears of them, and only this machine is answered."""

import http.client
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import edge_models
import numpy as np
import pytest

from trm_jax.edge import review as review_module
from trm_jax.edge.__main__ import main
from trm_jax.edge.review import LabelFile, Review, bind
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.answers import answers
from trm_jax.wafer.maps.validate import ReadResult

WAFERS = synthetic_wafers(9, seed=5)
SHARES = np.eye(9) * np.linspace(0.5, 0.9, 9)[:, None]
READ = ReadResult(WAFERS, [], {"file": tuple(f"{row}.csv" for row in range(9))})
COLUMNS = "source,row,file,prediction,label"


def review_of(labels: Path) -> Review:
    return Review(READ, list(answers(READ, SHARES, np.ones(9, int), 0.72)), labels)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    listener = bind(0)
    listener.review = review_of(tmp_path / "labels.csv")  # type: ignore[attr-defined]
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield listener
    listener.shutdown()
    listener.server_close()


def ask(server: Any, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"Content-Type": "application/json"} | headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_queue_is_what_is_to_review_and_labels_are_lines(server: Any, tmp_path: Path) -> None:
    status, page = ask(server, "GET", "/")
    assert status == 200 and '"name": [0, "0.csv"]' in page and '"name": [5, "5.csv"]' not in page
    for row, label in ((1, "Loc"), (0, "none"), (1, "Scratch"), (0, "")):
        assert ask(server, "POST", "/label", {"row": row, "label": label}) == (200, "saved")
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert lines[0] == COLUMNS and lines[1].endswith(",1,1.csv,Donut,Loc") and len(lines) == 5
    assert server.review.file.labels() == {(WAFERS.source, "1", "1.csv"): "Scratch"}
    # The next review does not ask again.
    again = review_of(tmp_path / "labels.csv")
    assert again.count == server.review.count - 1 and 1 not in again.open and 0 in again.open


def test_nothing_else_is_answered(server: Any, tmp_path: Path) -> None:
    good = {"row": 0, "label": "Loc"}
    assert ask(server, "GET", "/", Host="evil.example")[0] == 421
    assert ask(server, "POST", "/label", good, Origin="http://evil.example")[0] == 421
    assert ask(server, "POST", "/label", good, **{"Content-Type": "text/plain"})[0] == 404
    assert ask(server, "GET", "/labels.csv")[0] == 404
    assert ask(server, "POST", "/label", {"row": 0, "label": "x" * 5000})[0] == 413
    for wrong in ({"row": 8, "label": "Loc"}, {"row": 0, "label": "Lok"}, {"row": "0", "label": "Loc"}, [], 7, {}):
        assert ask(server, "POST", "/label", wrong)[0] == 400
    assert (tmp_path / "labels.csv").read_text().splitlines() == [COLUMNS]


def test_a_label_is_on_the_disk_before_it_is_said_to_be(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(review_module.os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    ask(server, "POST", "/label", {"row": 0, "label": "Loc"})
    assert synced == [server.review.file.path.stat().st_size]
    monkeypatch.setattr(
        review_module.os, "write", lambda file, data: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    status, reason = ask(server, "POST", "/label", {"row": 0, "label": "none"})
    assert status == 507 and "No space left" in reason


def test_what_a_power_loss_cut_off_is_removed_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    file = LabelFile(path, ["row", "prediction", "label"])
    file.add([3, "", "Loc"])
    file.close()
    for torn in (b"4,Sc", b'5,"'):
        with path.open("ab") as other:
            other.write(torn)
        file = LabelFile(path, ["row", "prediction", "label"])
        assert file.labels() == {("3",): "Loc"} and path.read_bytes() == b"row,prediction,label\n3,,Loc\n"
        file.close()
    with pytest.raises(ValueError, match="has columns row, prediction, label, not file, label"):
        LabelFile(path, ["file", "label"])
    assert path.read_bytes() == b"row,prediction,label\n3,,Loc\n"


def test_keys_in_a_browser(server: Any, tmp_path: Path) -> None:
    script = """
    const wait = () => new Promise((go) => setTimeout(go, 250));
    const hidden = document.getElementById("proposal").textContent;
    press("p");
    document.title = `${hidden}|${document.getElementById("proposal").textContent}`;
    for (const key of ["5", "0", "9", "u", "8"]) { press(key); await wait(); }
    document.title += `|${document.getElementById("progress").textContent}`;
    """
    server.review.html = browser.acted(server.review.html.decode(), script).encode()
    found = browser.dom(f"http://127.0.0.1:{server.server_address[1]}/")
    title = found[found.index("<title>") + 7 : found.index("</title>")].replace("\xa0", " ").replace("&nbsp;", " ")
    assert title == "|Center 50.0 %, Donut 0.0 %, Edge-Loc 0.0 %|4 of 5, 2 labelled"
    assert server.review.file.labels() == {
        (WAFERS.source, "0", "0.csv"): "Loc",
        (WAFERS.source, "2", "2.csv"): "Scratch",
    }


def test_the_command_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    package = edge_models.write_package(tmp_path / "package")
    np.savetxt(tmp_path / "a.csv", WAFERS.map(0), "%d", ",")
    monkeypatch.setattr(review_module.ThreadingHTTPServer, "serve_forever", lambda self: None)
    line = ["--model", package, "--input", tmp_path / "a.csv", "--labels", tmp_path / "l.csv", "--port", 0]
    main(["review", *map(str, line)])
    assert "maps to review; labels go to " in capsys.readouterr().err and (tmp_path / "l.csv").is_file()
