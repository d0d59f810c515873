"""Helpers of tests with running services: start several at once, send requests, and read their telemetry."""

import http.client
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pika  # type: ignore[import-untyped]  # pika ships no py.typed
import psycopg

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import DEADLINE_S, STOP_S, Gateway, Service
from tests.integration.messaging_support import confirming
from tools.query import is_up

JSON = {"Content-Type": "application/json"}
QUEUES = ("messages", "messages.retry", "messages.dead")


@dataclass(frozen=True)
class Response:
    """The response of a service."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


def ask(
    base_url: str,
    path: str,
    method: str = "GET",
    *,
    body: str | bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Response:
    """Make one request on a separate connection; raise OSError without a response."""
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=timeout_s)
    try:
        connection.request(method, path, body.encode() if isinstance(body, str) else body, dict(headers or {}))
        response = connection.getresponse()
        return Response(response.status, response.headers, response.read())
    finally:
        connection.close()


def traceparent() -> tuple[str, dict[str, str]]:
    """Return a new trace id, and the header that makes a request part of that trace (W3C Trace Context)."""
    trace_id = secrets.token_hex(16)
    return trace_id, {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}


class Fleet:
    """Services as processes, started concurrently; each must exit with code 0 at the end.

    Their telemetry has a unique `namespace`, by which a test selects it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.namespace = f"test-{secrets.token_hex(4)}"
        self._folder = folder
        self._settings = {"HTTP_HOST": LOOPBACK, "NAMESPACE": self.namespace, **settings}
        self._started: list[tuple[Service, str]] = []

    def launch(self, name: str, until: str = "/readyz", **env: str) -> Service:
        """Start services.<name> and return at once; `ready` waits for it."""
        port = env.setdefault("HTTP_PORT", str(free_port()))
        label = f"{name}-{len(self._started)}"
        process = Process(
            label,
            [sys.executable, "-m", f"services.{name}"],
            log=self._folder / f"{label}.log",
            record=self._folder / f"{label}.pid",
            mark=f"services.{name}",
            environ=os.environ | self._settings | env,
        )
        process.launch()
        service = Service(process, f"http://{LOOPBACK}:{port}")
        self._started.append((service, until))
        return service

    def start(self, name: str, until: str = "/readyz", **env: str) -> Service:
        """Start services.<name> and return it once `until` answers."""
        service = self.launch(name, until, **env)
        self.ready()
        return service

    @property
    def running(self) -> list[Service]:
        """The services that the test has not stopped."""
        return [service for service, _ in self._started if not service.ended_by_test]

    def ready(self) -> None:
        """Wait until all running services are ready."""
        for service, until in self._started:
            if not service.ended_by_test:
                url = service.base_url + until
                service.process.wait_ready(lambda url=url: is_up(url), DEADLINE_S)  # type: ignore[misc]

    def close(self) -> None:
        """Stop all services concurrently."""
        running = [service.process for service in self.running]
        for process in running:
            process.ask_to_stop()
        results = {process.name: (process.stop(STOP_S), process.tail(30)) for process in running}
        for service, _ in self._started:
            service.process.kill()  # a failed test may have left it running
        for name, (code, tail) in results.items():
            assert code == 0, f"{name} exited with {code} instead of 0:\n{tail}"


@contextmanager
def fleet(folder: Path, *settings: Mapping[str, str]) -> Iterator[Fleet]:
    """Yield a fleet with these settings, of which later ones take precedence; stop it at the end."""
    started = Fleet(folder, {key: value for each in settings for key, value in each.items()})
    try:
        yield started
    finally:
        started.close()


def database_settings(postgres: Postgres, name: str | None = None) -> dict[str, str]:
    """Return the environment of a server that uses this Postgres."""
    return {
        "MYTHICAL_DATABASE_HOST": postgres.host,
        "MYTHICAL_DATABASE_HOST_PORT": str(postgres.port),
        "MYTHICAL_DATABASE_USER": postgres.user,
        "MYTHICAL_DATABASE_PASSWORD": postgres.password,
        "MYTHICAL_DATABASE_NAME": name or postgres.database,
    }


def broker_settings(rabbitmq: RabbitMQ) -> dict[str, str]:
    """Return the environment of a service that uses this broker."""
    return {
        "MYTHICAL_QUEUE_HOST": rabbitmq.host,
        "MYTHICAL_QUEUE_HOST_PORT": str(rabbitmq.port),
        "MYTHICAL_QUEUE_USER": rabbitmq.user,
        "MYTHICAL_QUEUE_PASSWORD": rabbitmq.password,
    }


def requests_to(server: Service) -> dict[str, str]:
    """Return the environment of a requester or frontend that uses this server."""
    return {"MYTHICAL_SERVER_HOST_PORT": urlsplit(server.base_url).netloc}


# Without a collector: the exporters are disabled, and log lines go to the service's log file.
SILENT = {
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "console",
    "PROFILE_COLLECTOR_HOST": "",
    "LOGS_TARGET": "",
}


@contextmanager
def own_database(postgres: Postgres, options: str = "") -> Iterator[str]:
    """Create a database and yield its name; drop it at the end, also if it has connections."""
    name = f"test_{secrets.token_hex(4)}"
    run(postgres, f"CREATE DATABASE {name} {options}")
    yield name
    run(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def run(postgres: Postgres, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows."""
    with psycopg.connect(postgres.dsn, dbname=database or postgres.database, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@contextmanager
def channel(rabbitmq: RabbitMQ) -> Iterator[Any]:
    """Yield a plain channel to the broker; publishing on it waits for the confirm."""
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    try:
        yield confirming(connection)
    finally:
        if connection.is_open:
            connection.close()


def clear_queues(rabbitmq: RabbitMQ) -> None:
    """Delete the suite's queues with their messages; the next service declares them again."""
    with channel(rabbitmq) as on:
        for queue in QUEUES:
            on.queue_delete(queue)


def ready_messages(rabbitmq: RabbitMQ, queue: str) -> int:
    """Return the number of ready messages in a queue; 0 if the queue doesn't exist."""
    try:
        with channel(rabbitmq) as on:
            return int(on.queue_declare(queue, passive=True).method.message_count)
    except pika.exceptions.ChannelClosedByBroker:
        return 0


@contextmanager
def silent_server() -> Iterator[int]:
    """Yield the port of a server that accepts connections and never answers."""
    with socket.create_server((LOOPBACK, 0), backlog=128) as listener:
        yield listener.getsockname()[1]


def spans_of(gateway: Gateway, trace_id: str) -> list[dict[str, Any]]:
    """Return the spans of a trace that the gateway has so far."""
    spans: list[dict[str, Any]] = []
    try:
        spans = gateway.get(f"traces/{trace_id}")
    except OSError as error:
        if getattr(error, "code", None) != http.client.NOT_FOUND:
            raise
        error.close()  # type: ignore[attr-defined]
    return spans


def own(found: list[dict[str, Any]], namespace: str) -> list[dict[str, Any]]:
    """Return the spans, metrics, lines or profiles that have the namespace."""
    return [
        each
        for each in found
        if namespace in (each.get("resource", {}).get("service.namespace"), each.get("labels", {}).get("namespace"))
    ]
