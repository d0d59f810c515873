"""The planted faults: what goes wrong on purpose, each with a name, a strength and a sentence.

A strength is a number from 0 (the fault is off) to 1 (it strikes each time), or more where the fault is a length of
time. Each is set by an environment variable: `slow_publish` by FAULT_SLOW_PUBLISH.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from common.settings import Env


@dataclass(frozen=True)
class Fault:
    """A planted fault: its name, its strength by default and at most, and what a user sees of it."""

    name: str
    default: float
    most: float
    sentence: str

    @property
    def variable(self) -> str:
        """The environment variable that sets the strength."""
        return f"FAULT_{self.name.upper()}"


NULL_NAME = Fault("null_name", 0.1, 1, "The share of POSTs whose name is lost on the way: the database refuses NULL.")
SLOW_PUBLISH = Fault("slow_publish", 1, 10, "Messages of the slow beasts reach the broker 0.5 to 2.5 s late.")
SLOW_PROCESSING = Fault("slow_processing", 1, 10, "Messages of the slow beasts take 0.5 to 1.5 s longer to record.")
NEW_VERSION_FAILS = Fault("new_version_fails", 0.7, 1, "The share of failing requests that claim version 2.0.0.")
REQUEST_WAVES = Fault("request_waves", 1, 1, "Requests come in bursts with a long quiet between; at 0 they are even.")
DAILY_WIPE = Fault("daily_wipe", 1, 1, "All tables are dropped and made anew when the teardown timeout is over.")

PLANTED = (NULL_NAME, SLOW_PUBLISH, SLOW_PROCESSING, NEW_VERSION_FAILS, REQUEST_WAVES, DAILY_WIPE)

SLOW_BEASTS = frozenset({"beholder", "unicorn"})


class Faults:
    """The strengths in force in one process, and the dice that decide."""

    def __init__(self, strengths: Mapping[str, float], dice: random.Random) -> None:
        self._strengths = dict(strengths)
        self._dice = dice

    def strength(self, fault: Fault) -> float:
        """Give the fault's strength, 0 when it is off."""
        return self._strengths.get(fault.name, 0.0)

    def strikes(self, fault: Fault) -> bool:
        """Throw the dice: true in that share of calls that is the fault's strength."""
        strength = self.strength(fault)
        return strength > 0 and self._dice.random() < strength

    def seconds(self, fault: Fault, least: float, most: float) -> float:
        """Give a time between least and most seconds, times the fault's strength; 0 when it is off."""
        strength = self.strength(fault)
        return strength * self._dice.uniform(least, most) if strength > 0 else 0.0


def strengths(env: Env, *wanted: Fault) -> dict[str, float]:
    """Read the strengths of the faults that a service can show."""
    return {fault.name: env.number(fault.variable, fault.default, 0, fault.most) for fault in wanted}
