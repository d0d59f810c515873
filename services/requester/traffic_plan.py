"""The plan: a sequence of requests and pauses, determined by a seed."""

import random
import threading
from dataclasses import dataclass
from typing import Literal

from common.core.endpoints import EndpointSet
from common.faults import REQUEST_WAVES, Faults
from services.requester.names import random_name

CYCLE, BURST = 3000, 2000  # requests in a wave, and how many of them in its burst
QUICK_S, SLOW_S = (0.0, 0.05), (0.1, 1.1)  # pauses of one thread in the burst and in the quiet phase after it

# The same number of requests in the same time, without waves: the mean pause over a whole cycle.
EVEN_S = (BURST * sum(QUICK_S) / 2 + (CYCLE - BURST) * sum(SLOW_S) / 2) / CYCLE


@dataclass(frozen=True)
class Round:
    """One request to send: its method and beast, whether to delete a name after it, and the pause that follows."""

    method: Literal["GET", "POST"]
    beast: str
    name: str
    malformed: bool
    then_delete: bool
    version: float
    pause_s: float


class TrafficPlan:
    """Generates the rounds for all threads, in order; the same seed generates the same rounds."""

    def __init__(self, endpoints: EndpointSet, faults: Faults, *, seed: int, rate: float, error_odds: float) -> None:
        self._endpoints = endpoints
        self._faults = faults
        self._rate = rate
        self._error_odds = error_odds
        self._rng = random.Random(seed)  # noqa: S311 - not for secrets
        self._count = 0
        self._lock = threading.Lock()

    def next(self) -> Round:
        """Return the next round.

        Every round draws the same random numbers in the same order. If the name were drawn for a POST only, one
        changed choice would change all rounds after it.
        """
        with self._lock:
            rng, names = self._rng, self._endpoints.names
            method: Literal["GET", "POST"] = "GET" if rng.random() < 0.5 else "POST"  # noqa: PLR2004 - equally likely
            index = rng.randrange(len(names))
            planned = Round(
                method=method,
                beast=names[index],
                name=random_name(rng),
                malformed=rng.random() < self._error_odds,
                then_delete=rng.random() < index / len(names) and method == "GET",
                version=rng.random(),
                pause_s=self._pause_s(rng.random()) / self._rate,
            )
            self._count = (self._count + 1) % CYCLE
            return planned

    def _pause_s(self, chance: float) -> float:
        """Return the pause for a random number from 0 to 1. Simulated: real users do not arrive in waves of 3,000."""
        least, most = QUICK_S if self._count < BURST else SLOW_S
        wave = least + chance * (most - least)
        even = 2 * EVEN_S * chance
        strength = self._faults.strength(REQUEST_WAVES)
        return strength * wave + (1 - strength) * even
