"""Progress bars of tqdm, which is imported only where one is shown: a device reads maps without it."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

Item = TypeVar("Item")
PERIOD = 30
"""Seconds between two lines in a log."""


class _Silent:
    """A bar that shows nothing."""

    def update(self, count: int) -> None:
        """Forget the count."""


def bar(shown: bool, **options: Any) -> AbstractContextManager[Any]:
    """A bar of tqdm, to be moved by ``update``, or something that shows nothing."""
    if not shown:
        return nullcontext(_Silent())
    from tqdm import tqdm

    return tqdm(**options)


def each(items: Iterable[Item], shown: bool, **options: Any) -> Iterator[Item]:
    """The items, with a bar that moves as they are taken."""
    with bar(shown, **options) as progress:
        for item in items:
            yield item
            progress.update(1)


class Lines:
    """Steps of a run in a log: a line when something begins, and one at most every half a minute."""

    def __init__(self, desc: str, total: int, initial: int):
        self.desc, self.total, self.done = desc, total, initial
        self.note, self.began, self.said = "", (time.monotonic(), initial), time.monotonic()

    def set_description(self, text: str) -> None:
        """Name what is going on."""
        if text != self.desc:
            print(text, file=sys.stderr, flush=True)
        self.desc = text

    def set_postfix(self, values: dict[str, str]) -> None:
        """Keep the latest scores for the next line."""
        self.note = "".join(f", {name} {value}" for name, value in values.items())

    def update(self, count: int) -> None:
        """Count steps."""
        self.done += count
        now = time.monotonic()
        if now - self.said > PERIOD or self.done == self.total:
            self.said, (start, first) = now, self.began
            left = (self.total - self.done) * (now - start) / (self.done - first)
            text = f"{self.desc}: step {self.done:,} of {self.total:,}{self.note}, {duration(left)} left"
            print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A time to wait, in words."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@contextmanager
def steps(name: str, total: int, initial: int, shown: bool) -> Iterator[Any]:
    """A bar of tqdm on a terminal, lines in a log, and nothing where it is not shown."""
    if shown and not sys.stderr.isatty():
        yield Lines(name, total, initial)
        return
    from tqdm import tqdm

    with tqdm(total=total, initial=initial, desc=name, unit="step", disable=not shown) as progress:
        yield progress
