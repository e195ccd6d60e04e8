"""Progress bars of tqdm, which is imported only where one is shown: a device reads maps without it."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

Item = TypeVar("Item")


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
