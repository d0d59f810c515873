"""Each round of the load is one trace, marked as synthetic, and propagated in headers."""

import os
import re
from pathlib import Path

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode

from common.core.env import Env
from loadtest.checks import INJECTED, Answer, Expectation
from loadtest.load import LoadRun
from loadtest.settings import Settings, load
from loadtest.telemetry import Telemetry, resource

PAGE = (Path(__file__).resolve().parents[3] / "docs/reference/telemetry.md").read_text(encoding="utf-8")
DOCUMENTED = re.compile(r"^\| `(locust\.[a-z.]+)` \| \w+ \|[^|]*\|([^|]*)\|", re.MULTILINE)
MARKS = {
    "user_agent.synthetic.type": "test",
    "loadtest.user.kind": "keeper",
    "loadtest.shape": "spike",
    "loadtest.run.id": "r1",
}


def settings() -> Settings:
    """Return the settings of a run with a name."""
    return load(Env({"LOAD_SHAPE": "spike", "LOAD_RUN_ID": "r1"}))


def one_round(telemetry: Telemetry, response: Answer) -> dict[str, str]:
    """Record one POST of a keeper and return its headers."""
    with telemetry.task("keeper"), telemetry.call("keeper", "POST", "/<beast>", "http://h/unicorn") as call:
        telemetry.record(call, "keeper", "/<beast>", method="POST", status=response.status, took_s=0.01)
        telemetry.record_checks(call, "keeper", Expectation("POST", 201, 300).judge(response))
    return call.headers


def test_a_round_is_one_trace_whose_spans_are_marked() -> None:
    """The root is the round, and the name of the CLIENT span below it is the pattern of the path."""
    spans = InMemorySpanExporter()
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(spans))
    one_round(Telemetry(settings(), traces, NoOpMeterProvider()), Answer(409, 10))
    call, root = spans.get_finished_spans()
    assert (root.name, root.parent, call.name, call.kind) == ("keeper round", None, "POST /<beast>", SpanKind.CLIENT)
    assert call.parent == root.context
    for span in (call, root):
        assert MARKS.items() <= dict(span.attributes or {}).items()
    assert (call.status.status_code, call.status.description) == (StatusCode.ERROR, "expected status 201, got 409")


def test_the_headers_contain_the_trace_and_the_marks() -> None:
    """The server's spans join the trace, and load can be distinguished from real traffic."""
    headers = one_round(Telemetry(settings(), TracerProvider(), NoOpMeterProvider()), Answer(201, 10))
    assert headers["traceparent"].startswith("00-")
    assert "user_agent.synthetic.type=test" in headers["baggage"].split(",")
    assert "loadtest.user.kind=keeper" in headers["baggage"].split(",")
    assert headers["User-Agent"].startswith("mythical-loadtest/")


def test_without_telemetry_requests_are_still_marked() -> None:
    """Baggage and user agent cost nothing and are useful to the server."""
    headers = one_round(Telemetry(settings(), NoOpTracerProvider(), NoOpMeterProvider()), Answer(201, 10))
    assert "traceparent" not in headers
    assert "loadtest.run.id=r1" in headers["baggage"]


def test_the_metrics_are_counted_by_run_kind_and_check() -> None:
    """Requests, checks by result, failures by reason, a histogram in seconds, and users by kind are exported."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    telemetry = Telemetry(settings(), NoOpTracerProvider(), meters)
    telemetry.count_users(lambda: {"keeper": 7})
    one_round(telemetry, Answer(409, 10))
    with telemetry.call("keeper", "POST", "/<beast>", "http://h/unicorn") as call:
        telemetry.record_injected(call, "keeper", INJECTED)
    data = reader.get_metrics_data()
    assert data is not None
    points = {
        metric.name: [(dict(point.attributes or {}), point) for point in metric.data.data_points]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    meters.shutdown()
    ours = {name: found for name, found in points.items() if not name.startswith("process.")}
    table = PAGE.partition("\n### Metrics of the load\n")[2]
    documented = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in DOCUMENTED.findall(table)}
    assert {name: {label for labels, _ in found for label in labels} for name, found in ours.items()} == documented
    assert all(labels["run_id"] == "r1" for found in ours.values() for labels, _ in found)
    assert {labels["reason"] for labels, _ in points["locust.failures"]} == {"status", "injected"}
    held = {(labels["check"], labels["result"]) for labels, _ in points["locust.checks"]}
    assert held == {("POST status", "failed"), ("POST time", "held")}


def test_the_resource_distinguishes_the_processes() -> None:
    """Otherwise their counters would be one series in Mimir that goes up and down."""
    attributes = resource().attributes
    assert attributes["service.name"] == "mythical-loadtest"
    assert str(attributes["service.instance.id"]).endswith(f"-{os.getpid()}")


def test_a_second_run_has_another_name_in_headers_and_metrics() -> None:
    """The page can start several runs in the same process."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    telemetry = Telemetry(settings(), NoOpTracerProvider(), meters)
    load = LoadRun(settings(), telemetry)
    first = next(load.numbers["keeper"])
    load.start("r1.2", "7")
    assert "loadtest.run.id=r1.2" in one_round(telemetry, Answer(201, 10))["baggage"]
    assert (load.settings.run_id, load.settings.seed) == ("r1.2", "7")
    assert next(load.numbers["keeper"]) == first
    data = reader.get_metrics_data()
    meters.shutdown()
    assert data is not None
    points = [point for one in data.resource_metrics[0].scope_metrics[0].metrics for point in one.data.data_points]
    assert {(point.attributes or {})["run_id"] for point in points} == {"r1.2"}
