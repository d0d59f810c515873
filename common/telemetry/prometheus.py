"""Renders OpenTelemetry metrics for /metrics, in the OpenMetrics or the Prometheus text format.

Names and units follow the OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility": dots become
underscores, the unit is spelled out at the end, a monotonic sum ends in _total, the resource becomes target_info.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from types import SimpleNamespace

from opentelemetry.sdk.metrics.export import (
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    Sum,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Exemplar

UNITS = {"s": "seconds", "ms": "milliseconds", "By": "bytes", "%": "percent"}


def render_metrics(data: MetricsData | None, accept: str) -> tuple[bytes, str]:
    """Return the metrics in the format that the Accept header prefers, and the content type.

    Only the OpenMetrics format has exemplars.
    """
    try:
        encoder, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # the library fails on a version that is not a number
        encoder, content_type = choose_encoder("")
    families = _families(data) if data else ()
    return encoder(SimpleNamespace(collect=lambda: families)), content_type  # a collector, to prometheus_client


def _families(data: MetricsData) -> Iterator[Family]:
    families: dict[str, Family] = {}
    for resource_metrics in data.resource_metrics:
        info = Family("target", "The resource: the process that is measured.", "info")
        info.add_sample("target_info", _labels(resource_metrics.resource.attributes), 1)
        families["target"] = info
        for scope in resource_metrics.scope_metrics:
            for metric in scope.metrics:
                _add(families, metric)
    yield from families.values()


def _add(families: dict[str, Family], metric: Metric) -> None:
    name, kind = _name(metric), _kind(metric)
    family = families.setdefault(name, Family(name, metric.description or metric.name, kind))
    if family.type != kind:
        return  # instruments of the same name and different kinds: a page with both would not be valid
    for point in metric.data.data_points:
        if isinstance(point, HistogramDataPoint):
            _add_histogram(family, point)
        elif isinstance(point, NumberDataPoint):
            suffix = "_total" if kind == "counter" else ""
            exemplar = ([None, *_exemplars(point)] if kind == "counter" else [None])[-1]
            family.add_sample(name + suffix, _labels(point.attributes), point.value, exemplar=exemplar)


def _add_histogram(family: Family, point: HistogramDataPoint) -> None:
    labels = _labels(point.attributes)
    by_bucket = {bisect_left(point.explicit_bounds, e.value): e for e in _exemplars(point)}
    seen = 0
    for bucket, count in enumerate(point.bucket_counts):
        seen += count
        bound = f"{float(point.explicit_bounds[bucket])}" if bucket < len(point.explicit_bounds) else "+Inf"
        family.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, seen, exemplar=by_bucket.get(bucket))
    family.add_sample(f"{family.name}_count", labels, point.count)
    family.add_sample(f"{family.name}_sum", labels, point.sum)


def _exemplars(point: HistogramDataPoint | NumberDataPoint) -> list[Exemplar]:
    return [
        Exemplar(
            {"trace_id": f"{e.trace_id:032x}", "span_id": f"{e.span_id:016x}"} if e.trace_id and e.span_id else {},
            float(e.value),
            e.time_unix_nano / 1e9,
        )
        for e in point.exemplars
    ]


def _name(metric: Metric) -> str:
    name = _clean(metric.name)
    unit = UNITS.get(metric.unit or "", "")
    return f"{name}_{unit}" if unit and not name.endswith(f"_{unit}") else name


def _kind(metric: Metric) -> str:
    match metric.data:
        case Sum(is_monotonic=True):
            return "counter"
        case Histogram():
            return "histogram"
        case Sum() | Gauge():
            return "gauge"
        case _:
            return "unknown"


def _labels(attributes: object) -> dict[str, str]:
    pairs = attributes.items() if hasattr(attributes, "items") else ()
    return {_clean(key): str(value) for key, value in pairs}


def _clean(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)
