"""A review on this machine: the maps that a person should see, one at a time in a browser, and labels that last.

Every label is a line of a CSV file that is on the disk before the browser hears of it. A label is taken back by another
line without one: the last line of a map counts.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from trm_jax.wafer.maps.answer_page import page, page_data
from trm_jax.wafer.maps.answers import Answer, plain_cell
from trm_jax.wafer.maps.validate import NAMES, ReadResult
from trm_jax.wafer.maps.wafers import CLASSES

_MAX_BODY = 4096
_MAX_MAPS = 5000
_HOME = "127.0.0.1"


class LabelFile:
    """Lines are only added, each is on the disk before `add` returns, and what a power loss cut off is removed."""

    def __init__(self, path: Path, columns: Sequence[str]):
        """Raises ValueError for a file of other columns, OSError for one that cannot be written."""
        self.path, self.columns = path, list(columns)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        with path.open("rb") as file:
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.ftruncate(self._descriptor, len(whole))
        header = next(csv.reader(io.StringIO(whole.decode("utf-8-sig", "replace"), newline="")), None)
        if header is None:
            self._write(self.columns)
        elif header != self.columns:
            self.close()
            raise ValueError(f"--labels: {path} has columns {', '.join(header)}, not {', '.join(self.columns)}")

    def _write(self, cells: Sequence[Any]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        data = line.getvalue().encode("utf-8")
        written = os.write(self._descriptor, data)
        os.fsync(self._descriptor)
        if written < len(data):
            raise OSError(f"{self.path} is full")

    def add(self, cells: Sequence[Any]) -> None:
        """Add a line. Raises OSError if it is not on the disk."""
        self._write([plain_cell(str(cell)) for cell in cells])

    def labels(self) -> dict[tuple[str, ...], str]:
        """The label of every map that has one, by its names."""
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))[1:]
        found = {tuple(line[:-2]): line[-1] for line in lines if len(line) == len(self.columns)}
        return {names: label for names, label in found.items() if label}

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Review:
    """The queue of a source: maps to review that have no label yet."""

    def __init__(self, read: ReadResult, lines: Sequence[Answer], labels: Path):
        kinds = [kind for kind in NAMES if kind in read.names]
        self.file = LabelFile(labels, ["source", "row", *kinds, "prediction", "label"])
        known = self.file.labels()
        self.names = {
            line.row: [read.wafers.source, line.row, *(read.names[kind][line.row] for kind in kinds)] for line in lines
        }
        self.open = {
            line.row: line
            for line in lines
            if line.decision == "review" and tuple(plain_cell(str(n)) for n in self.names[line.row]) not in known
        }
        data = page_data(read, list(self.open.values()), _MAX_MAPS)
        self.html = page(data, f"Review: {read.wafers.source}", review=True).encode()
        self.count, self._turn = len(data["rows"]), Lock()

    def label(self, content: bytes) -> None:
        """Write down a label; raises ValueError for what is none."""
        try:
            given = json.loads(content)
            row, label = given["row"], given["label"]
        except (ValueError, TypeError, LookupError, RecursionError):
            raise ValueError("a label is sent as a row and a class") from None
        if type(row) is not int or row not in self.open or label not in ("", *CLASSES):
            raise ValueError("the row is not to be reviewed, or the label is no class")
        with self._turn:
            self.file.add([*self.names[row], self.open[row].prediction, label])


def bind(port: int) -> ThreadingHTTPServer:
    """A server of this machine alone, a free port for 0. Raises ValueError for a port that cannot be had."""
    if not 0 <= port < 2**16:
        raise ValueError(f"--port must be 0 to 65535, got {port}")
    try:
        return ThreadingHTTPServer((_HOME, port), _Handler)
    except OSError as error:
        raise ValueError(f"cannot listen on port {port}: {error.strerror}") from None


def run(review: Review, listener: ThreadingHTTPServer) -> None:
    """Serve until interrupted, and say where."""
    listener.review = review  # type: ignore[attr-defined]
    print(f"{review.count:,} maps to review; labels go to {review.file.path}", file=sys.stderr)
    print(f"open http://{_HOME}:{listener.server_address[1]} in a browser; Ctrl-C ends the review", file=sys.stderr)
    try:
        listener.serve_forever()
    finally:
        review.file.close()


class _Handler(BaseHTTPRequestHandler):
    """GET / is the page, POST /label a label. Other hosts' pages are not answered: they could point at this machine."""

    timeout = 10

    def _answer(self, status: HTTPStatus, text: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Frame-Options", "DENY")
        self.end_headers()
        self.wfile.write(text)

    def _is_local(self) -> bool:
        host = self.headers.get("Host", "").rpartition(":")[0]
        origin = self.headers.get("Origin", f"http://{self.headers.get('Host', '')}")
        if host in (_HOME, "localhost") and origin == f"http://{self.headers.get('Host', '')}":
            return True
        self._answer(HTTPStatus.MISDIRECTED_REQUEST, b"only this machine is answered")
        return False

    def do_GET(self) -> None:
        """The page."""
        if self._is_local():
            found = self.path == "/"
            text = self.server.review.html if found else b"there is only /"  # type: ignore[attr-defined]
            self._answer(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND, text, "text/html" if found else "text/plain")

    def do_POST(self) -> None:
        """A label."""
        if not self._is_local():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/label" or self.headers.get("Content-Type") != "application/json":
            return self._answer(HTTPStatus.NOT_FOUND, b"labels are posted to /label as application/json")
        if not (length.isascii() and length.isdecimal()) or int(length[:9]) > _MAX_BODY:
            return self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"a label is short")
        try:
            self.server.review.label(self.rfile.read(int(length)))  # type: ignore[attr-defined]
        except (ValueError, OSError) as error:
            status = HTTPStatus.BAD_REQUEST if isinstance(error, ValueError) else HTTPStatus.INSUFFICIENT_STORAGE
            return self._answer(status, str(error).encode())
        self._answer(HTTPStatus.OK, b"saved")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the terminal stays readable."""
