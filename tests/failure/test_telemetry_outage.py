"""The collector is down, hangs, rejects data or answers slowly, for all four signals, with the server at full load."""

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
from tests.failure.conftest import Measured
from tests.failure.costs import used
from tests.failure.faulty_proxy import Fault, FaultyProxy
from tests.failure.paired_load import CALLERS, WINDOW_S, Windows, load
from tests.failure.rejecting_collectors import rejecting_grpc, rejecting_http
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
# The largest number of windows of load after which all queues are full.
MAX_WINDOWS = 20

pytestmark = pytest.mark.timeout(1800)

MAX_STOP_S = 10.0
# A server that waited for its collector would have a tenth of the rate of a control server with a healthy collector.
# The margin is for a busy machine that slows only one of the two: a server compared with itself had 84 to 114 %. The
# CPU time per response varies less, because it doesn't contain the time in which other programs run.
MIN_RATE, MAX_COST = 0.5, 1.25
# The queues when full: 8,192 spans (about 15 MB) and 20,000 lines (about 40 MB), a batch of each in flight, and the
# allocator's granularity.
MAX_GROWTH_MB = 100.0

LOST_SPANS = re.compile(
    r'^otel_sdk_(?:processor_span_processed|exporter_span_exported)_total\{[^}]*error_type="[^}]*\} (\S+)$',
    re.MULTILINE,
)
LOST_LINES = re.compile(r"^mythical_log_lines_dropped_total\{[^}]*\} (\S+)$", re.MULTILINE)
LOSSES = (LOST_SPANS, LOST_LINES)


@dataclass(frozen=True)
class Proxies:
    """The proxies of a collector's three ports, and the settings of a service that uses them."""

    proxies: tuple[FaultyProxy, FaultyProxy, FaultyProxy]

    @property
    def settings(self) -> dict[str, str]:
        """The environment of a service that sends through the proxies."""
        otlp, loki, profiles = (str(proxy.port) for proxy in self.proxies)
        return {
            "TRACING_COLLECTOR_HOST": LOOPBACK,
            "TRACING_COLLECTOR_PORT": otlp,
            "LOGS_TARGET": f"http://{LOOPBACK}:{loki}/loki/api/v1/push",
            "PROFILE_COLLECTOR_HOST": LOOPBACK,
            "PROFILE_COLLECTOR_PORT": profiles,
        }

    def fail(self, fault: Fault) -> None:
        """Make all three fail in the same way."""
        for proxy in self.proxies:
            proxy.fail(fault)

    def heal(self) -> None:
        """Make all three forward again."""
        for proxy in self.proxies:
            proxy.heal()


@pytest.fixture
def proxies(gateway: Gateway) -> Iterator[Proxies]:
    """Proxies to the session's gateway."""
    with ExitStack() as stack:
        grpc, http = stack.enter_context(rejecting_grpc()), stack.enter_context(rejecting_http())
        ports = gateway.ports
        targets = ((ports["otlp_grpc"], grpc), (ports["loki"], http), (ports["pyroscope"], http))
        first, second, third = (stack.enter_context(FaultyProxy(*target)) for target in targets)
        yield Proxies((first, second, third))


@pytest.fixture
def exporting(
    proxies: Proxies, gateway: Gateway, postgres: Postgres, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Fleet, Service]]:
    """A server with a separate database that sends all four signals through the proxies; a test may add settings."""
    settings = gateway.settings | proxies.settings | {"FAULT_NULL_NAME": "0"} | getattr(request, "param", {})
    with own_database(postgres) as name, fleet(tmp_path, settings, database_settings(postgres, name)) as services:
        yield services, services.start("server")


@pytest.fixture
def control(gateway: Gateway, postgres: Postgres, tmp_path: Path) -> Iterator[Service]:
    """A control server that sends its signals directly to the gateway."""
    folder = tmp_path / "control"
    folder.mkdir()
    settings = gateway.settings | {"FAULT_NULL_NAME": "0"}
    with own_database(postgres) as name, fleet(folder, settings, database_settings(postgres, name)) as services:
        yield services.start("server")


def total(pattern: re.Pattern[str], server: Service) -> int:
    """Return the sum of the counters at the server's /metrics."""
    return int(sum(float(value) for value in pattern.findall(ask(server.base_url, "/metrics").text)))


