"""A page in headless Chromium, with a script that acts as its user would."""

import shutil
import subprocess

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PRESS = (
    'const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));'
)


def acted(page: str, script: str) -> str:
    """``page`` with a script that runs as an asynchronous function once the page is there; `press` presses a key."""
    run = f"<script>{PRESS} (async () => {{ await new Promise((go) => setTimeout(go, 300)); {script} }})();</script>"
    return page.replace("</body>", f"{run}</body>")


def dom(address: str) -> str:
    """The document after its scripts have run. Skips the test without Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    line = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=5000",
        "--dump-dom",
        address,
    ]
    return subprocess.run(line, capture_output=True, text=True, timeout=120).stdout
