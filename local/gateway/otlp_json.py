"""Turns OTLP messages into the plain values that the JSON API answers with.

Source of the format: opentelemetry-proto 1.x, the packages trace, metrics, logs and common.
"""

import base64
import math
from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    NumberDataPoint,
    SummaryDataPoint,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from local.gateway.records import LogLine, Series, SpanRecord

Json = Any
POINTS: dict[str, type[Any]] = {
    "gauge": NumberDataPoint,
    "sum": NumberDataPoint,
    "histogram": HistogramDataPoint,
    "exponential_histogram": ExponentialHistogramDataPoint,
    "summary": SummaryDataPoint,
}


def finite(number: float) -> float | str:
    """`number`, or its name if it is one that JSON lacks: without this, browsers cannot parse the response."""
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def plain(value: AnyValue) -> Json:
    """An OTLP value as text, number, truth value, list, map or None; bytes become base64 text."""
    which = value.WhichOneof("value")
    if which == "string_value":
        return value.string_value
    if which == "double_value":
        return finite(value.double_value)
    if which == "array_value":
        return [plain(each) for each in value.array_value.values]
    if which == "kvlist_value":
        return attributes(value.kvlist_value.values)
    if which == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, which) if which else None


def attributes(pairs: Iterable[KeyValue]) -> dict[str, Json]:
    """OTLP attributes as a map; of a repeated key the last counts."""
    return {pair.key: plain(pair.value) for pair in pairs}


def kind_name(kind: "Span.SpanKind.ValueType") -> str:
    """SERVER, CLIENT, PRODUCER, CONSUMER or INTERNAL, which also stands for unspecified and unknown kinds."""
    return Span.SpanKind.Name(kind).removeprefix("SPAN_KIND_") if kind in range(1, 6) else "INTERNAL"


def temporality_name(temporality: "AggregationTemporality.ValueType") -> str:
    """CUMULATIVE, DELTA or UNSPECIFIED."""
    known = AggregationTemporality.values()
    return AggregationTemporality.Name(temporality).rpartition("_")[2] if temporality in known else "UNSPECIFIED"


def span_json(record: SpanRecord) -> dict[str, Json]:
    """One span in full."""
    span = Span.FromString(record.raw)
    codes = {Status.STATUS_CODE_OK: "OK", Status.STATUS_CODE_ERROR: "ERROR"}
    return {
        "trace_id": record.trace_id.hex(),
        "span_id": record.span_id.hex(),
        "parent_span_id": record.parent_span_id.hex(),
        "name": record.name,
        "kind": kind_name(record.kind),
        "service": record.service,
        "start_unix_nano": record.start_unix_nano,
        "end_unix_nano": record.end_unix_nano,
        "status": {"code": codes.get(span.status.code, "UNSET"), "message": span.status.message},
        "attributes": attributes(span.attributes),
        "resource": record.resource,
        "links": [
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "attributes": attributes(link.attributes),
            }
            for link in span.links
        ],
        "events": [
            {
                "name": event.name,
                "time_unix_nano": event.time_unix_nano,
                "attributes": attributes(event.attributes),
            }
            for event in span.events
        ],
        "scope": record.scope,
    }


def trace_json(spans: list[SpanRecord]) -> dict[str, Json]:
    """One trace in short: its root, or what comes closest while the root has not arrived, and its extent."""
    ids = {span.span_id for span in spans}
    root = min(spans, key=lambda span: (span.parent_span_id in ids, bool(span.parent_span_id), span.start_unix_nano))
    start = min(span.start_unix_nano for span in spans)
    return {
        "trace_id": root.trace_id.hex(),
        "root": root.name,
        "services": sorted({span.service for span in spans}),
        "start_unix_nano": start,
        "duration_ms": (max(span.end_unix_nano for span in spans) - start) / 1e6,
        "spans": len(spans),
        "errors": sum(span.failed for span in spans),
    }


def line_json(line: LogLine) -> dict[str, Json]:
    """One log line in full."""
    return {
        "time_unix_nano": line.time_unix_nano,
        "labels": line.labels,
        "line": line.line,
        "metadata": line.metadata,
        "resource": line.resource,
        "via": line.via,
    }


def series_json(series: Series) -> dict[str, Json]:
    """What the points of one metric of one service share; the caller adds `points`."""
    return {
        "name": series.name,
        "kind": series.kind,
        "unit": series.unit,
        "description": series.description,
        "monotonic": series.monotonic,
        "temporality": series.temporality,
        "service": series.service,
        "resource": series.resource,
        "scope": series.scope,
    }


def point_json(series: Series) -> dict[str, Json]:
    """The latest data point of a series: `value`, or `count` and `sum` with the buckets of its kind."""
    point: Any = POINTS[series.kind].FromString(series.raw)
    shared = {"attributes": attributes(point.attributes), "time_unix_nano": point.time_unix_nano}
    if isinstance(point, NumberDataPoint):
        value: Json = point.as_int if point.WhichOneof("value") == "as_int" else finite(point.as_double)
        return shared | {"value": value, "exemplars": [exemplar_json(each) for each in point.exemplars]}
    shared |= {"count": point.count, "sum": finite(point.sum)}
    if isinstance(point, SummaryDataPoint):
        return shared | {"quantiles": {str(each.quantile): finite(each.value) for each in point.quantile_values}}
    shared["exemplars"] = [exemplar_json(each) for each in point.exemplars]
    if isinstance(point, HistogramDataPoint):
        bounds = [finite(bound) for bound in point.explicit_bounds]
        return shared | {"bounds": bounds, "bucket_counts": list(point.bucket_counts)}
    return shared | {
        "scale": point.scale,
        "zero_count": point.zero_count,
        "positive": {"offset": point.positive.offset, "bucket_counts": list(point.positive.bucket_counts)},
        "negative": {"offset": point.negative.offset, "bucket_counts": list(point.negative.bucket_counts)},
    }


def exemplar_json(exemplar: Exemplar) -> dict[str, Json]:
    """One exemplar: a measured value and the span it was measured in."""
    return {
        "value": exemplar.as_int if exemplar.WhichOneof("value") == "as_int" else finite(exemplar.as_double),
        "trace_id": exemplar.trace_id.hex(),
        "span_id": exemplar.span_id.hex(),
        "time_unix_nano": exemplar.time_unix_nano,
    }
