"""The real Alloy forwards signals as its switches define."""

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.gateway.records import LogLine
from tests.integration.running import Gateway, eventually
from tests.stack.alloy_running import Alloy, environ, gateway, needs_alloy, running
from tests.stack.loki_sink import Sink, listening

pytestmark = needs_alloy

TRACE, ROOT_SPAN, CHILD = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
OTHER = "1bf7651916cd43dd8448eb211c80319c"
ERROR = {"code": 2}


@dataclass(frozen=True)
class Sinks:
    """Receivers of Alloy's output."""

    tempo: Gateway
    loki: Sink

    def settings(self, folder: Path, **choices: str) -> dict[str, str]:
        """Return the environment of an Alloy that writes to them."""
        return environ(folder, self.tempo.ports["otlp_grpc"], self.loki.port, **choices)

    def spans(self) -> list[dict[str, Any]]:
        """Return the received spans."""
        found = self.tempo.get("spans", limit=50)
        assert isinstance(found, list)
        return found

    def span_logs(self) -> list[LogLine]:
        """Return the log lines that Alloy derived from spans."""
        return self.loki.of(job="alloy")


@pytest.fixture
def sinks(tmp_path: Path) -> Iterator[Sinks]:
    """Receivers for Alloy to write to."""
    with gateway(tmp_path) as tempo, listening() as loki:
        yield Sinks(tempo, loki)


def send(url: str, body: dict[str, Any], **more: str) -> None:
    """Push JSON."""
    headers = {"Content-Type": "application/json", **more}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - a local Alloy
    with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
        response.read()


def span(
    trace: str, own: str, parent: str = "", status: dict[str, int] | None = None, **attributes: str
) -> dict[str, Any]:
    """Return a span of five milliseconds in OTLP's JSON; in names of attributes, `_` stands for a dot."""
    now = time.time_ns()
    fields = [{"key": key.replace("_", "."), "value": {"stringValue": value}} for key, value in attributes.items()]
    return {
        "traceId": trace,
        "spanId": own,
        "parentSpanId": parent,
        "name": "requester",
        "kind": 3,
        "startTimeUnixNano": str(now - 5_000_000),
        "endTimeUnixNano": str(now),
        "attributes": fields,
        "status": status or {},
    }


