"""A map that evicts its oldest entries when it holds too many of them, or too many bytes."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedMap(Generic[K, V]):
    """An insertion-ordered map with a limit of entries and one of bytes; not thread-safe, the caller locks."""

    def __init__(self, limit: int, byte_limit: int) -> None:
        self.limit = limit
        self.byte_limit = byte_limit
        self.bytes = 0
        self.evicted = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def put(self, key: K, value: V, size: int) -> list[V]:
        """Store `value` of `size` bytes as the newest entry; return the values evicted to make room."""
        replaced = self._entries.pop(key, None)
        self.bytes += size - (replaced[1] if replaced else 0)
        self._entries[key] = (value, size)
        gone = []
        # The newest stays even if it alone is over the byte limit: the limit of a body bounds that.
        while len(self._entries) > 1 and (len(self._entries) > self.limit or self.bytes > self.byte_limit):
            _, (oldest, freed) = self._entries.popitem(last=False)
            self.bytes -= freed
            self.evicted += 1
            gone.append(oldest)
        return gone

    def get(self, key: K) -> V | None:
        """Return the value stored under `key`, or None."""
        entry = self._entries.get(key)
        return entry[0] if entry else None

    def pop(self, key: K) -> V | None:
        """Remove and return the value stored under `key`, or None; it does not count as evicted."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.bytes -= entry[1]
        return entry[0]

    def __len__(self) -> int:
        return len(self._entries)

    def newest_first(self) -> Iterator[V]:
        """Return the values, the newest first."""
        return (value for value, _ in reversed(self._entries.values()))

    def figures(self) -> dict[str, int]:
        """Return fill and bounds: held and limit (entries), bytes and byte_limit, and how many were evicted so far."""
        return {
            "held": len(self._entries),
            "limit": self.limit,
            "bytes": self.bytes,
            "byte_limit": self.byte_limit,
            "evicted": self.evicted,
        }
