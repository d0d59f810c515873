"""What goes into the real Alloy comes out of it as its switches say."""

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.running import Gateway, eventually
from tests.stack.alloy_running import Alloy, environ, gateway, needs_alloy, running
from tests.stack.loki_sink import Line, Sink, listening

pytestmark = needs_alloy

TRACE, ROOT_SPAN, CHILD = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
OTHER = "1bf7651916cd43dd8448eb211c80319c"
ERROR = {"code": 2}


@dataclass(frozen=True)
class BackEnds:
    """Those who take what Alloy writes."""

    tempo: Gateway
    loki: Sink

    def told(self, folder: Path, **choices: str) -> dict[str, str]:
        """Give the environment of an Alloy that writes to them."""
        return environ(folder, self.tempo.ports["otlp_grpc"], self.loki.port, **choices)

    def spans(self) -> list[dict[str, Any]]:
        """Give the spans that arrived."""
        found = self.tempo.get("spans", limit=50)
        assert isinstance(found, list)
        return found

    def span_logs(self) -> list[Line]:
        """Give the lines that were made of spans."""
        return self.loki.of(job="alloy")


@pytest.fixture
def sinks(tmp_path: Path) -> Iterator[BackEnds]:
    """Give back ends for Alloy to write to."""
    with gateway(tmp_path) as tempo, listening() as loki:
        yield BackEnds(tempo, loki)


def send(url: str, body: dict[str, Any], **more: str) -> None:
    """Push JSON."""
    headers = {"Content-Type": "application/json", **more}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - our own Alloy
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        answer.read()


