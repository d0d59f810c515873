"""All four signals of the three running services, as the collector receives them."""

import itertools
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from common.core.endpoints import MYTHICAL
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.service_support import (
    Fleet,
    ask,
    broker_settings,
    clear_queues,
    database_settings,
    fleet,
    own,
    own_database,
    requests_to,
    spans_of,
    traceparent,
)

SERVICES = ("mythical-requester", "mythical-server", "mythical-recorder")
SIGNALS = {"traces": "spans", "metrics": "metrics", "logs": "logs", "profiles": "profiles"}
RESOURCE = "workshop.room=blue%20room,deployment.environment.name=staging"

Json = dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """The three running services, and the gateway that receives their signals."""

    gateway: Gateway
    fleet: Fleet
    server: Service
    requester: Service
    recorder: Service

    def received(self, what: str, **query: object) -> list[Json]:
        """Return the spans, metrics, logs or profiles of these services at the gateway."""
        return own(self.gateway.get(what, **query), self.fleet.namespace)

    def eventually(self, what: str, look: Callable[[list[Json]], Any], **query: object) -> Any:
        """Return the first truthy result of `look` on the data at the gateway."""
        return eventually(lambda: look(self.received(what, **query)), what=f"{what} {query}")


@pytest.fixture(scope="module", params=["fast", "stock"])
def suite(
    request: pytest.FixtureRequest,
    postgres: Postgres,
    rabbitmq: RabbitMQ,
    gateway: Gateway,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Suite]:
    """Requester, server and recorder with one loop of requests, some of them malformed, and without slow faults.

    Each test runs with the fast layer and with the plain SDK.
    """
    clear_queues(rabbitmq)
    folder = tmp_path_factory.mktemp("services")
    settings = {"OTEL_RESOURCE_ATTRIBUTES": RESOURCE, "FAULT_NULL_NAME": "0.05", "INSTRUMENTATION": request.param}
    with (
        own_database(postgres) as name,
        fleet(
            folder, gateway.settings, database_settings(postgres, name), broker_settings(rabbitmq), settings
        ) as started,
    ):
        server = started.launch("server")
        recorder = started.launch("recorder", FAULT_SLOW_PROCESSING="0")
        requester = started.launch(
            "requester",
            **requests_to(server),
            REQUESTER_LOOPS="1",
            REQUESTER_START="0",
            REQUESTER_ERROR_ODDS="0.1",
            FAULT_SLOW_PUBLISH="0",
        )
        started.ready()
        yield Suite(gateway, started, server, requester, recorder)


# Resources


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("signal", ["spans", "metrics"])
def test_the_resource_identifies_the_service(signal: str, service: str, suite: Suite) -> None:
    """It has name, version, instance, host, process, and OTEL_RESOURCE_ATTRIBUTES, which takes precedence."""
    found = suite.eventually(signal, lambda found: found, service=service, limit=100)
    resource: Json = found[0]["resource"]
    expected = {
        "service.name": service,
        "service.namespace": suite.fleet.namespace,
        "deployment.environment": suite.fleet.namespace,
        "deployment.environment.name": "staging",
        "workshop.room": "blue room",
        "telemetry.sdk.language": "python",
        "process.runtime.name": "cpython",
    }
    assert {key: resource.get(key) for key in expected} == expected
    for key in ("service.version", "service.instance.id", "host.name", "host.arch", "os.type", "process.pid"):
        assert resource[key], key
    assert not any("password" in key.lower() or "command" in key for key in resource)


def test_two_processes_are_two_instances(suite: Suite) -> None:
    """Their ids differ, so that a backend can distinguish replicas."""
    ids = {
        suite.eventually("metrics", lambda found: found, service=service)[0]["resource"]["service.instance.id"]
        for service in SERVICES
    }
    assert len(ids) == len(SERVICES)


# The trace of a request


@dataclass(frozen=True)
class Hop:
    """A span of the trace of a request: service, name, kind, and the parent's name."""

    service: str
    name: str
    kind: str
    parent: str | None


