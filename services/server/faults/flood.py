"""The fault `log_flood`: many lines that tell nothing, at a bounded rate."""

import logging

from common.faults import LOG_FLOOD, Faults
from common.faults.background import BackgroundFault

log = logging.getLogger(__name__)

LINES, PAUSE_S = 20, 0.1


def log_flood(faults: Faults) -> BackgroundFault:
    """Give the fault: 200 lines a second, times its strength."""

    def step(strength: float) -> float:
        for _ in range(round(LINES * strength)):
            log.info("cache looked up", extra={"fields": {"status": "SUCCESS"}})
        return PAUSE_S

    return BackgroundFault(faults, LOG_FLOOD, step)
