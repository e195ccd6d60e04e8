"""Pages opened in a headless Chromium, to see that they do what they should."""

import html
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S, TIMERS_MS = 300, 60_000
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")


def find_browser() -> str | None:
    """Path of a Chromium on this machine, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def run_page(page: str, script: str = "") -> str:
    """The text of the element ``#result`` of a page after ``script`` has run in it.

    Raises RuntimeError where there is no browser, or for a page that leaves no result, such as one with an error.
    """
    browser = find_browser()
    if browser is None:
        raise RuntimeError(f"no browser to check the page with; install one of {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(f"{page}\n<pre id=result></pre>\n<script>\n{_CATCH}{script}\n</script>\n", encoding="utf-8")
        command = [browser, *_FLAGS, f"--user-data-dir={folder}/profile", f"--virtual-time-budget={TIMERS_MS}"]
        done = subprocess.run(
            [*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
    found = re.search(r'<pre id="result">([^<]+)', done.stdout)
    if not found:
        raise RuntimeError("the page left no result; open it and look at the console")
    return html.unescape(found[1])


_CATCH = """
const show = text => document.getElementById("result").textContent = text;
addEventListener("error", event => show(`error: ${event.message}`));
addEventListener("unhandledrejection", event => show(`error: ${event.reason}`));
"""
