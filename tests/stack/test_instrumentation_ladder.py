"""The stack stores from each rung of INSTRUMENTATION what docs/instrumentation-ladder.md documents.

The tests restart the requester, the server, and the recorder of the stack on each rung, and at the end with the
settings of the shell and of .env.
"""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Status

from local.gateway.otlp_json import attributes, kind_name
from tests.integration.ladder_table import (
    CHECKS,
    COMBINATIONS,
    DOCUMENTED,
    HOST_OF_CALLER,
    MIN_COUNT,
    RECORDER,
    REQUESTER,
    RUNGS,
    SERVER,
    Json,
    Received,
    assert_shapes,
    cell,
)
from tests.integration.service_support import ask
from tests.stack.backends import Backends, compose, eventually

SERVICES = (REQUESTER, SERVER, RECORDER)
# Beyla has a namespace of its own, so its telemetry can't be distinguished by run.
PROVEN_HERE = [rung for rung in RUNGS if rung != "ebpf"]

# The names that Prometheus has for metrics in the table; Alloy adds the suffixes.
METRICS = {
    "http_client_request_duration_seconds_count": "http.client.request.duration",
    "http_server_request_duration_seconds_count": "http.server.request.duration",
    "mythical_request_times_count": "mythical_request_times",
    "db_client_operation_duration_seconds_count": "db.client.operation.duration",
    "db_client_connection_count": "db.client.connection.count",
    "messaging_process_duration_seconds_count": "messaging.process.duration",
    "process_memory_usage_bytes": "process.memory.usage",
    "otel_sdk_exporter_span_exported_total": "otel.sdk.exporter.span.exported",
}


def start(**environ: str) -> None:
    """Start the three services again with these settings, and wait until they are healthy."""
    compose("up", "--detach", "--no-deps", "--no-build", "--wait", *SERVICES, **environ)


