"""Pages opened in a headless Chromium, to see that they do what they should."""

import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 300
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")


def find_browser() -> str | None:
    """Path of a Chromium on this machine, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def run_page(page: str, script: str = "", milliseconds: int = 60_000) -> str:
    """The text of the element ``#result`` of a page after ``script`` has run in it.

    ``milliseconds`` of the page's own time are given to its timers. Raises RuntimeError where there is no browser, or
    for a page that leaves no result, such as one with an error.
    """
    browser = find_browser()
    if browser is None:
        raise RuntimeError(f"no browser to check the page with; install one of {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(f"{page}\n<pre id=result></pre>\n<script>\n{_CATCH}{script}\n</script>\n", encoding="utf-8")
        command = [browser, *_FLAGS, f"--user-data-dir={folder}/profile", f"--virtual-time-budget={milliseconds}"]
        done = subprocess.run(
            [*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
    reader = _Result()
    reader.feed(done.stdout)
    if not reader.text:
        raise RuntimeError("the page left no result; open it and look at the console")
    return reader.text


_CATCH = """
const show = text => document.getElementById("result").textContent = text;
addEventListener("error", event => show(`error: ${event.message}`));
addEventListener("unhandledrejection", event => show(`error: ${event.reason}`));
"""


class _Result(HTMLParser):
    """Text of the element with the id ``result``."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self._inside = "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = ("id", "result") in attrs

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        self.text += data if self._inside else ""
