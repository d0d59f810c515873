"""How long to wait before the next try."""

import random
from collections.abc import Callable


class Backoff:
    """Waits that double from `first_s` to `most_s`, each shortened at random by up to half.

    Without the jitter every service would come back in the same instant and knock over a broker that has just started.
    """

    def __init__(self, first_s: float = 0.2, most_s: float = 4.0, chance: Callable[[], float] = random.random) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._chance = chance
        self._next_s = first_s

    def next(self) -> float:
        """Seconds to wait now; the following wait is up to twice as long."""
        wait_s = self._next_s
        self._next_s = min(wait_s * 2, self._most_s)
        return wait_s * (1 - self._chance() / 2)

    def reset(self) -> None:
        """Start again from `first_s`, after a success."""
        self._next_s = self._first_s
