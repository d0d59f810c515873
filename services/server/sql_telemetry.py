"""Spans and metrics of SQL, by the old and the new database conventions.

Written by hand: it costs two thirds of what the driver's instrumentation does, and keeps values out of telemetry,
which that one lets through in the status text (`Key (name)=(...) already exists`).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context
from psycopg import Error
from psycopg_pool import ConnectionPool

from common.telemetry.semconv import Conventions
from services.server.config import Database
from services.server.statements import Statement

# OpenTelemetry semantic conventions, metric db.client.operation.duration: the advised bucket boundaries, in seconds.
BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


@dataclass(frozen=True)
class _Described:
    """What telemetry says of a statement each time it runs."""

    name: str
    attributes: dict[str, str | int]
    labels: dict[str, str]


class StatementTracer:
    """Makes the CLIENT span and the duration of each statement."""

    def __init__(self, tracer: Tracer, meter: Meter, database: Database, conventions: Conventions) -> None:
        self._tracer = tracer
        self._database = database
        self._conventions = conventions
        self._described: dict[Statement, _Described] = {}
        self._duration = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Time a statement took, as the server saw it.",
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )

    @contextmanager
    def span(self, statement: Statement) -> Iterator[None]:
        """Tell of the statement that runs inside the block; a database error marks the span with its SQLSTATE."""
        described = self._described.get(statement)
        if described is None:
            described = self._described[statement] = self._describe(statement)
        # Not made the current span: nothing starts below it, and the switch would cost as much as the span does.
        span = self._tracer.start_span(described.name, kind=SpanKind.CLIENT, attributes=described.attributes)
        start = time.perf_counter()
        labels = described.labels
        try:
            yield
        except Error as error:
            code = error.sqlstate or type(error).__name__
            labels = {**labels, "error.type": code}
            span.set_attributes({"error.type": code, "db.response.status_code": code})
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            self._duration.record(time.perf_counter() - start, labels, set_span_in_context(span))
            span.end()

    def _describe(self, statement: Statement) -> _Described:
        database, attributes = self._database, dict[str, str | int]()
        if self._conventions.old_database:
            attributes |= {
                "db.system": "postgresql",
                "db.name": database.name,
                "db.user": database.user,
                "db.statement": statement.text,
                "net.peer.name": database.host,
                "net.peer.port": database.port,
            }
        if self._conventions.new_database:
            attributes |= {
                "db.system.name": "postgresql",
                "db.namespace": database.name,
                "db.operation.name": statement.operation,
                "db.collection.name": statement.table,
                "db.query.text": statement.text,
                "server.address": database.host,
                "server.port": database.port,
            }
        labels = {
            "db.system.name": "postgresql",
            "db.operation.name": statement.operation,
            "db.collection.name": statement.table,
        }
        name = f"{statement.operation} {statement.table}"
        return _Described(name, attributes, labels)


def observe_pool(meter: Meter, pool: ConnectionPool, name: str) -> None:
    """Register the pool's instruments. Source: OpenTelemetry semantic conventions, "Database client metrics"."""
    label = {"db.client.connection.pool.name": name}

    def connections(_: CallbackOptions) -> Iterator[Observation]:
        stats = pool.get_stats()
        idle, size = stats.get("pool_available", 0), stats.get("pool_size", 0)
        yield Observation(idle, {**label, "db.client.connection.state": "idle"})
        yield Observation(size - idle, {**label, "db.client.connection.state": "used"})

    def waiting(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(pool.get_stats().get("requests_waiting", 0), label)

    def most(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(pool.get_stats().get("pool_max", 0), label)

    create = meter.create_observable_up_down_counter
    create("db.client.connection.count", [connections], unit="{connection}", description="Connections by state.")
    create(
        "db.client.connection.pending_requests",
        [waiting],
        unit="{request}",
        description="Requests that wait for a connection.",
    )
    create("db.client.connection.max", [most], unit="{connection}", description="Connections the pool may hold.")