ROOT = Hop("mythical-requester", "requester", "CLIENT", None)
PUBLISH = Hop("mythical-requester", "publish_to_queue", "PRODUCER", "requester")
PROCESS = Hop("mythical-recorder", "process_message", "CONSUMER", "publish_to_queue")
STATEMENTS = {"GET": "SELECT", "POST": "INSERT", "DELETE": "DELETE"}


def hops(method: str, beast: str) -> set[Hop]:
    """Return all spans of the trace of a successful request."""
    return {
        ROOT,
        Hop("mythical-server", f"{method} /<beast>", "SERVER", "requester"),
        Hop("mythical-server", f"{STATEMENTS[method]} {beast}", "CLIENT", f"{method} /<beast>"),
        PUBLISH,
        PROCESS,
    }


@pytest.mark.parametrize("method", STATEMENTS)
def test_one_trace_contains_all_services(method: str, suite: Suite) -> None:
    """The trace has the requester's root, server, SQL, publishing and the recorder: exactly five spans."""

    def complete(roots: list[Json]) -> list[Json] | None:
        for root in roots:
            if root["attributes"]["http.method"] == method and root["status"]["code"] != "ERROR":
                spans = spans_of(suite.gateway, root["trace_id"])
                if len(spans) >= len(STATEMENTS) + 2:
                    return spans
        return None

    spans = suite.eventually("spans", complete, service="mythical-requester", name="requester", limit=200)
    by_id = {span["span_id"]: span for span in spans}
    beast = next(span["attributes"]["beast"] for span in spans if span["name"] == "requester")
    found = {
        Hop(
            span["service"],
            span["name"],
            span["kind"],
            by_id[span["parent_span_id"]]["name"] if span["parent_span_id"] else None,
        )
        for span in spans
    }
    assert found == hops(method, beast)
    assert len(spans) == len(found)


def test_each_request_is_linked_to_the_one_before(suite: Suite) -> None:
    """With one loop the links are a chain from the newest request back through all others."""

    def chain(roots: list[Json]) -> list[Json] | None:
        by_id = {root["span_id"]: root for root in roots}
        newest = max(roots, key=lambda root: root["start_unix_nano"], default=None)
        seen: list[Json] = []
        while newest:
            seen.append(newest)
            links = newest["links"]
            newest = by_id.get(links[0]["span_id"]) if links else None
        return seen if len(seen) > 20 else None

    linked = suite.eventually("spans", chain, service="mythical-requester", name="requester", limit=60)
    assert len({root["trace_id"] for root in linked}) == len(linked)
    for later, earlier in itertools.pairwise(linked):
        (link,) = later["links"]
        assert (link["trace_id"], link["span_id"]) == (earlier["trace_id"], earlier["span_id"])
        assert link["attributes"] == {"mythical.link": "previous request"}
        assert earlier["start_unix_nano"] < later["start_unix_nano"]


# Span attributes of the old and the new conventions

ATTRIBUTES = {
    "requester": {
        "beast": "unicorn",
        "peer.service": "mythical-server",
        "service.version": re.compile(r"1\.9\.2|2\.0\.0"),
        "http.method": "GET",
        "http.target": "/unicorn",
        "http.url": re.compile(r"http://127\.0\.0\.1:\d+/unicorn"),
        "http.status_code": 200,
        "net.peer.name": "127.0.0.1",
        "net.peer.port": int,
        "http.request.method": "GET",
        "url.full": re.compile(r"http://127\.0\.0\.1:\d+/unicorn"),
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": int,
    },
    "GET /<beast>": {
        "beast": "unicorn",
        "http.route": "/<beast>",
        "http.method": "GET",
        "http.target": "/unicorn",
        "http.status_code": 200,
        "http.scheme": "http",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.path": "/unicorn",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
    },
    "SELECT unicorn": {
        "db.system": "postgresql",
        "db.name": re.compile("test_.*"),
        "db.user": "postgres",
        "db.statement": re.compile("SELECT .*%s.*"),
        "db.system.name": "postgresql",
        "db.namespace": re.compile("test_.*"),
        "db.operation.name": "SELECT",
        "db.collection.name": "unicorn",
        "db.query.text": re.compile("SELECT .*%s.*"),
        "server.address": "127.0.0.1",
        "server.port": int,
    },
    "publish_to_queue": {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "send",
        "messaging.operation.name": "publish",
        "messaging.destination.name": "messages",
        "messaging.message.id": re.compile("[0-9a-f]{32}"),
        "messaging.message.body.size": len("GET /unicorn"),
        "server.address": "127.0.0.1",
        "server.port": int,
    },
    "process_message": {
        "beast": "unicorn",
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "messages",
        "messaging.message.id": re.compile("[0-9a-f]{32}"),
        "messaging.message.body.size": len("GET /unicorn"),
    },
}


