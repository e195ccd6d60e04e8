"""Progress bars of tqdm, which is imported only where one is shown: a device reads maps without it."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

Item = TypeVar("Item")


class _Silent:
    """A bar that shows nothing."""

    n = 0

    def update(self, count: int) -> None:
        """Forget the count."""


def each(items: Iterable[Item], shown: bool, **options: Any) -> Iterable[Item]:
    """The items, with a bar that moves as they are taken."""
    if not shown:
        return items
    from tqdm import tqdm

    return tqdm(items, **options)


def bytes_bar(size: int, description: str, shown: bool) -> AbstractContextManager[Any]:
    """A bar over so many bytes, to be moved by ``update``; ``n`` is how far it is."""
    if not shown:
        return nullcontext(_Silent())
    from tqdm import tqdm

    return tqdm(total=size, unit="B", unit_scale=True, desc=description)
