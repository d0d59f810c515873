"""The strengths of the faults in one process: as configured at startup, or set at runtime for a limited time."""

import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.core.env import Env
from common.faults.registry import ALL_FAULTS, Fault

MIN_LEASE_S, MAX_LEASE_S = 1.0, 86_400.0

# The public name of a blind fault.
UNNAMED = "unnamed"


class InvalidFaultSetting(Exception):
    """A strength or a duration that is not allowed; the text is one line with the allowed values."""


class UnknownFault(InvalidFaultSetting):
    """A name that is not one of this service's faults."""


@dataclass(frozen=True)
class Lease:
    """A strength until `ends`, in seconds of the monotonic clock; `blind` hides the fault's name from learners."""

    strength: float
    ends: float
    blind: bool


@dataclass(frozen=True)
class Change:
    """A change of strength; `public_name` is the name to show."""

    fault: Fault
    strength: float
    public_name: str


class Faults:
    """The current strengths in one process, and the random numbers that decide when a fault triggers.

    Reading a strength is one dictionary look-up, because a timer restores the strength when its lease ends.
    """

    def __init__(
        self, strengths: Mapping[str, float], rng: random.Random, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._configured = dict(strengths)
        self._current = dict(strengths)
        self._rng = rng
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._timers: dict[str, threading.Timer] = {}
        self._lock = threading.RLock()
        self._listeners: list[Callable[[Change], None]] = []

    @property
    def supported(self) -> tuple[Fault, ...]:
        """The faults that this process supports."""
        return tuple(fault for fault in ALL_FAULTS if fault.name in self._configured)

    def strength(self, fault: Fault) -> float:
        """Return the fault's current strength, 0 if it is off."""
        return self._current.get(fault.name, 0.0)

    def should_trigger(self, fault: Fault) -> bool:
        """Return True at random, with the fault's strength as the probability."""
        strength = self._current.get(fault.name, 0.0)
        return strength > 0 and self._rng.random() < strength

    def random_delay(self, fault: Fault, low: float, high: float) -> float:
        """Return a random time from low to high seconds, times the fault's strength; 0 if it is off."""
        strength = self._current.get(fault.name, 0.0)
        return strength * self._rng.uniform(low, high) if strength > 0 else 0.0

    def configured_strength(self, fault: Fault) -> float:
        """Return the startup strength, which applies without a lease."""
        return self._configured.get(fault.name, 0.0)

    def lease(self, fault: Fault) -> Lease | None:
        """Return the lease of a fault that was set at runtime."""
        return self._leases.get(fault.name)

    def seconds_left(self, lease: Lease) -> float:
        """Return the remaining seconds of a lease."""
        return max(lease.ends - self._clock(), 0.0)

    def public_name(self, fault: Fault) -> str:
        """Return the name to show: `unnamed` while the fault is set blind."""
        lease = self._leases.get(fault.name)
        return UNNAMED if lease and lease.blind else fault.name

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` after each change, on the thread that made it."""
        self._listeners.append(listener)

    def get(self, name: str) -> Fault:
        """Return the fault with that name; raise UnknownFault."""
        for fault in self.supported:
            if fault.name == name:
                return fault
        raise UnknownFault(f"unknown fault {name[:40]!r}; use one of {', '.join(f.name for f in self.supported)}")

    def set(self, name: str, strength: float, seconds: float, *, blind: bool = False) -> None:
        """Set a fault's strength for some seconds, replacing an earlier lease; raise InvalidFaultSetting."""
        fault = self.get(name)
        check_strength(fault, strength)
        if not MIN_LEASE_S <= seconds <= MAX_LEASE_S:
            raise InvalidFaultSetting(f"seconds={seconds:g} is out of range; use {MIN_LEASE_S:g} to {MAX_LEASE_S:g}")
        lease = Lease(strength, self._clock() + seconds, blind)
        with self._lock:
            self._leases[fault.name] = lease
            self._start_timer(fault, lease, seconds)
            self._apply(fault, strength, self.public_name(fault))

    def clear(self, name: str | None = None) -> None:
        """Restore the startup strength of a fault, or of all; raise UnknownFault."""
        for fault in self.supported if name is None else (self.get(name),):
            if lease := self._leases.get(fault.name):
                self._end(fault, lease)

    def _end(self, fault: Fault, lease: Lease) -> None:
        """End a lease, unless another one has replaced it."""
        with self._lock:
            if self._leases.get(fault.name) is lease:
                public_name = self.public_name(fault)
                del self._leases[fault.name]
                self._timers.pop(fault.name).cancel()
                self._apply(fault, self.configured_strength(fault), public_name)

    def _start_timer(self, fault: Fault, lease: Lease, seconds: float) -> None:
        """Schedule the end of a lease; cancel the timer of the previous one, which would keep a thread for nothing."""
        if previous := self._timers.pop(fault.name, None):
            previous.cancel()
        timer = self._timers[fault.name] = threading.Timer(seconds, self._end, (fault, lease))
        timer.daemon = True
        timer.start()

    def _apply(self, fault: Fault, strength: float, public_name: str) -> None:
        before = self._current.get(fault.name, 0.0)
        self._current[fault.name] = strength
        if strength != before:
            for listener in self._listeners:
                listener(Change(fault, strength, public_name))


def finite(value: object) -> float | None:
    """Return a number from a JSON body; None for booleans, NaN, infinities and integers too large for a float."""
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass  # JSON allows integers of 400 digits
    return None


def check_strength(fault: Fault, strength: float) -> None:
    """Raise InvalidFaultSetting for a strength that the fault does not allow."""
    if not 0 <= strength <= fault.max_strength:
        limit = fault.max_strength
        raise InvalidFaultSetting(f"strength {strength:g} of {fault.name} is out of range; use 0 to {limit:g}")


def configured_strengths(env: Env, *faults: Fault) -> dict[str, float]:
    """Read the startup strengths of a service's faults."""
    return {fault.name: env.number(fault.variable, fault.default, 0, fault.max_strength) for fault in faults}
