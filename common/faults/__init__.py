"""Injected faults: the list of them, and their current strengths in a process.

A strength is a number from 0 (the fault is off) to 1 (it triggers every time), or more if the fault is a duration or
an amount. An environment variable sets it at startup, such as FAULT_SLOW_PUBLISH for `slow_publish`;
`python -m workshop fault set` changes it at runtime, for a limited time.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.core.env import Env

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

log = logging.getLogger(__name__)

MIN_LEASE_S, MAX_LEASE_S = 1.0, 86_400.0

# The public name of a blind fault.
UNNAMED = "unnamed"

# In the order of their definition, in which programs list them.
ALL_FAULTS: "list[Fault]" = []


@dataclass(frozen=True)
class Fault:
    """An injected fault: its name, its service, its default and maximum strength, and its visible effect.

    Each that is defined is added to ALL_FAULTS.
    """

    name: str
    service: str
    default: float
    max_strength: float
    sentence: str

    def __post_init__(self) -> None:
        ALL_FAULTS.append(self)

    @property
    def variable(self) -> str:
        """The environment variable that sets the startup strength."""
        return f"FAULT_{self.name.upper()}"


# On by default, so that there is something to find.
NULL_NAME = Fault(
    "null_name", "server", 0.1, 1, "The share of POSTs that fail, because the database rejects a NULL name."
)
SLOW_PUBLISH = Fault(
    "slow_publish", "requester", 1, 10, "Messages about slow beasts are published 0.5 to 2.5 s late, times this value."
)
SLOW_PROCESSING = Fault(
    "slow_processing", "recorder", 1, 10, "Slow beasts' messages take 0.5 to 1.5 s longer to record, times this value."
)
NEW_VERSION_FAILS = Fault(
    "new_version_fails", "requester", 0.7, 1, "The share of failing requests that claim version 2.0.0."
)
REQUEST_WAVES = Fault(
    "request_waves", "requester", 1, 1, "Requests come in bursts with long pauses in between; at 0 they come evenly."
)
DAILY_WIPE = Fault("daily_wipe", "server", 1, 1, "All tables are dropped and recreated after the teardown timeout.")

# Off by default.
SLOW_QUERY = Fault("slow_query", "server", 0, 5, "Reading names takes Postgres 0.2 to 0.4 s longer, times this value.")
MISSING_INDEX = Fault(
    "missing_index", "server", 0, 1, "The tables have 100,000 more rows, times this value, and no index on the id."
)
LOCK_CONTENTION = Fault(
    "lock_contention", "server", 0, 1, "Writes wait: all tables are locked for 0.8 s per second, times this value."
)
N_PLUS_ONE = Fault("n_plus_one", "server", 0, 1, "The share of GETs that read each name with a separate statement.")
POOL_TOO_SMALL = Fault(
    "pool_too_small", "server", 0, 1, "The share of pool connections that leak; the others are kept 30 to 50 ms longer."
)
STALE_STATISTICS = Fault(
    "stale_statistics", "server", 0, 2, "GETs also read a table that has grown since its statistics were made."
)
IDLE_TRANSACTION = Fault(
    "idle_transaction", "server", 0, 1, "A session keeps its transaction open on all tables, and their wipe is due."
)
CPU_BURN = Fault("cpu_burn", "server", 0, 10, "Each GET wastes 10 to 20 ms of CPU time, times this value.")
LABEL_EXPLOSION = Fault(
    "label_explosion", "server", 0, 1, "A metric has a series for each of 400 visitors, times this value."
)
LOG_FLOOD = Fault("log_flood", "server", 0, 5, "200 meaningless log lines per second, times this value.")
LONG_LABEL = Fault(
    "long_label", "server", 0, 1, "A label of a metric has 4,000 characters, times this value; Mimir accepts 2,048."
)
BROKEN_PROPAGATION = Fault(
    "broken_propagation", "requester", 0, 1, "The share of requests that are sent without a trace header."
)
POISON_MESSAGES = Fault("poison_messages", "requester", 0, 1, "The share of messages that no recorder can parse.")
SILENT_TELEMETRY = Fault(
    "silent_telemetry", "requester", 0, 1, "The requester sends no spans and no metrics, only log lines."
)
SLOW_CONSUMER = Fault(
    "slow_consumer", "recorder", 0, 10, "Each message takes 0.4 to 0.6 s longer to record, times this value."
)
STUCK_CONSUMER = Fault(
    "stuck_consumer", "recorder", 0, 1, "The share of messages whose processing does not finish while this is on."
)
MEMORY_LEAK = Fault(
    "memory_leak", "recorder", 0, 10, "Each message leaks 32 KiB, times this value, up to 48 MiB in total."
)
CLOCK_SHIFT = Fault("clock_shift", "recorder", 0, 300, "The recorder's clock is slow by this many seconds.")
SLOW_PAGE = Fault(
    "slow_page",
    "frontend",
    0,
    5,
    "A script keeps the browser busy for 2 to 3 s before it shows names, times this value.",
)
FAILING_FETCH = Fault("failing_fetch", "frontend", 0, 1, "The share of the page's requests that fail with 500.")
SCRIPT_ERROR = Fault(
    "script_error", "frontend", 0, 1, "The share of page loads whose script fails instead of showing names."
)

SLOW_BEASTS = frozenset({"beholder", "unicorn"})


def faults_of(service: str) -> tuple[Fault, ...]:
    """Return the faults of a service, given its short name, such as `server`."""
    return tuple(fault for fault in ALL_FAULTS if fault.service == service)


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

    A timer removes a lease when it ends, so that reading a strength reads no clock.
    """

    def __init__(
        self, strengths: Mapping[str, float], rng: random.Random, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._configured = dict(strengths)
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
        lease = self._leases.get(fault.name)
        return self.configured_strength(fault) if lease is None else lease.strength

    def should_trigger(self, fault: Fault) -> bool:
        """Return True at random, with the fault's strength as the probability."""
        strength = self.strength(fault)
        return strength > 0 and self._rng.random() < strength

    def random_delay(self, fault: Fault, low: float, high: float) -> float:
        """Return a random time from low to high seconds, times the fault's strength; 0 if it is off."""
        strength = self.strength(fault)
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
        timer = threading.Timer(seconds, self._end, (fault, lease))
        timer.daemon = True
        with self._lock:
            self._replace(fault, lease, timer, UNNAMED if blind else fault.name)
            timer.start()

    def clear(self, name: str | None = None) -> None:
        """Restore the startup strength of a fault, or of all; raise UnknownFault."""
        for fault in self.supported if name is None else (self.get(name),):
            if lease := self._leases.get(fault.name):
                self._end(fault, lease)

    def _end(self, fault: Fault, lease: Lease) -> None:
        """End a lease, unless another one has replaced it."""
        with self._lock:
            if self._leases.get(fault.name) is lease:
                self._replace(fault, None, None, self.public_name(fault))

    def _replace(self, fault: Fault, lease: Lease | None, timer: threading.Timer | None, public_name: str) -> None:
        """Replace a lease and its timer, which would keep a thread for nothing; notify if the strength changes."""
        before = self.strength(fault)
        if previous := self._timers.pop(fault.name, None):
            previous.cancel()
        if lease is None or timer is None:
            del self._leases[fault.name]
        else:
            self._leases[fault.name], self._timers[fault.name] = lease, timer
        strength = self.strength(fault)
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


def register_fault_telemetry(faults: Faults, meter: "Meter") -> None:
    """Register the gauge `mythical_fault_strength`, and log each change.

    It has a series for each fault whose strength is not its default; the six that are on by default would otherwise
    fill every dashboard with annotations. A fault that is set blind appears as `unnamed`.
    """

    # Here, as the supervising process of a service, which reads the list above, saves 2 MB.
    from opentelemetry.metrics import Observation

    def observe(_: "CallbackOptions") -> "Iterable[Observation]":
        for fault in faults.supported:
            strength = faults.strength(fault)
            if strength != fault.default:
                yield Observation(strength, {"fault": faults.public_name(fault)})

    meter.create_observable_gauge(
        "mythical_fault_strength", [observe], description="Strength of an injected fault that is not at its default."
    )

    def log_change(change: Change) -> None:
        log.warning("injected fault set", extra={"fields": {"fault": change.public_name, "strength": change.strength}})

    faults.on_change(log_change)
