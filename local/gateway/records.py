"""What the store holds: one small record per span, log line, metric series and profile."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

# Characters of the name of a service, a database or a broker: names are kept for as long as the gateway runs.
LONGEST_NAME = 255

# What most queries read is a field; the rest stays encoded, at a third of the memory, and is decoded on demand.
Attributes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One span: ids as bytes, times in ns since 1970, `kind` as in OTLP's SpanKind, `raw` the OTLP Span message."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    kind: "Span.SpanKind.ValueType"
    service: str
    start_unix_nano: int
    end_unix_nano: int
    failed: bool
    resource: Attributes
    scope: str
    arrived: float
    raw: bytes


@dataclass(frozen=True, slots=True)
class LogLine:
    """One log line; ids in hex or empty, `via` is "loki", "otlp", or "faro"."""

    time_unix_nano: int
    service: str
    labels: Mapping[str, str]
    line: str
    metadata: Attributes
    resource: Attributes
    trace_id: str
    span_id: str
    via: str


@dataclass(frozen=True, slots=True)
class Series:
    """The latest point of one metric with one set of attributes; `raw` is the OTLP data point of `kind`."""

    name: str
    kind: str
    unit: str
    description: str
    monotonic: bool
    temporality: str
    service: str
    resource: Attributes
    scope: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class ProfileRecord:
    """One pushed pprof profile; `types` name its values as `name:type:unit:period type:period unit`."""

    service: str
    labels: Mapping[str, str]
    types: tuple[str, ...]
    samples: int
    duration_s: float
    time_unix_nano: int
    span_ids: frozenset[str]
    raw: bytes
