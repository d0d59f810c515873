"""The planted faults: what goes wrong on purpose, each with a name, a strength and a sentence.

A strength is a number from 0 (the fault is off) to 1 (it triggers each time), or more where the fault is a length of
time or an amount. Each is set at start by an environment variable, `slow_publish` by FAULT_SLOW_PUBLISH, and while
the services run by `python -m workshop fault set`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A planted fault: its name, who shows it, its strength by default and at most, and what a user sees of it."""

    name: str
    service: str
    default: float
    max_strength: float
    sentence: str

    @property
    def variable(self) -> str:
        """The environment variable that sets the strength at start."""
        return f"FAULT_{self.name.upper()}"


# On by default: a suite without them would have nothing to show.
NULL_NAME = Fault(
    "null_name", "server", 0.1, 1, "The share of POSTs whose name is lost on the way: the database refuses NULL."
)
SLOW_PUBLISH = Fault(
    "slow_publish", "requester", 1, 10, "Messages of the slow beasts reach the broker 0.5 to 2.5 s late, times this."
)
SLOW_PROCESSING = Fault(
    "slow_processing", "recorder", 1, 10, "Messages of the slow beasts take 0.5 to 1.5 s longer to record, times this."
)
NEW_VERSION_FAILS = Fault(
    "new_version_fails", "requester", 0.7, 1, "The share of failing requests that claim version 2.0.0."
)
REQUEST_WAVES = Fault(
    "request_waves", "requester", 1, 1, "Requests come in bursts with a long quiet between; at 0 they are even."
)
DAILY_WIPE = Fault(
    "daily_wipe", "server", 1, 1, "All tables are dropped and made anew when the teardown timeout is over."
)

# Off by default.
SLOW_QUERY = Fault("slow_query", "server", 0, 5, "Reading names takes the database 0.2 to 0.4 s longer, times this.")
MISSING_INDEX = Fault(
    "missing_index", "server", 0, 1, "The tables are large, by 100,000 rows times this, and have no index on the id."
)
LOCK_CONTENTION = Fault(
    "lock_contention", "server", 0, 1, "Someone locks all tables for up to 0.8 of each second: what writes waits."
)
N_PLUS_ONE = Fault("n_plus_one", "server", 0, 1, "The share of GETs that read their names with a statement for each.")
POOL_TOO_SMALL = Fault(
    "pool_too_small", "server", 0, 1, "This share of connections is not there; the others are kept 30 to 50 ms longer."
)
CPU_BURN = Fault("cpu_burn", "server", 0, 10, "Each GET computes for 10 to 20 ms, times this, for nothing.")
LABEL_EXPLOSION = Fault(
    "label_explosion", "server", 0, 1, "A metric has a series for each of 400 visitors, times this."
)
LOG_FLOOD = Fault("log_flood", "server", 0, 5, "200 lines a second, times this, that tell nothing.")
LONG_LABEL = Fault(
    "long_label", "server", 0, 1, "A label of a metric has 4,000 characters, times this; Mimir takes 2,048."
)
BROKEN_PROPAGATION = Fault(
    "broken_propagation", "requester", 0, 1, "The share of requests that are sent without the header of their trace."
)
POISON_MESSAGES = Fault(
    "poison_messages", "requester", 0, 1, "The share of messages with a text that no recorder can read."
)
SILENT_TELEMETRY = Fault(
    "silent_telemetry", "requester", 0, 1, "No span and no metric leaves the requester; its log lines still do."
)
SLOW_CONSUMER = Fault(
    "slow_consumer", "recorder", 0, 10, "Each message takes 0.4 to 0.6 s longer to record, times this."
)
MEMORY_LEAK = Fault(
    "memory_leak", "recorder", 0, 10, "32 KiB, times this, are kept of each message, up to 48 MiB in all."
)
STUCK_CONSUMER = Fault(
    "stuck_consumer", "recorder", 0, 1, "The share of messages that are taken and not finished before this is off."
)
CLOCK_SHIFT = Fault("clock_shift", "recorder", 0, 300, "The recorder's clock is slow by this many seconds.")

ALL_FAULTS = (
    NULL_NAME,
    SLOW_PUBLISH,
    SLOW_PROCESSING,
    NEW_VERSION_FAILS,
    REQUEST_WAVES,
    DAILY_WIPE,
    SLOW_QUERY,
    MISSING_INDEX,
    LOCK_CONTENTION,
    N_PLUS_ONE,
    POOL_TOO_SMALL,
    CPU_BURN,
    LABEL_EXPLOSION,
    LOG_FLOOD,
    LONG_LABEL,
    BROKEN_PROPAGATION,
    POISON_MESSAGES,
    SILENT_TELEMETRY,
    SLOW_CONSUMER,
    STUCK_CONSUMER,
    MEMORY_LEAK,
    CLOCK_SHIFT,
)

SLOW_BEASTS = frozenset({"beholder", "unicorn"})


def faults_of(service: str) -> tuple[Fault, ...]:
    """Give the faults that a service shows, by its short name, as in `server`."""
    return tuple(fault for fault in ALL_FAULTS if fault.service == service)
