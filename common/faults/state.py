"""The strengths in force in one process: as at start, or set for a while from outside."""

import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.core.env import Env
from common.faults.registry import ALL_FAULTS, Fault

Told = Callable[["Change"], None]

MIN_LEASE_S, MAX_LEASE_S = 1.0, 86_400.0


class InvalidFaultSetting(Exception):
    """A strength or a lease that cannot be; its text is one line that says what can."""


class UnknownFault(InvalidFaultSetting):
    """A name that is none of this service's faults."""


@dataclass(frozen=True)
class Lease:
    """A strength for a while: until `ends`, by the monotonic clock; `blind` keeps its name out of what is told."""

    strength: float
    ends: float
    blind: bool


@dataclass(frozen=True)
class Change:
    """A fault is set otherwise now: its new strength, and the name that may be told of it."""

    fault: Fault
    strength: float
    public_name: str


# What a blind fault is called, so that it marks itself without giving itself away.
UNNAMED = "unnamed"


class Faults:
    """The strengths in force in one process, and the dice that decide.

    To ask for a strength is one look-up: a lease that ends puts the strength back by a timer of its own.
    """

    def __init__(
        self, strengths: Mapping[str, float], dice: random.Random, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_start = dict(strengths)
        self._now = dict(strengths)
        self._dice = dice
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._timers: dict[str, threading.Timer] = {}
        self._lock = threading.RLock()
        self._told: list[Told] = []

    @property
    def supported(self) -> tuple[Fault, ...]:
        """The faults that this process can show."""
        return tuple(fault for fault in ALL_FAULTS if fault.name in self._at_start)

    def strength(self, fault: Fault) -> float:
        """Give the fault's strength, 0 when it is off."""
        return self._now.get(fault.name, 0.0)

    def should_trigger(self, fault: Fault) -> bool:
        """Throw the dice: true in that share of calls that is the fault's strength."""
        strength = self._now.get(fault.name, 0.0)
        return strength > 0 and self._dice.random() < strength

    def random_delay(self, fault: Fault, least: float, most: float) -> float:
        """Give a time between least and most seconds, times the fault's strength; 0 when it is off."""
        strength = self._now.get(fault.name, 0.0)
        return strength * self._dice.uniform(least, most) if strength > 0 else 0.0

    def configured_strength(self, fault: Fault) -> float:
        """Give the strength that is in force without a lease."""
        return self._at_start.get(fault.name, 0.0)

    def lease(self, fault: Fault) -> Lease | None:
        """Give the lease of a fault that was set from outside."""
        return self._leases.get(fault.name)

    def seconds_left(self, lease: Lease) -> float:
        """Give how long a lease still lasts."""
        return max(lease.ends - self._clock(), 0.0)

    def public_name(self, fault: Fault) -> str:
        """Give the name by which the fault may be told of now."""
        lease = self._leases.get(fault.name)
        return UNNAMED if lease and lease.blind else fault.name

    def on_change(self, told: Told) -> None:
        """Have `told` called after each change, on the thread that made it."""
        self._told.append(told)

    def get(self, name: str) -> Fault:
        """Give the fault of a name; raises UnknownFault."""
        for fault in self.supported:
            if fault.name == name:
                return fault
        raise UnknownFault(
            f"there is no fault {name[:40]!r} here; there are {', '.join(f.name for f in self.supported)}"
        )

    def set(self, name: str, strength: float, seconds: float, *, blind: bool = False) -> None:
        """Set a fault for so many seconds, in place of an earlier lease; raises InvalidFaultSetting."""
        fault = self.get(name)
        check_strength(fault, strength)
        if not MIN_LEASE_S <= seconds <= MAX_LEASE_S:
            raise InvalidFaultSetting(f"seconds={seconds:g} is out of range; give {MIN_LEASE_S:g} to {MAX_LEASE_S:g}")
        lease = Lease(strength, self._clock() + seconds, blind)
        with self._lock:
            self._leases[fault.name] = lease
            self._time(fault, lease, seconds)
            self._put(fault, strength, self.public_name(fault))

    def clear(self, name: str | None = None) -> None:
        """Put a fault, or all, back to the strength at start; raises UnknownFault."""
        for fault in self.supported if name is None else (self.get(name),):
            if lease := self._leases.get(fault.name):
                self._end(fault, lease)

    def _end(self, fault: Fault, lease: Lease) -> None:
        """End a lease, unless another one has taken its place."""
        with self._lock:
            if self._leases.get(fault.name) is lease:
                public_name = self.public_name(fault)
                del self._leases[fault.name]
                self._timers.pop(fault.name).cancel()
                self._put(fault, self.configured_strength(fault), public_name)

    def _time(self, fault: Fault, lease: Lease, seconds: float) -> None:
        """Have the lease end in time; the timer of the one before would wait for nothing, in a thread of its own."""
        if before := self._timers.pop(fault.name, None):
            before.cancel()
        timer = self._timers[fault.name] = threading.Timer(seconds, self._end, (fault, lease))
        timer.daemon = True
        timer.start()

    def _put(self, fault: Fault, strength: float, public_name: str) -> None:
        before = self._now.get(fault.name, 0.0)
        self._now[fault.name] = strength
        if strength != before:
            for told in self._told:
                told(Change(fault, strength, public_name))


def finite(value: object) -> float | None:
    """Give a number of a JSON body, or None for what is none: a truth value, NaN, a whole number beyond all floats."""
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass  # of 400 digits: JSON has them, floats have not
    return None


def check_strength(fault: Fault, strength: float) -> None:
    """Raise InvalidFaultSetting for a strength that the fault cannot have."""
    if not 0 <= strength <= fault.max_strength:
        raise InvalidFaultSetting(
            f"strength {strength:g} of {fault.name} is out of range; give 0 to {fault.max_strength:g}"
        )


def configured_strengths(env: Env, *wanted: Fault) -> dict[str, float]:
    """Read the strengths of the faults that a service can show."""
    return {fault.name: env.number(fault.variable, fault.default, 0, fault.max_strength) for fault in wanted}
