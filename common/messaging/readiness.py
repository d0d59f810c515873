"""Wait until a publisher or consumer works, or learn why it does not."""

import time
from typing import Protocol

from common.messaging.errors import BrokerUnavailable, MessagingError, QueueMismatch, again

LOOK_EVERY_S = 0.01


class MayBeReady(Protocol):
    """A publisher or a consumer."""

    @property
    def ready(self) -> bool:
        """Whether it works now."""

    @property
    def trouble(self) -> MessagingError | None:
        """Why not, if known."""


def wait_until_ready(part: MayBeReady, timeout_s: float) -> None:
    """Return when `part` is ready; raise QueueMismatch at once, else BrokerUnavailable at the end."""
    deadline = time.monotonic() + timeout_s
    while not part.ready:
        trouble = part.trouble
        if isinstance(trouble, QueueMismatch) or time.monotonic() >= deadline:
            raise again(trouble) if trouble is not None else BrokerUnavailable(f"not ready within {timeout_s} s")
        time.sleep(LOOK_EVERY_S)
