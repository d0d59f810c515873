"""The collector is away, hangs or comes back: requests go on, data flows again, and a stop loses nothing."""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pika  # type: ignore[import-untyped]  # pika ships no py.typed
import pytest

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.failure.rejecting_collectors import rejecting_grpc, rejecting_http
from tests.integration.conftest import DEADLINE_S, STOP_S, Gateway, Service, eventually
from tests.integration.service_support import (
    Fleet,
    ask,
    black_hole,
    broker_settings,
    channel,
    clear_queues,
    database_settings,
    fleet,
    own,
    own_database,
    ready_messages,
    requests_to,
    spans_of,
    traceparent,
)
from tools.query import is_up

SLOW_S = 8.0  # an export that is waited for takes ten seconds to fail; the rest is for a busy machine

# Long enough that nothing leaves before the end, unless it is flushed.
NEVER = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_METRIC_EXPORT_INTERVAL": "60000"}


@pytest.fixture
def started(postgres: Postgres, rabbitmq: RabbitMQ, gateway: Gateway, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet with a database and queues of its own, whose services send to the session's gateway."""
    clear_queues(rabbitmq)
    with (
        own_database(postgres) as name,
        fleet(
            tmp_path,
            gateway.settings,
            database_settings(postgres, name),
            broker_settings(rabbitmq),
            {"FAULT_NULL_NAME": "0", "FAULT_SLOW_PUBLISH": "0", "FAULT_SLOW_PROCESSING": "0"},
        ) as services,
    ):
        yield services


class Restartable(Gateway):
    """A gateway on ports of its own, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        ports = {name: free_port() for name in ("otlp_grpc", "otlp_http", "loki", "pyroscope", "faro", "page")}
        flags = [part for name, port in ports.items() for part in (f"--{name.replace('_', '-')}", str(port))]
        process = Process(
            "own-gateway",
            [sys.executable, "-m", "local.gateway", *flags],
            log=folder / "gateway.log",
            record=folder / "gateway.pid",
            mark="local.gateway",
            environ=os.environ,
        )
        super().__init__(process, ports)

    def start(self) -> None:
        """Start it, empty."""
        self.process.launch()
        self.process.wait_ready(lambda: is_up(f"{self.page}/api/summary"), DEADLINE_S)


@pytest.fixture
def own_gateway(tmp_path: Path) -> Iterator[Restartable]:
    """A gateway that the test may kill."""
    gateway = Restartable(tmp_path)
    gateway.start()
    yield gateway
    gateway.process.stop(STOP_S)


def serve(server: Service) -> str:
    """Have one request served; give the id of its trace."""
    trace_id, header = traceparent()
    before = time.monotonic()
    assert ask(server.base_url, "/unicorn", headers=header).status == 200
    assert time.monotonic() - before < SLOW_S
    return trace_id


def test_requests_go_on_while_the_collector_is_away_and_data_flows_again(
    started: Fleet, own_gateway: Restartable
) -> None:
    """Killed and started again on the same ports: nothing is slowed, and all four signals come back by themselves."""
    server = started.start("server", **own_gateway.settings)
    first = serve(server)
    own_gateway.poll(lambda gateway: spans_of(gateway, first))
    own_gateway.process.kill()
    missed = [serve(server) for _ in range(100)]
    own_gateway.start()
    later = serve(server)
    own_gateway.poll(lambda gateway: spans_of(gateway, later))
    own_gateway.poll(lambda gateway: gateway.get("logs", trace_id=later))
    # Lines wait for the collector in a queue of their own, so those of the time without it come as well.
    own_gateway.poll(lambda gateway: gateway.get("logs", trace_id=missed[-1]))

    def counted(gateway: Gateway) -> bool:
        metrics = gateway.get("metrics", name="mythical_request_times")
        return bool(sum(point["count"] for metric in metrics for point in metric["points"]) >= 102)

    own_gateway.poll(counted)


def test_a_server_that_is_told_to_stop_sends_its_last_request(started: Fleet, gateway: Gateway) -> None:
    """One request, SIGTERM at once: its spans, its count with exemplar and its line all arrive."""
    server = started.start("server", **NEVER)
    trace_id = serve(server)
    assert end(server) == 0
    assert [span["name"] for span in spans_of(gateway, trace_id)] == ["GET /<beast>", "SELECT unicorn"]
    (line,) = gateway.get("logs", trace_id=trace_id)
    assert "status=SUCCESS" in line["line"]
    (metric,) = own(gateway.get("metrics", name="mythical_request_times"), started.namespace)
    (point,) = metric["points"]
    assert point["count"] == 1
    assert [each["trace_id"] for each in point["exemplars"]] == [trace_id]


def test_a_recorder_that_is_told_to_stop_finishes_and_tells(
    started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ
) -> None:
    """A message in hand at SIGTERM is recorded, and its span, count and line arrive."""
    recorder = started.start("recorder", **NEVER)
    trace_id, header = traceparent()
    with channel(rabbitmq) as on:
        on.basic_publish("", "messages", b"GET /unicorn", pika.BasicProperties(headers=dict(header)))
    eventually(lambda: ready_messages(rabbitmq, "messages") == 0)
    assert end(recorder) == 0
    (span,) = spans_of(gateway, trace_id)
    assert (span["name"], span["kind"]) == ("process_message", "CONSUMER")
    (line,) = gateway.get("logs", trace_id=trace_id)
    assert 'msg="message recorded"' in line["line"]
    assert total(gateway, started, "mythical_messages_recorded") == 1
    assert ready_messages(rabbitmq, "messages") == 0


def test_a_requester_that_is_told_to_stop_leaves_no_gap(started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ) -> None:
    """As many requests come as spans, in the count and as lines; as many messages as spans, in the count and queued."""
    server = started.launch("server")
    requester = started.start("requester", **NEVER, **requests_to(server), REQUESTER_START="0", REQUESTER_LOOPS="2")
    eventually(lambda: ready_messages(rabbitmq, "messages") > 20)
    assert end(requester) == 0
    spans = own(gateway.get("spans", service="mythical-requester", limit=5000), started.namespace)
    lines = own(
        gateway.get("logs", service="mythical-requester", contains="request made", limit=5000), started.namespace
    )
    names = [span["name"] for span in spans]
    assert names.count("requester") == total(gateway, started, "http.client.request.duration") == len(lines)
    published = total(gateway, started, "messaging.client.sent.messages")
    assert names.count("publish_to_queue") == published == ready_messages(rabbitmq, "messages")


def test_the_end_does_not_wait_for_a_collector(started: Fleet) -> None:
    """With all four signals to deliver, and a collector that refuses or hangs, each ends in time with code 0."""
    with black_hole() as silent:
        services: list[Service] = []
        for port in (silent, free_port()):
            told = {
                "TRACING_COLLECTOR_PORT": str(port),
                "LOGS_TARGET": f"http://{LOOPBACK}:{port}/loki/api/v1/push",
                "PROFILE_COLLECTOR_PORT": str(port),
            }
            server = started.launch("server", **told)
            services += [
                started.launch("requester", **told, **requests_to(server), REQUESTER_START="0"),
                started.launch("recorder", **told),
                server,
            ]
        started.ready()
        for service in services[2::3]:
            for _ in range(20):
                serve(service)
        assert end(*services) == 0


@pytest.mark.parametrize(("protocol", "refusing"), [("grpc", rejecting_grpc), ("http/protobuf", rejecting_http)])
def test_lines_that_the_collector_rejects_are_counted_and_reported(
    started: Fleet, protocol: str, refusing: Callable[[], AbstractContextManager[int]]
) -> None:
    """Log lines over OTLP, on the wire: a count by reason on /metrics, and a line on standard error."""
    with refusing() as port:
        server = started.start(
            "server",
            TRACING_COLLECTOR_PORT=str(port),
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_LOGS_EXPORTER="otlp",
            OTEL_METRICS_EXPORTER="none",
            OTEL_TRACES_EXPORTER="none",  # the SDK tells a reason once, of whichever signal failed first
        )

        def counted() -> bool:
            ask(server.base_url, "/unicorn")
            lost = r'^mythical_log_lines_dropped_total\{[^}]*reason="export_failed"[^}]*\} [1-9]'
            return bool(re.search(lost, ask(server.base_url, "/metrics").text, re.MULTILINE))

        eventually(counted)
        log = server.process.log.read_text(encoding="utf-8")
        assert end(server) == 0
    assert re.search(r'msg="\d+ log lines dropped: Failed to export logs', log)


def test_profiles_that_the_collector_rejects_are_reported_once(started: Fleet) -> None:
    """A line in the log when the outage begins, and none for each push."""
    with rejecting_http() as profiles:
        server = started.start("server", PROFILE_COLLECTOR_PORT=str(profiles), LOGS_TARGET="")
        log = server.process.log
        eventually(lambda: "profile server unavailable" in log.read_text(encoding="utf-8"))
        assert end(server) == 0
    assert "ession failed" not in log.read_text(encoding="utf-8")


def test_the_end_does_not_wait_for_a_profile(started: Fleet) -> None:
    """A long profile that somebody asked for is not what keeps a service from ending."""
    server = started.start("server")

    def profile() -> None:
        with suppress(OSError, HTTPException):
            while ask(server.base_url, "/debug/pprof/profile?seconds=30", timeout_s=40).status == 503:
                continue  # the look below came first

    asking = threading.Thread(target=profile)
    asking.start()
    eventually(lambda: ask(server.base_url, "/debug/pprof/heap?seconds=0.01").status == 503)
    assert end(server) == 0
    asking.join()


def end(*services: Service) -> int:
    """Stop the services with SIGTERM, all at once; fail if one takes longer than it may. Give the worst exit code."""
    before = time.monotonic()
    for service in services:
        service.ended_by_test = True
        service.process.ask_to_stop()
    for service in services:
        took_in_time = service.process.wait(max(0.0, before + STOP_S - time.monotonic()))
        assert took_in_time, f"{service.process.name} runs {STOP_S:.0f} s after SIGTERM:\n{service.process.tail(20)}"
    return max(service.process.exit_code or 0 for service in services)


def total(gateway: Gateway, started: Fleet, name: str) -> float:
    """The sum over all points of a metric: of counts for a histogram, of values for any other."""
    metrics: list[dict[str, Any]] = own(gateway.get("metrics", name=name), started.namespace)
    return float(sum(point.get("count", point.get("value", 0)) for metric in metrics for point in metric["points"]))
