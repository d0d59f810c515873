"""Hand things from many threads to the owner's, at one wake-up per batch."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from common.messaging.owner import Owner

T = TypeVar("T")


class Inbox(Generic[T]):
    """put() from any thread; `take` sees each item in order on the owner's thread.

    A wake-up is a system call and a thread switch: one per message would cost more than the publishing itself.
    """

    def __init__(self, owner: Owner, take: Callable[[T], None]) -> None:
        self._owner = owner
        self._take = take
        self._items: deque[T] = deque()
        self._woken = False

    def put(self, item: T) -> None:
        """Append an item and wake the owner, unless a wake-up is on its way already."""
        self._items.append(item)
        if not self._woken:
            self._woken = True
            self._owner.call(self._drain)

    def _drain(self) -> None:
        # Cleared before looking: an item appended after the look finds it cleared and wakes the owner again.
        self._woken = False
        try:
            for _ in range(len(self._items)):
                self._take(self._items.popleft())
        finally:
            if self._items and not self._woken:  # one item failed; the ones behind it must not wait for the next put()
                self._woken = True
                self._owner.call(self._drain)
