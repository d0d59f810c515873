"""Derives from spans which service calls which: HTTP, SQL, publishing to a broker and delivery from it."""

from collections.abc import Iterator
from typing import NamedTuple

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from local.gateway.bounded_map import BoundedMap
from local.gateway.rate_counter import OTHER, RateCounters
from local.gateway.records import LONGEST_NAME

# Both generations of the semantic conventions, as services send either or both.
DATABASE_KEYS = ("db.system.name", "db.system")
BROKER_KEYS = ("messaging.system",)
CALLERS = (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_PRODUCER)
CALLED = (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CONSUMER)
# A trace id and a span id (OTLP); spans with longer ids are ignored, as these would be stored.
KEY_BYTES = 16 + 8
# Children that may wait for one parent; more than any fan-out of this suite.
CHILDREN = 100

SpanKey = tuple[bytes, bytes]


class Hop(NamedTuple):
    """One edge of the service map; `kind` is http, sql, publish or deliver."""

    source: str
    target: str
    kind: str


class Caller(NamedTuple):
    """What matters about the parent of a called span: its service and the broker, if any, that it sent to."""

    service: str
    broker: str


class ServiceGraph:
    """Counts hops as spans arrive, parents before or after their children; not thread-safe, the caller locks."""

    def __init__(self, spans: int, names: int) -> None:
        self._callers: BoundedMap[SpanKey, Caller] = BoundedMap(spans, spans * KEY_BYTES)
        self._waiting: BoundedMap[SpanKey, list[tuple[str, int]]] = BoundedMap(spans, spans * KEY_BYTES)
        self._counters: RateCounters[Hop] = RateCounters(names, Hop(OTHER, OTHER, "http"))

    def add_span(self, span: Span, service: str, now: float) -> None:
        """Count one span of `service`, unless its ids are too long."""
        if max(len(span.span_id), len(span.parent_span_id)) + len(span.trace_id) > KEY_BYTES:
            return
        if span.kind in CALLERS:
            self._caller(span, service, now)
        elif span.kind in CALLED and span.parent_span_id:
            self._called((span.trace_id, span.parent_span_id), service, span.kind, now)

    def figures(self, now: float) -> Iterator[tuple[Hop, dict[str, float]]]:
        """Yield each hop with its count, rate and age."""
        return self._counters.figures(now)

    def _caller(self, span: Span, service: str, now: float) -> None:
        """Count the call to a database or a broker, which send no spans, and match the children that arrived first."""
        broker = ""
        if span.kind == Span.SPAN_KIND_PRODUCER:
            broker = attribute(span, BROKER_KEYS)
            if broker:
                self._counters.add(Hop(service, broker, "publish"), 1, now)
        elif database := attribute(span, DATABASE_KEYS):
            self._counters.add(Hop(service, database, "sql"), 1, now)
        key = (span.trace_id, span.span_id)
        caller = Caller(service, broker)
        self._callers.put(key, caller, KEY_BYTES)
        for called, kind in self._waiting.pop(key) or ():
            self._count(caller, called, kind, now)

    def _called(self, parent: SpanKey, service: str, kind: int, now: float) -> None:
        caller = self._callers.get(parent)
        if caller is not None:
            self._count(caller, service, kind, now)
            return
        waiting = self._waiting.pop(parent) or []
        waiting = [*waiting, (service, kind)][-CHILDREN:]
        # Each child counts: the limit of waiting children is that of known parents.
        self._waiting.put(parent, waiting, KEY_BYTES * len(waiting))

    def _count(self, caller: Caller, service: str, kind: int, now: float) -> None:
        if kind == Span.SPAN_KIND_CONSUMER and caller.broker:
            self._counters.add(Hop(caller.broker, service, "deliver"), 1, now)
        elif kind == Span.SPAN_KIND_SERVER and caller.service != service:
            self._counters.add(Hop(caller.service, service, "http"), 1, now)


def attribute(span: Span, keys: tuple[str, ...]) -> str:
    """Return the first text attribute of `span` that is named in `keys`, cut to the length of a name, or empty."""
    for pair in span.attributes:
        if pair.key in keys:
            return pair.value.string_value[:LONGEST_NAME]
    return ""
