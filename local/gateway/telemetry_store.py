"""The latest telemetry, held in memory within bounds."""

import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from local.gateway.bounded_map import BoundedMap
from local.gateway.limits import Limits
from local.gateway.rate_counter import OTHER, RateCounters
from local.gateway.records import Attributes, LogLine, ProfileRecord, Series, SpanRecord
from local.gateway.service_graph import ServiceGraph

# What a record costs in addition to its encoded telemetry; without it, a million empty lines would count nothing.
RECORD_BYTES = 200

Point = tuple[Any, Series]


class Cell(NamedTuple):
    """One cell of the table of services and signals; `signal` is traces, metrics, logs or profiles."""

    service: str
    signal: str


class TelemetryStore:
    """Holds the latest spans, log lines, metric points and profiles. Thread-safe."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._arrivals = itertools.count()
        self._spans: BoundedMap[int, SpanRecord] = BoundedMap(limits.spans, limits.span_bytes)
        self._traces: OrderedDict[bytes, list[SpanRecord]] = OrderedDict()
        self._lines: BoundedMap[int, LogLine] = BoundedMap(limits.lines, limits.line_bytes)
        self._series: BoundedMap[Any, Series] = BoundedMap(limits.series, limits.series_bytes)
        self._profiles: BoundedMap[int, ProfileRecord] = BoundedMap(limits.profiles, limits.profile_bytes)
        self._cells: RateCounters[Cell] = RateCounters(4 * limits.names, Cell(OTHER, "traces"))
        self._graph = ServiceGraph(limits.spans, limits.names)

    def now(self) -> float:
        """The clock that ages are measured on, in seconds."""
        return self._clock()

    def add_spans(self, service: str, resource: Attributes, scope: str, spans: list[Span]) -> None:
        """Add the spans of one service and one instrumentation scope."""
        with self._lock:
            now = self._clock()
            shared = len(scope) + attributes_size(resource)  # held once for all of them: the first one counts for it
            for span in spans:
                self._add_span(service, resource, scope, span, now, shared=shared)
                self._graph.add_span(span, service, now)
                shared = 0
            self._count(service, "traces", len(spans), now)

    def _add_span(self, service: str, resource: Attributes, scope: str, span: Span, now: float, *, shared: int) -> None:
        record = SpanRecord(
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent_span_id,
            name=span.name,
            kind=span.kind,
            service=service,
            start_unix_nano=span.start_time_unix_nano,
            end_unix_nano=span.end_time_unix_nano,
            failed=span.status.code == Status.STATUS_CODE_ERROR,
            resource=resource,
            scope=scope,
            arrived=now,
            raw=span.SerializeToString(),
        )
        self._traces.setdefault(record.trace_id, []).append(record)
        self._traces.move_to_end(record.trace_id)
        for evicted in self._spans.put(next(self._arrivals), record, len(record.raw) + RECORD_BYTES + shared):
            # Spans are evicted in the order of their arrival, which is their order within the trace too.
            rest = self._traces[evicted.trace_id]
            del rest[0]
            if not rest:
                del self._traces[evicted.trace_id]

    def add_lines(self, lines: list[LogLine]) -> None:
        """Add log lines, of any services."""
        with self._lock:
            now = self._clock()
            described: Attributes = {}
            for line in lines:
                shared = 0 if line.resource is described else attributes_size(line.resource)
                described = line.resource
                self._lines.put(next(self._arrivals), line, line_size(line) + shared)
                self._count(line.service, "logs", 1, now)

    def add_points(self, service: str, points: list[Point]) -> None:
        """Add data points of one service, each with the key that identifies its series."""
        with self._lock:
            described: Attributes = {}
            for key, series in points:
                shared = 0 if series.resource is described else attributes_size(series.resource)
                described = series.resource
                self._series.put(key, series, series_size(series) + shared)
            self._count(service, "metrics", len(points), self._clock())

    def add_profile(self, profile: ProfileRecord) -> None:
        """Add one profile."""
        with self._lock:
            self._profiles.put(next(self._arrivals), profile, profile_size(profile))
            self._count(profile.service, "profiles", 1, self._clock())

    def _count(self, service: str, signal: str, number: int, now: float) -> None:
        if number:
            self._cells.add(Cell(service, signal), number, now)

    def traces(self) -> Iterator[list[SpanRecord]]:
        """Return the spans of each trace, the trace with the newest span first."""
        with self._lock:
            held = [list(spans) for spans in self._traces.values()]
        return reversed(held)

    def trace(self, trace_id: bytes) -> list[SpanRecord]:
        """The spans of one trace in order of their start, none if it is not held."""
        with self._lock:
            held = list(self._traces.get(trace_id, ()))
        return sorted(held, key=lambda span: span.start_unix_nano)

    def spans(self) -> Iterator[SpanRecord]:
        """All spans, newest first."""
        return iter(self._snapshot(self._spans))

    def lines(self) -> Iterator[LogLine]:
        """All log lines, newest first."""
        return iter(self._snapshot(self._lines))

    def series(self) -> Iterator[Series]:
        """All metric series with their latest point, the one updated last first."""
        return iter(self._snapshot(self._series))

    def profiles(self) -> Iterator[ProfileRecord]:
        """All profiles, newest first."""
        return iter(self._snapshot(self._profiles))

    def _snapshot(self, held: BoundedMap[Any, Any]) -> list[Any]:
        with self._lock:
            return list(held.newest_first())

    def summary(self) -> dict[str, Any]:
        """Return the uptime in seconds, the cells, the hops, and how full the store is."""
        with self._lock:
            now = self._clock()
            return {
                "uptime_s": round(now - self._started, 2),
                "cells": [cell._asdict() | figures for cell, figures in self._cells.figures(now)],
                "hops": [
                    {"from": hop.source, "to": hop.target, "kind": hop.kind} | figures
                    for hop, figures in self._graph.figures(now)
                ],
                "memory": {
                    "spans": self._spans.figures(),
                    "lines": self._lines.figures(),
                    "series": self._series.figures(),
                    "profiles": self._profiles.figures(),
                },
            }


def attributes_size(attributes: Attributes) -> int:
    """The bytes that attributes or labels count as: their length as text."""
    return sum(len(key) + len(str(value)) for key, value in attributes.items())


def line_size(line: LogLine) -> int:
    """The bytes a log line counts as, its resource aside: its text, labels and metadata."""
    return RECORD_BYTES + len(line.line) + attributes_size(line.labels) + attributes_size(line.metadata)


def series_size(series: Series) -> int:
    """The bytes a series counts as, its resource aside: its latest point, and what describes it."""
    described = len(series.name) + len(series.unit) + len(series.description) + len(series.scope)
    return RECORD_BYTES + len(series.raw) + described


def profile_size(profile: ProfileRecord) -> int:
    """The bytes a profile counts as: as it came, its labels and types, and the ids of the spans found in it."""
    described = attributes_size(profile.labels) + sum(map(len, profile.types)) + sum(map(len, profile.span_ids))
    return RECORD_BYTES + len(profile.raw) + described
