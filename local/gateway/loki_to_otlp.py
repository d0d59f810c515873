"""Converts Loki lines to OTLP log records, so that a viewer of OTLP shows them with their traces."""

import re
from collections.abc import Iterable, Mapping

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from local.gateway.records import LogLine

SCOPE = "loki"
LEVEL_LABELS = ("level", "severity", "detected_level")
LEVEL_IN_LINE = re.compile(r"\blevel=\"?(\w+)")
# The lowest number of each range of the OpenTelemetry log data model.
SEVERITIES = {
    "trace": 1,
    "debug": 5,
    "info": 9,
    "warn": 13,
    "warning": 13,
    "error": 17,
    "critical": 21,
    "fatal": 21,
}


def resource_named(service: str) -> bytes:
    """Return an encoded resource with only the name of the service."""
    return Resource(attributes=[_pair("service.name", service)]).SerializeToString()


def export_request(lines: Iterable[LogLine], resources: Mapping[str, bytes]) -> bytes:
    """The lines as an encoded OTLP request, each under its service's entry in `resources`, if it has one."""
    request = ExportLogsServiceRequest()
    scopes: dict[str, ScopeLogs] = {}
    for line in lines:
        scope = scopes.get(line.service)
        if scope is None:
            of_resource = request.resource_logs.add()
            of_resource.resource.ParseFromString(resources.get(line.service) or resource_named(line.service))
            scope = scopes[line.service] = of_resource.scope_logs.add()
            scope.scope.name = SCOPE
        _fill(scope.log_records.add(), line)
    return request.SerializeToString()


def _fill(record: LogRecord, line: LogLine) -> None:
    level = _level(line)
    record.time_unix_nano = record.observed_time_unix_nano = line.time_unix_nano
    record.severity_text = level
    record.severity_number = SEVERITIES.get(level.lower(), 0)  # type: ignore[assignment]
    record.body.string_value = line.line
    record.trace_id = bytes.fromhex(line.trace_id)
    record.span_id = bytes.fromhex(line.span_id)
    record.attributes.extend(_pair(key, str(value)) for key, value in {**line.labels, **line.metadata}.items())


def _level(line: LogLine) -> str:
    for label in LEVEL_LABELS:
        if label in line.labels:
            return line.labels[label]
    found = LEVEL_IN_LINE.search(line.line)
    return found[1] if found else ""


def _pair(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))
