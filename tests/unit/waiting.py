"""Wait for the work of other threads, without sleeping longer than needed."""

import time
from collections.abc import Callable

import pytest

DEADLINE_S = 60.0


def eventually(done: Callable[[], object], what: str) -> None:
    """Return when `done` returns true, or fail the test after a minute."""
    end = time.monotonic() + DEADLINE_S
    while not done():
        if time.monotonic() > end:
            pytest.fail(f"no {what} within {DEADLINE_S:.0f} s")
        time.sleep(0.005)
