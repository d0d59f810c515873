"""Receives traces, metrics and logs over OTLP, by gRPC and by HTTP.

Source of the protocol: the OTLP specification 1.x (opentelemetry.io/docs/specs/otlp); the messages are those of the
package opentelemetry-proto.
"""

import base64
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_UNSPECIFIED, Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from common.telemetry.settings import GRPC_METHODS
from local.gateway.http_error import HttpError
from local.gateway.otlp_json import attributes, plain, temporality_name
from local.gateway.records import LONGEST_NAME, Attributes, LogLine, Series
from local.gateway.telemetry_store import Point, TelemetryStore
from local.gateway.web import Answer, Request, Route, parse_json

# Forwards an accepted request: path of OTLP over HTTP, encoded request, number of items in it.
Forward = Callable[[str, bytes, int], None]
# Stores the encoded resource of a service.
RememberResource = Callable[[str, bytes], None]

M = TypeVar("M", bound=Message)
UNKNOWN = "unknown_service"
# Bytes of one resource: some are cached outside the store's limits. SDKs send some hundred bytes.
LARGEST_RESOURCE = 64 * 1024
# As in OTLP/JSON, and as in the .proto files, which the Collector accepts as well.
IDS = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
REQUESTS: Mapping[str, type[Any]] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


class OtlpReceiver:
    """Stores the content of OTLP requests and forwards them, encoded as they arrived."""

    def __init__(self, store: TelemetryStore, forward: Forward, remember_resource: RememberResource) -> None:
        self._store = store
        self._forward = forward
        self._remember_resource = remember_resource
        self._takers: Mapping[str, Callable[[Any], int]] = {
            "/v1/traces": self._take_traces,
            "/v1/metrics": self._take_metrics,
            "/v1/logs": self._take_logs,
        }

    def take(self, path: str, body: bytes) -> None:
        """Store one encoded export request. Raises HttpError 400 if it is invalid, 413 if a resource is too large."""
        request = REQUESTS[path]()
        try:
            request.ParseFromString(body)
        except DecodeError:
            raise HttpError(400, f"the body is not an {request.DESCRIPTOR.name} in protobuf") from None
        # Before anything is stored: a rejected request must not have been stored in part.
        _check_resources(request)
        items = self._takers[path](request)
        if items:
            self._forward(path, body, items)

    def routes(self) -> list[Route]:
        """The routes of OTLP over HTTP."""
        return [Route("POST", path, functools.partial(self._post, path)) for path in REQUESTS]

    def _post(self, path: str, request: Request) -> Answer:
        if request.content_type == "application/x-protobuf":
            self.take(path, request.body)
            return Answer(content_type="application/x-protobuf")
        if request.content_type == "application/json":
            self.take(path, from_json(REQUESTS[path](), request.body).SerializeToString())
            return Answer(b"{}")
        raise HttpError(415, "send OTLP as application/x-protobuf or application/json")

    def grpc_handlers(self) -> list[Any]:
        """Return the three gRPC services; they decode the bytes, so that damaged ones are INVALID_ARGUMENT."""
        handlers = []
        for signal, path in GRPC_METHODS.items():
            _, service, method = path.split("/")
            export = functools.partial(self._export, f"/v1/{signal}")
            handlers.append(
                grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(export)})
            )
        return handlers

    def _export(self, path: str, body: bytes, context: Any) -> bytes:
        try:
            self.take(path, body)
        except HttpError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        return b""  # the encoding of an export response that reports no partial success

    def _service(self, resource: Resource) -> tuple[str, Attributes]:
        encoded = resource.SerializeToString()
        service, described = describe(encoded)
        self._remember_resource(service, encoded)
        return service, described

    def _take_traces(self, request: ExportTraceServiceRequest) -> int:
        items = 0
        for of_resource in request.resource_spans:
            service, resource = self._service(of_resource.resource)
            for of_scope in of_resource.scope_spans:
                self._store.add_spans(service, resource, of_scope.scope.name, list(of_scope.spans))
                items += len(of_scope.spans)
        return items

    def _take_metrics(self, request: ExportMetricsServiceRequest) -> int:
        items = 0
        for of_resource in request.resource_metrics:
            service, resource = self._service(of_resource.resource)
            identity = of_resource.resource.SerializeToString()
            points = [
                ((identity, of_scope.scope.name, *key), series)
                for of_scope in of_resource.scope_metrics
                for metric in of_scope.metrics
                for key, series in points_of(metric, service, resource, of_scope.scope.name)
            ]
            self._store.add_points(service, points)
            items += len(points)
        return items

    def _take_logs(self, request: ExportLogsServiceRequest) -> int:
        items = 0
        for of_resource in request.resource_logs:
            service, resource = self._service(of_resource.resource)
            lines = [
                line_of(record, service, resource)
                for of_scope in of_resource.scope_logs
                for record in of_scope.log_records
            ]
            self._store.add_lines(lines)
            items += len(lines)
        return items


