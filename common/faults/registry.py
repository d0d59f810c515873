"""All injected faults, each with a name, a strength and a description.

A strength is a number from 0 (the fault is off) to 1 (it triggers every time), or more if the fault is a duration or
an amount. An environment variable sets it at startup, such as FAULT_SLOW_PUBLISH for `slow_publish`;
`python -m workshop fault set` changes it at runtime.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """An injected fault: its name, its service, its default and maximum strength, and its visible effect."""

    name: str
    service: str
    default: float
    max_strength: float
    sentence: str

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
MEMORY_LEAK = Fault(
    "memory_leak", "recorder", 0, 10, "Each message leaks 32 KiB, times this value, up to 48 MiB in total."
)
STUCK_CONSUMER = Fault(
    "stuck_consumer", "recorder", 0, 1, "The share of messages whose processing does not finish while this is on."
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
    """Return the faults of a service, given its short name, such as `server`."""
    return tuple(fault for fault in ALL_FAULTS if fault.service == service)
