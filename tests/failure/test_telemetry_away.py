"""The collector is gone, hangs, refuses or answers slowly, for all four signals, while the server is at full load."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from local.ports import LOOPBACK
from local.servers.postgres import Postgres
from tests.failure.beside import CALLERS, WINDOW_S, Windows, load
from tests.failure.conftest import Measured
from tests.failure.costs import used
from tests.failure.doors import Door, Fault
from tests.failure.refusers import refusing_grpc, refusing_http
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.service_support import (
    Fleet,
    ask,
    database_settings,
    fleet,
    own,
    own_database,
    spans_of,
    traceparent,
)

FAULTS = get_args(Fault)
HEALTHY_S = 12.0
# Windows of load after which all queues are full, at the latest.
FILLED_WITHIN = 20

pytestmark = pytest.mark.timeout(1800)

ENDS_S = 10.0
# A server that waited for its collector would answer a tenth as often as one next to it whose collector is healthy. The
# room is for what a busy machine does to only one of two programs: a server compared with itself came to 84 to 114 %.
# The CPU time for each answer varies less: it does not contain the time in which other programs run.
KEPT, DEARER = 0.5, 1.25
# The queues when full: 8,192 spans (some 15 MB) and 20,000 lines (some 40 MB), a batch of each under way, and the
# allocator's steps.
GROWTH_MB = 100.0

LOST_SPANS = re.compile(
    r'^otel_sdk_(?:processor_span_processed|exporter_span_exported)_total\{[^}]*error_type="[^}]*\} (\S+)$',
    re.MULTILINE,
)
LOST_LINES = re.compile(r"^mythical_log_lines_dropped_total\{[^}]*\} (\S+)$", re.MULTILINE)
LOSSES = (LOST_SPANS, LOST_LINES)


@dataclass(frozen=True)
class Doors:
    """The three doors of a collector, and the settings that lead a service through them."""

    doors: tuple[Door, Door, Door]

    @property
    def settings(self) -> dict[str, str]:
        """Where a service finds the doors."""
        otlp, loki, profiles = (str(door.port) for door in self.doors)
        return {
            "TRACING_COLLECTOR_HOST": LOOPBACK,
            "TRACING_COLLECTOR_PORT": otlp,
            "LOGS_TARGET": f"http://{LOOPBACK}:{loki}/loki/api/v1/push",
            "PROFILE_COLLECTOR_HOST": LOOPBACK,
            "PROFILE_COLLECTOR_PORT": profiles,
        }

    def fail(self, fault: Fault) -> None:
        """Have all three fail in the same way."""
        for door in self.doors:
            door.fail(fault)

    def heal(self) -> None:
        """Have all three hand on again."""
        for door in self.doors:
            door.heal()


@pytest.fixture
def doors(gateway: Gateway) -> Iterator[Doors]:
    """Doors to the session's gateway."""
    with ExitStack() as stack:
        grpc, http = stack.enter_context(refusing_grpc()), stack.enter_context(refusing_http())
        ports = gateway.ports
        ways = ((ports["otlp_grpc"], grpc), (ports["loki"], http), (ports["pyroscope"], http))
        first, second, third = (stack.enter_context(Door(upstream, refuser)) for upstream, refuser in ways)
        yield Doors((first, second, third))


@pytest.fixture
def telling(
    doors: Doors, gateway: Gateway, postgres: Postgres, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Fleet, Service]]:
    """A server with a database of its own that sends all four signals through the doors; a test may add settings."""
    settings = gateway.settings | doors.settings | {"FAULT_NULL_NAME": "0"} | getattr(request, "param", {})
    with own_database(postgres) as name, fleet(tmp_path, settings, database_settings(postgres, name)) as services:
        yield services, services.start("server")


@pytest.fixture
def beside(gateway: Gateway, postgres: Postgres, tmp_path: Path) -> Iterator[Service]:
    """A server like it whose signals go straight to the gateway."""
    folder = tmp_path / "beside"
    folder.mkdir()
    settings = gateway.settings | {"FAULT_NULL_NAME": "0"}
    with own_database(postgres) as name, fleet(folder, settings, database_settings(postgres, name)) as services:
        yield services.start("server")


def total(pattern: re.Pattern[str], server: Service) -> int:
    """The sum of the counters on the server's own page."""
    return int(sum(float(value) for value in pattern.findall(ask(server.base_url, "/metrics").text)))