class Run:
    """Restarts the services on their rungs, waits for enough telemetry, stops them, and queries the backends."""

    def __init__(self, stack: Backends) -> None:
        self._stack = stack

    def __call__(self, requester: str, server: str, recorder: str) -> Received:
        """Return the stored telemetry of this run, which has a namespace of its own."""
        namespace = f"ladder-{secrets.token_hex(4)}"
        start(
            NAMESPACE=namespace,
            REQUESTER_INSTRUMENTATION=requester,
            SERVER_INSTRUMENTATION=server,
            RECORDER_INSTRUMENTATION=recorder,
            REQUESTER_START="0",
            REQUESTER_RATE="0.2",  # each trace is fetched
            FAULT_NULL_NAME="0.5",
            FAULT_SLOW_PUBLISH="0",
            FAULT_SLOW_PROCESSING="0",
        )
        server_url = self._stack.url("SERVER_PORT")
        ask(server_url, "/made/up", headers={"Host": HOST_OF_CALLER})
        eventually(lambda: self._enough(namespace, requester, server, recorder), "enough telemetry", 180)
        page = ask(server_url, "/metrics").text
        compose("stop", *SERVICES)
        self._wait_for_a_marker(namespace)
        return Received(
            self._spans(namespace),
            self._metrics(namespace),
            self._lines(namespace),
            [{}] if self._profiled(namespace) else [],
            {"http.server.request.duration"} if self._has_exemplar(namespace) else set(),
            page,
        )

    def _enough(self, namespace: str, requester: str, server: str, recorder: str) -> bool:
        """Return whether enough messages are recorded, and what is sent at intervals has arrived."""
        if recorder == "off":
            recorded = compose("logs", "--no-log-prefix", RECORDER).count("message recorded")
        else:
            recorded = len(self._stack.logql(f'{{namespace="{namespace}"}} |= "message recorded"', limit=MIN_COUNT))
        return (
            recorded >= MIN_COUNT
            and (server == "off" or self._has_exemplar(namespace))
            and ({requester, server, recorder}.isdisjoint({"stock", "fast"}) or self._profiled(namespace))
        )

    def _wait_for_a_marker(self, namespace: str) -> None:
        """Send Alloy a span, a metric, and a log line, and wait until all are stored, and so what was sent before."""
        name, now = f"marker-{namespace}", str(time.time_ns())
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]}
        trace_id = secrets.token_hex(16)
        times = {"startTimeUnixNano": now, "endTimeUnixNano": now}
        span = {"traceId": trace_id, "spanId": secrets.token_hex(8), "name": name, "kind": 1, **times}
        metric = {"name": "ladder_marker", "gauge": {"dataPoints": [{"timeUnixNano": now, "asInt": "1"}]}}
        line = {"timeUnixNano": now, "body": {"stringValue": name}}
        for path, body in {
            "/v1/traces": {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]},
            "/v1/metrics": {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]},
            "/v1/logs": {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [line]}]}]},
        }.items():
            self._stack.fetch("OTLP_HTTP_PORT", path, body)
        search = f'{{resource.service.name="{name}"}}'
        eventually(lambda: self._stack.traceql(search), f"span {search}")
        eventually(lambda: self._stack.promql(f'ladder_marker{{service="{name}"}}'), f"metric of {name}")
        eventually(lambda: self._stack.logql(f'{{service_name="{name}"}}'), f"log line of {name}")

    def _spans(self, namespace: str) -> list[Json]:
        """Return the spans of all traces that only these services took part in: no load generator, and no page."""
        found: list[Json] = []
        for trace in self._stack.traceql(f'{{resource.service.namespace="{namespace}"}}', limit=2000):
            resources = (
                json_format.ParseDict(each, ResourceSpans()) for each in self._stack.trace_resources(trace["traceID"])
            )
            spans = [span for resource in resources for span in self._as_received(resource)]
            if all(span["resource"].get("service.namespace") == namespace for span in spans):
                found += spans
        return found

    @staticmethod
    def _as_received(resource_spans: ResourceSpans) -> Iterator[Json]:
        """Yield the spans in the form of the gateway's API, which the checks read."""
        resource = attributes(resource_spans.resource.attributes)
        for span in (span for scope in resource_spans.scope_spans for span in scope.spans):
            yield {
                "service": resource["service.name"],
                "resource": resource,
                "trace_id": span.trace_id.hex(),
                "span_id": span.span_id.hex(),
                "parent_span_id": span.parent_span_id.hex(),
                "name": span.name,
                "kind": kind_name(span.kind),
                "attributes": attributes(span.attributes),
                "events": span.events,
                "links": span.links,
                "status": {
                    "code": Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
                    "message": span.status.message,
                },
            }

    def _metrics(self, namespace: str) -> list[Json]:
        """Return each series as a metric with one point, under the names of OpenTelemetry."""
        now = int(time.time())
        query: dict[str, str | int] = {"match[]": f'{{job=~"{namespace}/.+"}}', "start": now - 900, "end": now}
        found = self._stack.fetch("MIMIR_PORT", "/prometheus/api/v1/series", **query)
        return [
            {
                "name": METRICS.get(series["__name__"], series["__name__"]),
                "service": series.get("service", ""),
                "points": [{"attributes": {label.replace("_", "."): value for label, value in series.items()}}],
            }
            for series in found["data"]
        ]

    def _lines(self, namespace: str) -> list[Json]:
        """Return the log lines, with labels of the index separate from structured metadata."""
        selector = f'{{namespace="{namespace}"}}'
        query: dict[str, str | int] = {"match[]": selector, "start": time.time_ns() - 900 * 10**9}
        series = self._stack.fetch("LOKI_PORT", "/loki/api/v1/series", **query)
        index = {label for each in series["data"] for label in each}
        return [
            {
                "line": line,
                "labels": {label: value for label, value in labels.items() if label in index},
                "metadata": {label: value for label, value in labels.items() if label not in index},
            }
            for labels, line in self._stack.logql(selector, seconds=900, limit=5000)
        ]

    def _profiled(self, namespace: str) -> bool:
        return bool(self._stack.profile(f'{{namespace="{namespace}"}}'))

    def _has_exemplar(self, namespace: str) -> bool:
        name = "http_server_request_duration_seconds_bucket"
        return bool(self._stack.exemplars(f'{name}{{job="{namespace}/{SERVER}"}}'))


@pytest.fixture(scope="module")
def run(stack: Backends, containers: list[Json]) -> Iterator[Run]:  # noqa: ARG001 - only they can be restarted
    """A function that runs the services of the stack on rungs; skip without containers that compose started here."""
    yield Run(stack)
    start()


@pytest.fixture(scope="module", params=PROVEN_HERE)
def rung(request: pytest.FixtureRequest, run: Run) -> tuple[str, Received]:
    """A rung, and the stored telemetry of the three services on it."""
    return request.param, run(request.param, request.param, request.param)


@pytest.mark.parametrize("what", CHECKS)
def test_the_stack_stores_what_the_page_documents(what: str, rung: tuple[str, Received]) -> None:
    """Telemetry with `yes` is in its backend, and telemetry with `no` isn't."""
    name, got = rung
    assert cell(what, got) == DOCUMENTED[what][name]


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda combination: "-".join(combination[:3]))
def test_traces_across_rungs_in_tempo(combination: tuple[Any, ...], run: Run) -> None:
    """With services on different rungs, Tempo has traces of the shapes that the page documents."""
    requester, server, recorder, documented, _ = combination
    assert_shapes(documented, run(requester, server, recorder).shapes())