def send_spans(one: Alloy, *spans: dict[str, Any]) -> None:
    """Send the spans of mythical-requester in one batch, in this order."""
    resource = {
        "attributes": [
            {"key": "service.name", "value": {"stringValue": "mythical-requester"}},
            {"key": "service.version", "value": {"stringValue": "0.1.0"}},
        ]
    }
    scopes = [{"scope": {"name": "test"}, "spans": list(spans)}]
    send(f"{one.otlp}/v1/traces", {"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]})


def test_each_root_span_becomes_a_log_line_at_any_position_in_its_batch(tmp_path: Path, sinks: Sinks) -> None:
    """The connector stops at the first span that isn't a root; children end first, so they mostly come before it."""
    with running(tmp_path, sinks.settings(tmp_path)) as one:
        root = span(TRACE, ROOT_SPAN, status=ERROR, http_method="GET", http_target="/unicorn", http_status="500")
        send_spans(one, span(TRACE, CHILD, ROOT_SPAN), root)
        [line] = eventually(sinks.span_logs)
    assert f"traceId={TRACE}" in line.line
    assert "status=Error" in line.line
    assert "http.method=GET" in line.line
    assert "http.target=/unicorn" in line.line


def test_span_logs_can_be_disabled(tmp_path: Path, sinks: Sinks) -> None:
    """The trace still arrives, and so does a log line that was pushed after it."""
    with running(tmp_path, sinks.settings(tmp_path, ALLOY_SPAN_LOGS="off")) as one:
        send_spans(one, span(TRACE, ROOT_SPAN))
        eventually(sinks.spans)
        pushed = {"stream": {"job": "after"}, "values": [[str(time.time_ns()), "pushed after the trace"]]}
        send(f"{one.lines}/loki/api/v1/push", {"streams": [pushed]})
        eventually(lambda: sinks.loki.of(job="after"))
        assert not sinks.span_logs()


def test_a_span_gets_its_release_as_a_separate_attribute(tmp_path: Path, sinks: Sinks) -> None:
    """Tempo would otherwise use the version of the resource."""
    with running(tmp_path, sinks.settings(tmp_path)) as one:
        send_spans(one, span(TRACE, ROOT_SPAN, service_version="2.0.0"), span(TRACE, CHILD, ROOT_SPAN))
        spans = {one["span_id"]: one for one in eventually(sinks.spans)}
    assert spans[ROOT_SPAN]["attributes"]["mythical.release"] == "2.0.0"
    assert "mythical.release" not in spans[CHILD]["attributes"]
    assert spans[ROOT_SPAN]["resource"]["service.version"] == "0.1.0"


def test_tail_sampling_keeps_failed_and_slow_traces(tmp_path: Path, sinks: Sinks) -> None:
    """The log lines include the other traces, because Alloy derives the lines before sampling."""
    with running(tmp_path, sinks.settings(tmp_path, ALLOY_TAIL_SAMPLING="on")) as one:
        send_spans(one, span(TRACE, ROOT_SPAN, status=ERROR), span(OTHER, CHILD))
        eventually(lambda: len(sinks.span_logs()) == 2)
        passed = eventually(sinks.spans)
    assert {one["trace_id"] for one in passed} == {TRACE}


def test_resource_detection_adds_a_host_only_where_none_is_set(tmp_path: Path, sinks: Sinks) -> None:
    """A service in another container keeps its own host name."""
    with running(tmp_path, sinks.settings(tmp_path, ALLOY_RESOURCE_DETECTION="on")) as one:
        send_spans(one, span(TRACE, ROOT_SPAN))
        [found] = eventually(sinks.spans)
        assert found["resource"]["host.name"]
        named = {"attributes": [{"key": "host.name", "value": {"stringValue": "elsewhere"}}]}
        scopes = [{"spans": [span(OTHER, CHILD)]}]
        send(f"{one.otlp}/v1/traces", {"resourceSpans": [{"resource": named, "scopeSpans": scopes}]})
        eventually(lambda: "elsewhere" in {one["resource"].get("host.name") for one in sinks.spans()})


def test_a_line_keeps_its_logged_time_labels_and_trace_id(tmp_path: Path, sinks: Sinks) -> None:
    """With TIMESHIFT, `loggedtime` is 40 minutes ago; a line without it keeps its timestamp."""
    labels = {
        "service_name": "mythical-requester",
        "job": "mythical-requester",
        "namespace": "production",
        "level": "info",
    }
    now = time.time_ns()
    claimed = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now / 1e9 - 2400))
    values = [
        [str(now), f'loggedtime={claimed} msg="request made"', {"trace_id": TRACE}],
        [str(now + 1), 'msg="message recorded"'],
    ]
    with running(tmp_path, sinks.settings(tmp_path)) as one:
        send(f"{one.lines}/loki/api/v1/push", {"streams": [{"stream": labels, "values": values}]})
        found = eventually(lambda: sinks.loki.of(job="mythical-requester"))
    times = {line.line.rpartition("msg=")[2]: line.time_unix_nano for line in found}
    assert times['"request made"'] // 10**9 == now // 10**9 - 2400
    assert times['"message recorded"'] == now + 1
    [made] = [line for line in found if "request made" in line.line]
    assert made.labels == labels
    assert made.metadata == {"trace_id": TRACE}