@pytest.fixture(scope="module")
def unicorn_trace(suite: Suite) -> dict[str, Json]:
    """The spans of the trace of one successful GET /unicorn, by name."""

    def complete(roots: list[Json]) -> dict[str, Json] | None:
        for root in roots:
            expected = {"beast": "unicorn", "http.method": "GET", "http.status_code": 200}
            if expected.items() <= root["attributes"].items():
                spans = {span["name"]: span for span in spans_of(suite.gateway, root["trace_id"])}
                if spans.keys() >= ATTRIBUTES.keys():
                    return spans
        return None

    spans: dict[str, Json] = suite.eventually(
        "spans", complete, service="mythical-requester", name="requester", limit=200
    )
    return spans


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_span_has_the_attributes_of_both_conventions(name: str, unicorn_trace: dict[str, Json]) -> None:
    """It has the attributes of dashboards of both generations, with the types of the conventions."""
    attributes = unicorn_trace[name]["attributes"]
    for key, expected in ATTRIBUTES[name].items():
        assert key in attributes
        value = attributes[key]
        if isinstance(expected, re.Pattern):
            assert expected.fullmatch(value), (key, value)
        elif isinstance(expected, type):
            assert isinstance(value, expected), (key, value)
        else:
            assert value == expected, key
    assert "span.kind" not in attributes


def test_only_documented_spans_are_created(suite: Suite) -> None:
    """Health checks, scrapes, profiles and log pushes create no spans."""
    for running in (suite.server, suite.requester, suite.recorder):
        for path in ("/healthz", "/readyz", "/metrics", "/debug/pprof/heap?seconds=0.01", "/healthz?x=1"):
            assert ask(running.base_url, path).status == 200
    # Their spans, if any, would arrive before those of a later request.
    trace_id, header = traceparent()
    assert ask(suite.server.base_url, "/unicorn", headers=header).status == 200
    eventually(lambda: spans_of(suite.gateway, trace_id))
    spans = suite.received("spans", service="mythical-server", limit=2000)
    tables = "|".join(MYTHICAL.names)
    known = re.compile(rf"server|(GET|POST|DELETE) /<beast>|(SELECT|INSERT|DELETE) ({tables})")
    assert {span["name"] for span in spans if not known.fullmatch(span["name"])} == set()
    for service, names in (
        ("mythical-requester", {"requester", "publish_to_queue"}),
        ("mythical-recorder", {"process_message"}),
    ):
        assert {span["name"] for span in suite.received("spans", service=service, limit=2000)} == names


def test_a_request_that_fails_is_an_error_in_its_span(suite: Suite) -> None:
    """The requester's span of a rejected request is an error, with the status as error.type."""

    def rejected(roots: list[Json]) -> Json | None:
        return next((root for root in roots if root["attributes"].get("http.status_code") == 400), None)

    root = suite.eventually("spans", rejected, service="mythical-requester", name="requester", limit=200)
    assert root["status"] == {"code": "ERROR", "message": "the server answered 400"}
    assert root["attributes"]["error.type"] == "400"


