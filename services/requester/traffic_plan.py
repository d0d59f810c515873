"""The plan: what is requested when, as one sequence that a seed decides."""

import random
import threading
from dataclasses import dataclass
from typing import Literal

from common.core.endpoints import EndpointSet
from common.faults import REQUEST_WAVES, Faults
from services.requester.names import random_name

CYCLE, BURST = 3000, 2000  # requests in a wave, and how many of them come quickly
QUICK_S, SLOW_S = (0.0, 0.05), (0.1, 1.1)  # pauses of one loop in the burst and in the quiet after it

# The same number of requests in the same time, without waves: the mean pause over a whole cycle.
EVEN_S = (BURST * sum(QUICK_S) / 2 + (CYCLE - BURST) * sum(SLOW_S) / 2) / CYCLE


@dataclass(frozen=True)
class Round:
    """One request to make: what it asks of which beast, whether a name is deleted after it, and the pause after."""

    method: Literal["GET", "POST"]
    beast: str
    name: str
    malformed: bool
    then_delete: bool
    version: float
    pause_s: float


class TrafficPlan:
    """Gives the rounds in order to whichever loop asks; the same seed gives the same rounds."""

    def __init__(self, endpoints: EndpointSet, faults: Faults, *, seed: int, rate: float, error_odds: float) -> None:
        self._endpoints = endpoints
        self._faults = faults
        self._rate = rate
        self._error_odds = error_odds
        self._rng = random.Random(seed)  # noqa: S311 - dice, not secrets
        self._count = 0
        self._lock = threading.Lock()

    def next(self) -> Round:
        """Give the next round.

        Every round throws the same rng in the same order, whatever comes of them: were the name drawn for a POST
        only, one changed choice would change all that follow.
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
        """Simulated: real users do not come in waves of 3,000, but waves make better graphs."""
        least, most = QUICK_S if self._count < BURST else SLOW_S
        wave = least + chance * (most - least)
        even = 2 * EVEN_S * chance
        strength = self._faults.strength(REQUEST_WAVES)
        return strength * wave + (1 - strength) * even