def all_signals_arrive(gateway: Gateway, services: Fleet, server: Service) -> Callable[[], bool]:
    """Return a function that returns whether all four signals of later requests have arrived at the gateway.

    Each call makes a request, because the signals of the first ones may find the queues still full.
    """
    traces: list[str] = []

    def count() -> int:
        found = own(gateway.get("metrics", name="mythical_request_times"), services.namespace)
        return sum(point["count"] for each in found for point in each["points"])

    def profiles() -> set[str]:
        found = own(gateway.get("profiles", service="mythical-server", limit=10_000), services.namespace)
        return {str(each) for each in found}

    count_before, profiles_before = count(), profiles()

    def poll() -> bool:
        trace_id, header = traceparent()
        assert ask(server.base_url, "/unicorn", headers=header).status == 200
        traces.append(trace_id)
        sample = traces[:: len(traces) // 20 + 1]
        return bool(
            any(spans_of(gateway, trace) for trace in sample)
            and any(own(gateway.get("logs", trace_id=trace), services.namespace) for trace in sample)
            and count() > count_before
            and profiles() - profiles_before
        )

    return poll


def logged(gateway: Gateway, services: Fleet, text: str) -> list[dict[str, Any]]:
    """Return the log lines at the gateway that contain the text."""
    return own(gateway.get("logs", contains=text, limit=10_000), services.namespace)


def test_throughput_holds_in_a_collector_outage_and_losses_are_counted(  # noqa: PLR0917 - fixtures
    proxies: Proxies,
    exporting: tuple[Fleet, Service],
    control: Service,
    gateway: Gateway,
    outage_minutes: float,
    measured: Measured,
) -> None:
    """Throughput and memory hold in each of four outages; losses are counted and logged; then all signals arrive."""
    outage_s = outage_minutes * 60 / len(FAULTS)
    healthy, outage = Windows(), {fault: Windows() for fault in FAULTS}
    recovery_s: dict[str, float] = {}
    growth: dict[str, float] = {}
    lost: dict[str, tuple[int, ...]] = {}
    export_lines: list[dict[str, Any]] = []
    services, server = exporting
    Windows().run(server, control, 2 * WINDOW_S)  # warm-up
    for fault in FAULTS:
        healthy.run(server, control, HEALTHY_S)
        memory, before = used(server).own_mb, [total(each, server) for each in LOSSES]
        proxies.fail(fault)
        outage[fault].run(server, control, outage_s)
        growth[fault] = used(server).own_mb - memory
        proxies.heal()
        began = time.monotonic()
        eventually(all_signals_arrive(gateway, services, server), 90, f"not all signals arrive again after {fault}")
        recovery_s[fault] = time.monotonic() - began
        if fault != "slow":
            eventually(
                lambda: logged(gateway, services, "profile server available again"), 30, f"no line after {fault}"
            )
        # Here, because the gateway's window holds only half a minute of log lines at this load.
        export_lines += logged(gateway, services, "xport")
        lost[fault] = tuple(total(each, server) - earlier for each, earlier in zip(LOSSES, before, strict=True))
    log = server.process.log.read_text(encoding="utf-8")
    rates = {fault: outage[fault].relative_rate / healthy.relative_rate for fault in FAULTS}
    costs = {fault: outage[fault].relative_cost / healthy.relative_cost for fault in FAULTS}
    for fault in FAULTS:
        measured(
            f"{fault} for {outage_s:.0f} s: {rates[fault]:.0%} of {healthy.rate:.0f} responses/s, {costs[fault]:.0%} "
            "of "
            f"{healthy.cost:.2f} ms CPU for each, relative to a control server; memory {growth[fault]:+.0f} MB; "
            f"{lost[fault][0]} spans and {lost[fault][1]} lines lost, as counted; all four "
            f"signals arrived again after {recovery_s[fault]:.0f} s"
        )
    assert healthy.statuses.union(*(windows.statuses for windows in outage.values())) <= {200, 201, 204}
    assert all(rate > MIN_RATE for rate in rates.values()), rates
    assert all(cost < MAX_COST for cost in costs.values()), costs
    assert all(each < MAX_GROWTH_MB for each in growth.values()), growth
    assert all(lost[fault][0] for fault in ("closed", "silent", "rejecting")), lost
    assert export_lines, "no log line reports lost spans"
    assert "ession failed" not in log, "the library's line for each push, which is for debugging"
    assert not any(lines for _, lines in lost.values()) or "wait for Loki" in log


def test_log_lines_are_sent_once_to_a_slow_loki(
    proxies: Proxies, exporting: tuple[Fleet, Service], gateway: Gateway
) -> None:
    """The service waits for a response that takes five seconds; the next lines follow, and none arrives twice."""
    services, server = exporting
    proxies.fail("slow")

    def line_of_a_request() -> str:
        trace_id, header = traceparent()
        assert ask(server.base_url, "/unicorn", headers=header).status == 200
        eventually(lambda: own(gateway.get("logs", trace_id=trace_id), services.namespace))
        return trace_id

    first, _ = line_of_a_request(), line_of_a_request()
    lines = [str(line["line"]) for line in own(gateway.get("logs", trace_id=first), services.namespace)]
    assert len(lines) == len(set(lines))


# A thousand lines a second in addition to those of requests: alone, they would fill the queue in half a minute.
@pytest.mark.parametrize("exporting", [{"FAULT_LOG_FLOOD": "5"}], indirect=True, ids=["log flood"])
def test_server_stops_in_time_while_the_collector_is_silent(
    proxies: Proxies, exporting: tuple[Fleet, Service], measured: Measured
) -> None:
    """After SIGTERM the server exits in time with code 0, with all queues full and unanswered exports of all signals.

    Signals that don't fit into the queues are counted and logged.
    """
    _, server = exporting
    proxies.fail("silent")
    windows = 0
    while not all(lost := [total(each, server) for each in LOSSES]):
        assert windows < MAX_WINDOWS, f"spans and lines lost: {lost}"
        load(server, CALLERS)
        windows += 1
    began = time.monotonic()
    code = server.stop()
    took_s = time.monotonic() - began
    log = server.process.log.read_text(encoding="utf-8")
    measured(
        f"after {windows * WINDOW_S:.0f} s {lost[0]} spans and {lost[1]} lines lost, as counted; "
        f"stopped {took_s:.1f} s after SIGTERM"
    )
    assert code == 0
    assert took_s < MAX_STOP_S
    assert "wait for Loki" in log
    assert "Loki did not accept them before the process ended" in log