def test_the_injected_500_is_an_error_of_the_database(suite: Suite) -> None:
    """The span of the statement has the SQLSTATE of a NOT NULL violation, and no value of any row."""

    def lost(spans: list[Json]) -> Json | None:
        return next((span for span in spans if span["attributes"].get("error.type") == "23502"), None)

    statement = suite.eventually("spans", lost, service="mythical-server", limit=2000)
    assert statement["status"]["code"] == "ERROR"
    spans = eventually(
        lambda: {s["name"]: s for s in spans_of(suite.gateway, statement["trace_id"]) if s["kind"] == "SERVER"}
    )
    assert spans["POST /<beast>"]["status"]["code"] == "ERROR"
    assert spans["POST /<beast>"]["attributes"]["http.status_code"] == 500


# Metrics


@dataclass(frozen=True)
class Metric:
    """A metric: its service, kind and unit, and the labels that it may have."""

    service: str
    name: str
    kind: str
    unit: str = ""
    labels: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.service}-{self.name}"


def labels(text: str) -> frozenset[str]:
    """Return the labels in a text."""
    return frozenset(text.split())


QUEUE_LABELS = labels("messaging.system messaging.destination.name messaging.operation.name error.type")
METRICS = [
    Metric("mythical-server", "mythical_request_times", "histogram", labels=labels("method status beast")),
    Metric(
        "mythical-server",
        "http.server.request.duration",
        "histogram",
        "s",
        labels("http.request.method http.response.status_code http.route url.scheme error.type"),
    ),
    Metric(
        "mythical-server",
        "db.client.operation.duration",
        "histogram",
        "s",
        labels("db.system.name db.operation.name db.collection.name error.type"),
    ),
    Metric(
        "mythical-server",
        "db.client.connection.count",
        "sum",
        "{connection}",
        labels("db.client.connection.pool.name db.client.connection.state"),
    ),
    Metric("mythical-requester", "mythical_danger_level_30s", "gauge"),
    Metric(
        "mythical-requester",
        "http.client.request.duration",
        "histogram",
        "s",
        labels("http.request.method http.response.status_code server.address server.port error.type"),
    ),
    Metric("mythical-requester", "messaging.client.sent.messages", "sum", "{message}", QUEUE_LABELS),
    Metric("mythical-requester", "messaging.client.operation.duration", "histogram", "s", QUEUE_LABELS),
    Metric("mythical-recorder", "mythical_messages_recorded", "sum"),
    Metric("mythical-recorder", "messaging.client.consumed.messages", "sum", "{message}", QUEUE_LABELS),
    Metric("mythical-recorder", "messaging.process.duration", "histogram", "s", QUEUE_LABELS),
    Metric("mythical-recorder", "mythical_queue_messages", "gauge", "{message}", labels("queue")),
    *(
        Metric(service, name, "sum", unit, labels(of))
        for service in SERVICES
        for name, unit, of in (
            ("process.cpu.time", "s", "cpu.mode"),
            ("process.memory.usage", "By", ""),
            ("process.thread.count", "{thread}", ""),
        )
    ),
]


@pytest.mark.parametrize("measured", METRICS, ids=str)
def test_each_metric_arrives_with_only_its_labels(measured: Metric, suite: Suite) -> None:
    """Name, kind, unit and labels are those that dashboards use."""
    found = suite.eventually("metrics", lambda found: found, service=measured.service, name=measured.name)
    for metric in found:
        assert (metric["kind"], metric["unit"] or "") == (measured.kind, measured.unit)
        assert metric["description"]
        for point in metric["points"]:
            assert set(point["attributes"]) <= measured.labels