def flows(gateway: Gateway, services: Fleet, server: Service) -> Callable[[], bool]:
    """Give a look at whether all four signals of what happens from now on have come to the gateway.

    Each look makes a request, for the first ones may find the queues still full; some of them have to come.
    """
    traces: list[str] = []

    def count() -> int:
        found = own(gateway.get("metrics", name="mythical_request_times"), services.namespace)
        return sum(point["count"] for each in found for point in each["points"])

    def profiles() -> set[str]:
        found = own(gateway.get("profiles", service="mythical-server", limit=10_000), services.namespace)
        return {str(each) for each in found}

    counted, known = count(), profiles()

    def look() -> bool:
        trace_id, header = traceparent()
        assert ask(server.base_url, "/unicorn", headers=header).status == 200
        traces.append(trace_id)
        asked = traces[:: len(traces) // 20 + 1]
        return bool(
            any(spans_of(gateway, trace) for trace in asked)
            and any(own(gateway.get("logs", trace_id=trace), services.namespace) for trace in asked)
            and count() > counted
            and profiles() - known
        )

    return look


def logged(gateway: Gateway, services: Fleet, text: str) -> list[dict[str, Any]]:
    """The lines at the gateway that contain the text."""
    return own(gateway.get("logs", contains=text, limit=10_000), services.namespace)


def test_a_collector_that_is_away_costs_little_and_what_it_missed_is_counted(  # noqa: PLR0917 - fixtures
    doors: Doors,
    telling: tuple[Fleet, Service],
    beside: Service,
    gateway: Gateway,
    away_minutes: float,
    measured: Measured,
) -> None:
    """Throughput and memory hold in each of four ways to be away; losses are counted and told; then all flows again."""
    away_s = away_minutes * 60 / len(FAULTS)
    healthy, away = Windows(), {fault: Windows() for fault in FAULTS}
    back_s: dict[str, float] = {}
    grown: dict[str, float] = {}
    lost: dict[str, tuple[int, ...]] = {}
    told: list[dict[str, Any]] = []
    services, server = telling
    Windows().run(server, beside, 2 * WINDOW_S)  # warm-up
    for fault in FAULTS:
        healthy.run(server, beside, HEALTHY_S)
        memory, before = used(server).own_mb, [total(each, server) for each in LOSSES]
        doors.fail(fault)
        away[fault].run(server, beside, away_s)
        grown[fault] = used(server).own_mb - memory
        doors.heal()
        began = time.monotonic()
        eventually(flows(gateway, services, server), 90, f"not all signals are back after {fault}")
        back_s[fault] = time.monotonic() - began
        if fault != "slow":
            eventually(
                lambda: logged(gateway, services, "profile server available again"), 30, f"no line after {fault}"
            )
        # Now, for the gateway's window holds the lines of half a minute at this load.
        told += logged(gateway, services, "xport")
        lost[fault] = tuple(total(each, server) - was for each, was in zip(LOSSES, before, strict=True))
    log = server.process.log.read_text(encoding="utf-8")
    kept = {fault: away[fault].share / healthy.share for fault in FAULTS}
    cost = {fault: away[fault].dearer / healthy.dearer for fault in FAULTS}
    for fault in FAULTS:
        measured(
            f"{fault} for {away_s:.0f} s: {kept[fault]:.0%} of {healthy.rate:.0f} answers/s, {cost[fault]:.0%} of "
            f"{healthy.cost:.2f} ms CPU for each, held against a server beside it; memory {grown[fault]:+.0f} MB; "
            f"{lost[fault][0]} spans and {lost[fault][1]} lines lost, as counted; all four "
            f"signals back after {back_s[fault]:.0f} s"
        )
    assert healthy.statuses.union(*(windows.statuses for windows in away.values())) <= {200, 201, 204}
    assert all(share > KEPT for share in kept.values()), kept
    assert all(each < DEARER for each in cost.values()), cost
    assert all(growth < GROWTH_MB for growth in grown.values()), grown
    assert all(lost[fault][0] for fault in ("closed", "silent", "refusing")), lost
    assert told, "no line tells that spans were lost"
    assert "ession failed" not in log, "the library's line for each push, which is for debugging"
    assert not any(lines for _, lines in lost.values()) or "wait for Loki" in log


def test_lines_are_sent_once_to_a_loki_that_answers_slowly(
    doors: Doors, telling: tuple[Fleet, Service], gateway: Gateway
) -> None:
    """An answer that comes after five seconds is waited for: the next lines follow, and none comes twice."""
    services, server = telling
    doors.fail("slow")

    def line_of_a_request() -> str:
        trace_id, header = traceparent()
        assert ask(server.base_url, "/unicorn", headers=header).status == 200
        eventually(lambda: own(gateway.get("logs", trace_id=trace_id), services.namespace))
        return trace_id

    first, _ = line_of_a_request(), line_of_a_request()
    lines = [str(line["line"]) for line in own(gateway.get("logs", trace_id=first), services.namespace)]
    assert len(lines) == len(set(lines))


# A thousand lines a second beside those of requests: of these alone, the queue would be full after half a minute.
@pytest.mark.parametrize("telling", [{"FAULT_LOG_FLOOD": "5"}], indirect=True, ids=["many lines"])
def test_a_server_ends_in_time_while_the_collector_is_silent(
    doors: Doors, telling: tuple[Fleet, Service], measured: Measured
) -> None:
    """All queues full, that of the lines too, and pushes of all four signals under way that nobody answers.

    What finds no room is counted and told; with SIGTERM the server is gone in time, with exit code 0.
    """
    _, server = telling
    doors.fail("silent")
    windows = 0
    while not all(lost := [total(each, server) for each in LOSSES]):
        assert windows < FILLED_WITHIN, f"spans and lines lost: {lost}"
        load(server, CALLERS)
        windows += 1
    began = time.monotonic()
    code = server.stop()
    took_s = time.monotonic() - began
    log = server.process.log.read_text(encoding="utf-8")
    measured(
        f"after {windows * WINDOW_S:.0f} s {lost[0]} spans and {lost[1]} lines lost, as counted; "
        f"gone {took_s:.1f} s after SIGTERM"
    )
    assert code == 0
    assert took_s < ENDS_S
    assert "wait for Loki" in log
    assert "Loki did not accept them before the process ended" in log
