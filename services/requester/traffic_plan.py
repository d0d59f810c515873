"""The plan: what is requested when, as one sequence that a seed decides."""

import random
import threading
from dataclasses import dataclass
from typing import Literal

from common.core.endpoints import Catalogue
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
    wrong: bool
    then_delete: bool
    version: float
    pause_s: float


class Plan:
    """Gives the rounds in order to whichever loop asks; the same seed gives the same rounds."""

    def __init__(self, catalogue: Catalogue, faults: Faults, *, seed: int, rate: float, error_odds: float) -> None:
        self._catalogue = catalogue
        self._faults = faults
        self._rate = rate
        self._error_odds = error_odds
        self._dice = random.Random(seed)  # noqa: S311 - dice, not secrets
        self._count = 0
        self._lock = threading.Lock()

    def next(self) -> Round:
        """Give the next round.

        Every round throws the same dice in the same order, whatever comes of them: were the name drawn for a POST
        only, one changed choice would change all that follow.
        """
        with self._lock:
            dice, names = self._dice, self._catalogue.names
            method: Literal["GET", "POST"] = "GET" if dice.random() < 0.5 else "POST"  # noqa: PLR2004 - equally likely
            index = dice.randrange(len(names))
            planned = Round(
                method=method,
                beast=names[index],
                name=random_name(dice),
                wrong=dice.random() < self._error_odds,
                then_delete=dice.random() < index / len(names) and method == "GET",
                version=dice.random(),
                pause_s=self._pause_s(dice.random()) / self._rate,
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