def test_request_times_have_the_buckets_of_the_dashboards(suite: Suite) -> None:
    """The buckets are in milliseconds; the labels are method, status and beast."""
    (metric,) = suite.eventually("metrics", lambda found: found, name="mythical_request_times")
    point = max(metric["points"], key=lambda point: point["count"])
    assert point["bounds"] == [10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000]
    assert set(point["attributes"]) == {"method", "status", "beast"}
    assert point["attributes"]["beast"] in MYTHICAL.danger
    assert sum(point["bucket_counts"]) == point["count"]


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("mythical-server", "mythical_request_times"),
        ("mythical-server", "db.client.operation.duration"),
        ("mythical-requester", "http.client.request.duration"),
        ("mythical-recorder", "messaging.process.duration"),
        ("mythical-recorder", "mythical_messages_recorded"),
    ],
)
def test_an_exemplar_has_a_trace(service: str, name: str, suite: Suite) -> None:
    """The trace of a histogram's exemplar has the exemplar's span."""

    def has_trace(found: list[Json]) -> bool:
        exemplars = [each for metric in found for point in metric["points"] for each in point["exemplars"]]
        traces = [spans_of(suite.gateway, each["trace_id"]) for each in exemplars[:20] if each["trace_id"]]
        spans = {(span["span_id"], span["service"]) for trace in traces for span in trace}
        return any((each["span_id"], service) in spans for each in exemplars)

    assert suite.eventually("metrics", has_trace, service=service, name=name)


def test_the_danger_level_is_raised_by_requests(suite: Suite) -> None:
    """Every request raises it, so it is above 0."""
    (metric,) = suite.eventually("metrics", lambda found: found, name="mythical_danger_level_30s")
    (point,) = metric["points"]
    assert point["value"] > 0
    assert point["attributes"] == {}


# Logs


def pairs(line: str) -> dict[str, str]:
    """Return the pairs of a logfmt line, parsed with the rules of a shell, which are the same for these lines."""
    return dict(part.partition("=")[::2] for part in shlex.split(line))


@pytest.mark.parametrize("service", SERVICES)
def test_a_log_line_has_its_labels_and_its_trace(service: str, suite: Suite) -> None:
    """It has only the documented labels, and the id of a trace in which the service has a span."""

    def has_trace(found: list[Json]) -> Json | None:
        for line in found:
            if "beast" in line["labels"] and "traceID" in pairs(line["line"]):
                spans = spans_of(suite.gateway, pairs(line["line"])["traceID"])
                if any(span["service"] == service for span in spans):
                    return line
        return None

    line = suite.eventually("logs", has_trace, service=service, limit=50)
    assert line["via"] == "loki"
    assert set(line["labels"]) == {"service_name", "level", "job", "namespace", "beast"}
    assert line["labels"]["service_name"] == line["labels"]["job"] == service
    assert line["labels"]["level"] in ("info", "error")
    assert line["labels"]["beast"] in MYTHICAL.danger
    fields = pairs(line["line"])
    assert re.fullmatch("[0-9a-f]{32}", fields["traceID"])
    assert fields["http.method"] in STATEMENTS
    assert fields["endpoint"] == line["labels"]["beast"]
    assert fields["status"] in ("SUCCESS", "FAILURE")
    assert line["metadata"]["trace_id"] == fields["traceID"]
    if service == "mythical-requester":
        assert re.fullmatch(r"\d+ms", fields["duration"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields["loggedtime"])


@pytest.mark.parametrize(
    ("service", "level", "error"),
    [
        ("mythical-requester", "error", "the server answered 400"),
        ("mythical-server", "info", 'The body has no usable name. Send {"name": "..."}.'),
    ],
)
def test_a_failure_is_logged_with_its_reason(service: str, level: str, error: str, suite: Suite) -> None:
    """The line has FAILURE and its reason, with quotes escaped."""

    def failed(found: list[Json]) -> Json | None:
        return next((line for line in found if pairs(line["line"]).get("error") == error), None)

    line = suite.eventually("logs", failed, service=service, contains="FAILURE", limit=200)
    assert line["labels"]["level"] == level
    assert pairs(line["line"])["status"] == "FAILURE"


# Every service and every signal; last in this module, because profiles arrive only every ten seconds


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("service", SERVICES)
def test_each_service_sends_each_signal(service: str, signal: str, suite: Suite) -> None:
    """Each of the twelve combinations has data."""
    assert suite.eventually(SIGNALS[signal], lambda found: found, service=service, limit=2000)
