"""Exponential backoff with jitter."""

import random
from collections.abc import Callable


class Backoff:
    """Delays that double from `first_s` to `max_s` seconds, each shortened at random by up to half.

    Without the jitter all clients of a server that has just started would reconnect at the same instant.
    """

    def __init__(self, first_s: float = 0.2, max_s: float = 4.0, rng: Callable[[], float] = random.random) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._rng = rng
        self._next_s = first_s

    def next(self) -> float:
        """Return the seconds to wait before the next attempt; the following delay is up to twice as long."""
        delay_s = self._next_s
        self._next_s = min(delay_s * 2, self._max_s)
        return delay_s * (1 - self._rng() / 2)

    def reset(self) -> None:
        """Start again from `first_s`, after a success."""
        self._next_s = self._first_s
