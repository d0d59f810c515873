"""Spans and metrics of SQL, by the old and the new database conventions.

The stock alternative is opentelemetry-instrumentation-psycopg. It is not used, since it puts the text of a database
error, with its values, into the span's status (`Key (name)=(...) already exists`), and no table into the span's name.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from flask import has_request_context, request
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue
from psycopg import Connection, Error
from psycopg_pool import ConnectionPool

from common.telemetry.settings import Conventions
from services.server.config import SERVICE, Database
from services.server.statements import Statement

W3C = TraceContextTextMapPropagator()

# OpenTelemetry semantic conventions, metric db.client.operation.duration: the advised bucket boundaries, in seconds.
BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


class StatementTracer:
    """Makes the CLIENT span and the duration of each statement."""

    def __init__(self, tracer: Tracer, meter: Meter, database: Database, conventions: Conventions) -> None:
        self._tracer = tracer
        self._database = database
        self._conventions = conventions
        self._duration = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Time a statement took, as the server saw it.",
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )

    @contextmanager
    def trace(self, statement: Statement, connection: Connection[Any] | None = None) -> Iterator[None]:
        """Trace the statement that runs inside the block; a database error marks the span with its SQLSTATE.

        With comments, the span has the process ID of the connection's session: Postgres logs that of a lock's holder.
        """
        labels = {
            "db.system.name": "postgresql",
            "db.operation.name": statement.operation,
            "db.collection.name": statement.table,
        }
        attributes = self._attributes(statement)
        if self._database.comments and connection is not None:
            attributes["db.postgresql.backend_pid"] = connection.info.backend_pid
        with self._tracer.start_as_current_span(
            f"{statement.operation} {statement.table}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,  # its text may hold values
            set_status_on_exception=False,
        ) as span:
            start = time.perf_counter()
            try:
                yield
            except Error as error:
                code = labels["error.type"] = error.sqlstate or type(error).__name__
                span.set_attributes({"error.type": code, "db.response.status_code": code})
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
            finally:
                self._duration.record(time.perf_counter() - start, labels)

    def _attributes(self, statement: Statement) -> dict[str, AttributeValue]:
        database, attributes = self._database, dict[str, AttributeValue]()
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
        return attributes


def comment() -> str:
    """Return a comment for a statement that runs now: this application, the route of the request, and the trace.

    Source: sqlcommenter, "Specification": keys in order, values percent-encoded and quoted. Percent-encoding also keeps
    a value from ending the comment.
    """
    values = {"application": SERVICE}
    if has_request_context() and request.url_rule is not None:
        values["route"] = request.url_rule.rule
    W3C.inject(carrier := dict[str, str]())
    if parent := carrier.get("traceparent"):
        values["traceparent"] = parent
    return "/*" + ",".join(f"{key}='{quote(value, safe='')}'" for key, value in values.items()) + "*/"


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