def _check_resources(request: Any) -> None:
    [(_, of_resources)] = request.ListFields() or [(None, ())]
    if any(each.resource.ByteSize() > LARGEST_RESOURCE for each in of_resources):
        raise HttpError(413, f"a resource has more than {LARGEST_RESOURCE} bytes; send fewer resource attributes")


@functools.lru_cache(maxsize=256)
def describe(resource: bytes) -> tuple[str, Attributes]:
    """Name and attributes of an encoded resource; cached, as a service sends the same one with every batch."""
    described = attributes(Resource.FromString(resource).attributes)
    name = described.get("service.name")
    return (name[:LONGEST_NAME] if isinstance(name, str) and name else UNKNOWN), described


def points_of(metric: Metric, service: str, resource: Attributes, scope: str) -> Iterator[Point]:
    """The data points of one metric, each with the key that identifies its series."""
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    data = getattr(metric, kind)
    for point in data.data_points:
        yield (
            (metric.name, kind, b"".join(sorted(pair.SerializeToString() for pair in point.attributes))),
            Series(
                name=metric.name,
                kind=kind,
                unit=metric.unit,
                description=metric.description,
                monotonic=kind == "sum" and data.is_monotonic,
                temporality=temporality_name(
                    getattr(data, "aggregation_temporality", AGGREGATION_TEMPORALITY_UNSPECIFIED)
                ),
                service=service,
                resource=resource,
                scope=scope,
                raw=point.SerializeToString(),
            ),
        )


def line_of(record: LogRecord, service: str, resource: Attributes) -> LogLine:
    """Return an OTLP log record as a line, with the labels that Loki gives to logs over OTLP."""
    body = plain(record.body)
    ids = {"trace_id": record.trace_id.hex(), "span_id": record.span_id.hex()}
    return LogLine(
        time_unix_nano=record.time_unix_nano or record.observed_time_unix_nano,
        service=service,
        labels={"service_name": service, "level": record.severity_text.lower()},
        line=body if isinstance(body, str) else json.dumps(body),
        metadata=attributes(record.attributes) | {key: value for key, value in ids.items() if value},
        resource=resource,
        trace_id=ids["trace_id"],
        span_id=ids["span_id"],
        via="otlp",
    )


def from_json(message: M, body: bytes) -> M:
    """Fill `message` from JSON, with ids as in OTLP/JSON, and return it. Raises HttpError 400 if it is not that."""
    try:
        content = parse_json(body)
        if not isinstance(content, dict):
            raise TypeError
        return json_format.ParseDict(_ids_in_base64(content), message, ignore_unknown_fields=True)
    # The last two are raised by the parser for a list or a text in place of an object.
    except (HttpError, ValueError, RecursionError, json_format.ParseError, TypeError, AttributeError):
        raise HttpError(400, f"the body is not a valid {message.DESCRIPTOR.name} in JSON") from None


def _ids_in_base64(value: Any) -> Any:
    """OTLP/JSON writes ids in hex, where protobuf's own JSON expects base64."""
    if isinstance(value, list):
        return [_ids_in_base64(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(each)).decode()
        if key in IDS and isinstance(each, str)
        else _ids_in_base64(each)
        for key, each in value.items()
    }