def span(
    trace: str, own: str, parent: str = "", status: dict[str, int] | None = None, **attributes: str
) -> dict[str, Any]:
    """A span of five milliseconds, as OTLP's JSON has it; in names of attributes `_` stands for a dot."""
    now = time.time_ns()
    told = [{"key": key.replace("_", "."), "value": {"stringValue": value}} for key, value in attributes.items()]
    return {
        "traceId": trace,
        "spanId": own,
        "parentSpanId": parent,
        "name": "requester",
        "kind": 3,
        "startTimeUnixNano": str(now - 5_000_000),
        "endTimeUnixNano": str(now),
        "attributes": told,
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


def test_a_line_is_made_of_each_root_span_wherever_it_is_in_its_batch(tmp_path: Path, sinks: BackEnds) -> None:
    """The connector stops at the first span that is no root; children end first, so they mostly stand before it."""
    with running(tmp_path, sinks.told(tmp_path)) as one:
        root = span(TRACE, ROOT_SPAN, status=ERROR, http_method="GET", http_target="/unicorn", http_status="500")
        send_spans(one, span(TRACE, CHILD, ROOT_SPAN), root)
        [line] = eventually(sinks.span_logs)
    assert f"traceId={TRACE}" in line.text
    assert "status=Error" in line.text
    assert "http.method=GET" in line.text
    assert "http.target=/unicorn" in line.text


def test_no_line_is_made_when_they_are_off(tmp_path: Path, sinks: BackEnds) -> None:
    """The trace arrives all the same, and a line that was pushed after it."""
    with running(tmp_path, sinks.told(tmp_path, ALLOY_SPAN_LOGS="off")) as one:
        send_spans(one, span(TRACE, ROOT_SPAN))
        eventually(sinks.spans)
        pushed = {"stream": {"job": "after"}, "values": [[str(time.time_ns()), "all before it has arrived"]]}
        send(f"{one.lines}/loki/api/v1/push", {"streams": [pushed]})
        eventually(lambda: sinks.loki.of(job="after"))
        assert not sinks.span_logs()


def test_a_span_gets_its_release_under_a_name_of_its_own(tmp_path: Path, sinks: BackEnds) -> None:
    """For Tempo, which would take the version of the resource."""
    with running(tmp_path, sinks.told(tmp_path)) as one:
        send_spans(one, span(TRACE, ROOT_SPAN, service_version="2.0.0"), span(TRACE, CHILD, ROOT_SPAN))
        spans = {one["span_id"]: one for one in eventually(sinks.spans)}
    assert spans[ROOT_SPAN]["attributes"]["mythical.release"] == "2.0.0"
    assert "mythical.release" not in spans[CHILD]["attributes"]
    assert spans[ROOT_SPAN]["resource"]["service.version"] == "0.1.0"


def test_only_traces_that_failed_or_were_slow_pass_the_sampling(tmp_path: Path, sinks: BackEnds) -> None:
    """The others are not missing from the lines: these are made before."""
    with running(tmp_path, sinks.told(tmp_path, ALLOY_TAIL_SAMPLING="on")) as one:
        send_spans(one, span(TRACE, ROOT_SPAN, status=ERROR), span(OTHER, CHILD))
        eventually(lambda: len(sinks.span_logs()) == 2)
        passed = eventually(sinks.spans)
    assert {one["trace_id"] for one in passed} == {TRACE}


def test_signals_without_a_host_get_that_of_alloy_and_others_keep_theirs(tmp_path: Path, sinks: BackEnds) -> None:
    """A service in another container knows its own name best."""
    with running(tmp_path, sinks.told(tmp_path, ALLOY_RESOURCE_DETECTION="on")) as one:
        send_spans(one, span(TRACE, ROOT_SPAN))
        [found] = eventually(sinks.spans)
        assert found["resource"]["host.name"]
        named = {"attributes": [{"key": "host.name", "value": {"stringValue": "elsewhere"}}]}
        scopes = [{"spans": [span(OTHER, CHILD)]}]
        send(f"{one.otlp}/v1/traces", {"resourceSpans": [{"resource": named, "scopeSpans": scopes}]})
        eventually(lambda: "elsewhere" in {one["resource"].get("host.name") for one in sinks.spans()})


def test_a_line_has_the_time_that_it_claims_its_labels_and_its_ids(tmp_path: Path, sinks: BackEnds) -> None:
    """With TIMESHIFT lines appear 40 minutes ago; one without a loggedtime keeps its own time."""
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
    with running(tmp_path, sinks.told(tmp_path)) as one:
        send(f"{one.lines}/loki/api/v1/push", {"streams": [{"stream": labels, "values": values}]})
        found = eventually(lambda: sinks.loki.of(job="mythical-requester"))
    times = {line.text.rpartition("msg=")[2]: line.time_unix_nano for line in found}
    assert times['"request made"'] // 10**9 == now // 10**9 - 2400
    assert times['"message recorded"'] == now + 1
    [made] = [line for line in found if "request made" in line.text]
    assert made.labels == labels
    assert made.metadata == {"trace_id": TRACE}


def test_a_line_over_otlp_gets_the_labels_of_one_that_is_pushed(tmp_path: Path, sinks: BackEnds) -> None:
    """A query finds both."""
    said = 'endpoint=unicorn msg="request served"'
    record = {
        "timeUnixNano": str(time.time_ns()),
        "severityText": "info",
        "body": {"stringValue": said},
        "traceId": TRACE,
        "spanId": ROOT_SPAN,
        "attributes": [
            {"key": "job", "value": {"stringValue": "mythical-server"}},
            {"key": "beast", "value": {"stringValue": "unicorn"}},
        ],
    }
    told = {"service.name": "mythical-server", "service.namespace": "production"}
    resource = {"attributes": [{"key": key, "value": {"stringValue": value}} for key, value in told.items()]}
    with running(tmp_path, sinks.told(tmp_path)) as one:
        logs = [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]
        send(f"{one.otlp}/v1/logs", {"resourceLogs": logs})
        [line] = eventually(lambda: sinks.loki.of(job="mythical-server"))
    assert line.text == said
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
    """A payload of the Faro SDK: one span, one event and one error, both of the span's trace."""
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


def test_what_a_browser_sends_becomes_spans_and_lines_of_its_trace(sinks: BackEnds, tmp_path: Path) -> None:
    """The page's origin may send; its error is a line with bounded labels and the id of its trace beside it."""
    with running(tmp_path, sinks.told(tmp_path)) as one:
        send(one.faro, faro_payload(), Origin=ORIGIN)
        [found] = eventually(sinks.spans)
        assert (found["service"], found["trace_id"]) == ("mythical-browser", TRACE)
        labels = {"job": "mythical-frontend", "service_name": "mythical-browser"}
        [line] = eventually(lambda: sinks.loki.of(kind="exception", **labels))
        assert line.metadata == {"trace_id": TRACE, "span_id": ROOT_SPAN}
        assert "beast is undefined" in line.text
        [event] = eventually(lambda: sinks.loki.of(kind="event", **labels))
        assert set(event.labels) == {"job", "kind", "service_name"}


def test_pages_of_other_origins_are_not_allowed_to_send(sinks: BackEnds, tmp_path: Path) -> None:
    """A browser asks first, and gets no permission for another page."""
    with running(tmp_path, sinks.told(tmp_path)) as one:
        allowed = {}
        for origin in (ORIGIN, "http://elsewhere.example"):
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            request = urllib.request.Request(one.faro, headers=asked, method="OPTIONS")  # noqa: S310 - our own Alloy
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                allowed[origin] = answer.headers["Access-Control-Allow-Origin"]
        assert allowed == {ORIGIN: ORIGIN, "http://elsewhere.example": None}
