"""With an unavailable, hanging or restarted collector, requests continue, export resumes, and a stop loses nothing."""

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
    broker_settings,
    channel,
    clear_queues,
    database_settings,
    fleet,
    own,
    own_database,
    ready_messages,
    requests_to,
    silent_server,
    spans_of,
    traceparent,
)
from tools.query import is_up

SLOW_S = 8.0  # a request that waits for a failing export takes ten seconds; the rest is for a busy machine

# Long enough that nothing is exported before the stop.
NEVER = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_METRIC_EXPORT_INTERVAL": "60000"}


@pytest.fixture
def started(postgres: Postgres, rabbitmq: RabbitMQ, gateway: Gateway, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet with a separate database and empty queues, whose services send to the session's gateway."""
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


class RestartableGateway(Gateway):
    """A gateway on fixed ports, which can be killed and restarted."""

    def __init__(self, folder: Path) -> None:
        ports = {name: free_port() for name in ("otlp_grpc", "otlp_http", "loki", "pyroscope", "faro", "page")}
        flags = [part for name, port in ports.items() for part in (f"--{name.replace('_', '-')}", str(port))]
        process = Process(
            "restartable-gateway",
            [sys.executable, "-m", "local.gateway", *flags],
            log=folder / "gateway.log",
            record=folder / "gateway.pid",
            mark="local.gateway",
            environ=os.environ,
        )
        super().__init__(process, ports)

    def start(self) -> None:
        """Start the gateway without data."""
        self.process.launch()
        self.process.wait_ready(lambda: is_up(f"{self.page}/api/summary"), DEADLINE_S)


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[RestartableGateway]:
    """A gateway that the test may kill."""
    gateway = RestartableGateway(tmp_path)
    gateway.start()
    yield gateway
    gateway.process.stop(STOP_S)


def send_request(server: Service) -> str:
    """Send a request; return the id of its trace."""
    trace_id, header = traceparent()
    before = time.monotonic()
    assert ask(server.base_url, "/unicorn", headers=header).status == 200
    assert time.monotonic() - before < SLOW_S
    return trace_id


def test_requests_continue_without_a_collector_and_export_resumes(
    started: Fleet, restartable: RestartableGateway
) -> None:
    """After a kill and a restart on the same ports, no request was slow, and all four signals arrive again."""
    server = started.start("server", **restartable.settings)
    first = send_request(server)
    restartable.poll(lambda gateway: spans_of(gateway, first))
    restartable.process.kill()
    missed = [send_request(server) for _ in range(100)]
    restartable.start()
    later = send_request(server)
    restartable.poll(lambda gateway: spans_of(gateway, later))
    restartable.poll(lambda gateway: gateway.get("logs", trace_id=later))
    # Log lines wait for the collector in a separate queue, so the lines of the outage arrive too.
    restartable.poll(lambda gateway: gateway.get("logs", trace_id=missed[-1]))

    def counted(gateway: Gateway) -> bool:
        metrics = gateway.get("metrics", name="mythical_request_times")
        return bool(sum(point["count"] for metric in metrics for point in metric["points"]) >= 102)

    restartable.poll(counted)


def test_server_flushes_its_last_request_on_sigterm(started: Fleet, gateway: Gateway) -> None:
    """After a request and an immediate SIGTERM, its spans, its count with exemplar and its line arrive."""
    server = started.start("server", **NEVER)
    trace_id = send_request(server)
    assert stop_all(server) == 0
    assert [span["name"] for span in spans_of(gateway, trace_id)] == ["GET /<beast>", "SELECT unicorn"]
    (line,) = gateway.get("logs", trace_id=trace_id)
    assert "status=SUCCESS" in line["line"]
    (metric,) = own(gateway.get("metrics", name="mythical_request_times"), started.namespace)
    (point,) = metric["points"]
    assert point["count"] == 1
    assert [each["trace_id"] for each in point["exemplars"]] == [trace_id]


def test_recorder_finishes_its_message_and_flushes_on_sigterm(
    started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ
) -> None:
    """An unacknowledged message is recorded, and its span, count and line arrive."""
    recorder = started.start("recorder", **NEVER)
    trace_id, header = traceparent()
    with channel(rabbitmq) as on:
        on.basic_publish("", "messages", b"GET /unicorn", pika.BasicProperties(headers=dict(header)))
    eventually(lambda: ready_messages(rabbitmq, "messages") == 0)
    assert stop_all(recorder) == 0
    (span,) = spans_of(gateway, trace_id)
    assert (span["name"], span["kind"]) == ("process_message", "CONSUMER")
    (line,) = gateway.get("logs", trace_id=trace_id)
    assert 'msg="message recorded"' in line["line"]
    assert total(gateway, started, "mythical_messages_recorded") == 1
    assert ready_messages(rabbitmq, "messages") == 0


def test_requester_flushes_all_telemetry_on_sigterm(started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ) -> None:
    """The numbers of requests in spans, metric and lines are equal, and so are those of messages."""
    server = started.launch("server")
    requester = started.start("requester", **NEVER, **requests_to(server), REQUESTER_START="0", REQUESTER_LOOPS="2")
    eventually(lambda: ready_messages(rabbitmq, "messages") > 20)
    assert stop_all(requester) == 0
    spans = own(gateway.get("spans", service="mythical-requester", limit=5000), started.namespace)
    lines = own(
        gateway.get("logs", service="mythical-requester", contains="request made", limit=5000), started.namespace
    )
    names = [span["name"] for span in spans]
    assert names.count("requester") == total(gateway, started, "http.client.request.duration") == len(lines)
    published = total(gateway, started, "messaging.client.sent.messages")
    assert names.count("publish_to_queue") == published == ready_messages(rabbitmq, "messages")


def test_a_stop_does_not_wait_for_the_collector(started: Fleet) -> None:
    """With all four signals to export and a closed or hanging collector, each service exits in time with code 0."""
    with silent_server() as silent:
        services: list[Service] = []
        for port in (silent, free_port()):
            settings = {
                "TRACING_COLLECTOR_PORT": str(port),
                "LOGS_TARGET": f"http://{LOOPBACK}:{port}/loki/api/v1/push",
                "PROFILE_COLLECTOR_PORT": str(port),
            }
            server = started.launch("server", **settings)
            services += [
                started.launch("requester", **settings, **requests_to(server), REQUESTER_START="0"),
                started.launch("recorder", **settings),
                server,
            ]
        started.ready()
        for service in services[2::3]:
            for _ in range(20):
                send_request(service)
        assert stop_all(*services) == 0


@pytest.mark.parametrize(("protocol", "rejecting"), [("grpc", rejecting_grpc), ("http/protobuf", rejecting_http)])
def test_lines_that_the_collector_rejects_are_counted_and_reported(
    started: Fleet, protocol: str, rejecting: Callable[[], AbstractContextManager[int]]
) -> None:
    """For log lines over OTLP, /metrics has a count by reason, and standard error has a line."""
    with rejecting() as port:
        server = started.start(
            "server",
            TRACING_COLLECTOR_PORT=str(port),
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_LOGS_EXPORTER="otlp",
            OTEL_METRICS_EXPORTER="none",
            OTEL_TRACES_EXPORTER="none",  # the SDK logs a reason only once, for the first signal that failed
        )

        def counted() -> bool:
            ask(server.base_url, "/unicorn")
            lost = r'^mythical_log_lines_dropped_total\{[^}]*reason="export_failed"[^}]*\} [1-9]'
            return bool(re.search(lost, ask(server.base_url, "/metrics").text, re.MULTILINE))

        eventually(counted)
        log = server.process.log.read_text(encoding="utf-8")
        assert stop_all(server) == 0
    assert re.search(r'msg="\d+ log lines dropped: Failed to export logs', log)


def test_profiles_that_the_collector_rejects_are_reported_once(started: Fleet) -> None:
    """The log has a line for the start of the outage, and none for each push."""
    with rejecting_http() as profiles:
        server = started.start("server", PROFILE_COLLECTOR_PORT=str(profiles), LOGS_TARGET="")
        log = server.process.log
        eventually(lambda: "profile server unavailable" in log.read_text(encoding="utf-8"))
        assert stop_all(server) == 0
    assert "ession failed" not in log.read_text(encoding="utf-8")


def test_a_stop_does_not_wait_for_a_profile(started: Fleet) -> None:
    """A service exits in time while a client requests a long profile."""
    server = started.start("server")

    def profile() -> None:
        with suppress(OSError, HTTPException):
            while ask(server.base_url, "/debug/pprof/profile?seconds=30", timeout_s=40).status == 503:
                continue  # the request below came first

    client = threading.Thread(target=profile)
    client.start()
    eventually(lambda: ask(server.base_url, "/debug/pprof/heap?seconds=0.01").status == 503)
    assert stop_all(server) == 0
    client.join()


def stop_all(*services: Service) -> int:
    """Stop the services concurrently with SIGTERM; fail after the time limit. Return the highest exit code."""
    before = time.monotonic()
    for service in services:
        service.ended_by_test = True
        service.process.ask_to_stop()
    for service in services:
        took_in_time = service.process.wait(max(0.0, before + STOP_S - time.monotonic()))
        assert took_in_time, f"{service.process.name} runs {STOP_S:.0f} s after SIGTERM:\n{service.process.tail(20)}"
    return max(service.process.exit_code or 0 for service in services)


def total(gateway: Gateway, started: Fleet, name: str) -> float:
    """Return the sum over all points of a metric: of counts for a histogram, of values for other kinds."""
    metrics: list[dict[str, Any]] = own(gateway.get("metrics", name=name), started.namespace)
    return float(sum(point.get("count", point.get("value", 0)) for metric in metrics for point in metric["points"]))