def test_a_line_over_otlp_gets_the_same_labels_as_a_pushed_one(tmp_path: Path, sinks: Sinks) -> None:
    """The same query finds both."""
    text = 'endpoint=unicorn msg="request served"'
    record = {
        "timeUnixNano": str(time.time_ns()),
        "severityText": "info",
        "body": {"stringValue": text},
        "traceId": TRACE,
        "spanId": ROOT_SPAN,
        "attributes": [
            {"key": "job", "value": {"stringValue": "mythical-server"}},
            {"key": "beast", "value": {"stringValue": "unicorn"}},
        ],
    }
    attributes = {"service.name": "mythical-server", "service.namespace": "production"}
    resource = {"attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]}
    with running(tmp_path, sinks.settings(tmp_path)) as one:
        logs = [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]
        send(f"{one.otlp}/v1/logs", {"resourceLogs": logs})
        [line] = eventually(lambda: sinks.loki.of(job="mythical-server"))
    assert line.line == text
    assert line.labels == {
        "service_name": "mythical-server",
        "job": "mythical-server",
        "namespace": "production",
        "level": "info",
        "beast": "unicorn",
    }
    assert line.metadata == {"trace_id": TRACE, "span_id": ROOT_SPAN}


ORIGIN = "http://localhost:4005"


def faro_payload() -> dict[str, Any]:
    """Return a payload of the Faro SDK: a span, an event and an error of the span's trace."""
    now = time.time_ns()
    moment = datetime.fromtimestamp(now / 1e9, UTC).isoformat().replace("+00:00", "Z")
    named = {"attributes": [{"key": "service.name", "value": {"stringValue": "mythical-browser"}}]}
    own = {
        "traceId": TRACE,
        "spanId": ROOT_SPAN,
        "name": "HTTP GET",
        "kind": 3,
        "startTimeUnixNano": str(now - 5_000_000),
        "endTimeUnixNano": str(now),
    }
    trace = {"trace_id": TRACE, "span_id": ROOT_SPAN}
    return {
        "meta": {"app": {"name": "any name", "version": "0.1.0"}, "session": {"id": "abc"}},
        "traces": {
            "resourceSpans": [{"resource": named, "scopeSpans": [{"scope": {"name": "fetch"}, "spans": [own]}]}]
        },
        "events": [{"name": "session_start", "domain": "browser", "timestamp": moment, "attributes": {}}],
        "exceptions": [{"type": "TypeError", "value": "beast is undefined", "timestamp": moment, "trace": trace}],
    }


def test_a_browsers_data_becomes_spans_and_log_lines_of_its_trace(sinks: Sinks, tmp_path: Path) -> None:
    """The page's origin may send; its error is a line with bounded labels and its trace id as metadata."""
    with running(tmp_path, sinks.settings(tmp_path)) as one:
        send(one.faro, faro_payload(), Origin=ORIGIN)
        [found] = eventually(sinks.spans)
        assert (found["service"], found["trace_id"]) == ("mythical-browser", TRACE)
        labels = {"job": "mythical-frontend", "service_name": "mythical-browser"}
        [line] = eventually(lambda: sinks.loki.of(kind="exception", **labels))
        assert line.metadata == {"trace_id": TRACE, "span_id": ROOT_SPAN}
        assert "beast is undefined" in line.line
        [event] = eventually(lambda: sinks.loki.of(kind="event", **labels))
        assert set(event.labels) == {"job", "kind", "service_name"}


def test_pages_of_other_origins_may_not_send(sinks: Sinks, tmp_path: Path) -> None:
    """A browser sends a preflight request, which Alloy denies for another origin."""
    with running(tmp_path, sinks.settings(tmp_path)) as one:
        allowed = {}
        for origin in (ORIGIN, "http://elsewhere.example"):
            preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            request = urllib.request.Request(one.faro, headers=preflight, method="OPTIONS")  # noqa: S310 - a local Alloy
            with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
                allowed[origin] = response.headers["Access-Control-Allow-Origin"]
        assert allowed == {ORIGIN: ORIGIN, "http://elsewhere.example": None}
