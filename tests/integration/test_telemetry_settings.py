"""The standard OTEL_* settings have their documented effects on the data that the collector receives."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.service_support import (
    JSON,
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

Json = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """Settings that differ from the default, for a server, and for a requester where needed."""

    env: Mapping[str, str]
    requester: bool = False


VARIANTS = {
    "new": Variant({"OTEL_SEMCONV_STABILITY_OPT_IN": "http,database"}, requester=True),
    "old": Variant({"OTEL_SEMCONV_STABILITY_OPT_IN": "default"}, requester=True),
    "http": Variant({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_LOGS_EXPORTER": "otlp"}),
    "grpc logs": Variant({"OTEL_LOGS_EXPORTER": "otlp"}),
    "console": Variant({"LOGS_TARGET": "", "OTEL_TRACES_SAMPLER": "always_off"}),
    "disabled": Variant({"OTEL_SDK_DISABLED": "true", "LOGS_TARGET": ""}),
    "endpoint": Variant({"TRACING_COLLECTOR_PORT": "9", "OTEL_SERVICE_NAME": "renamed"}),
}


@dataclass
class Running:
    """The servers of all variants, and their telemetry at the gateway."""

    gateway: Gateway
    servers: dict[str, Service] = field(default_factory=dict)

    def trace(self, variant: str) -> tuple[str, int]:
        """Send a request as part of a trace; return the trace id and the status."""
        trace_id, header = traceparent()
        return trace_id, ask(self.servers[variant].base_url, "/unicorn", headers=header).status

    def received(self, variant: str, what: str, **query: object) -> list[Json]:
        """Return the spans, metrics or logs of a variant at the gateway."""
        return own(self.gateway.get(what, **query), namespace(variant))


def namespace(variant: str) -> str:
    """Return the namespace of a variant's telemetry."""
    return f"variant-{variant.replace(' ', '-')}"


@pytest.fixture(scope="module")
def running(
    postgres: Postgres, rabbitmq: RabbitMQ, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """All variants, started concurrently."""
    clear_queues(rabbitmq)
    folder = tmp_path_factory.mktemp("services")
    quiet = {"PROFILE_COLLECTOR_HOST": "", "FAULT_NULL_NAME": "0"}
    with (
        own_database(postgres) as name,
        fleet(folder, gateway.settings, database_settings(postgres, name), broker_settings(rabbitmq), quiet) as started,
    ):
        running = Running(gateway)
        for variant, configured in VARIANTS.items():
            settings = {"NAMESPACE": namespace(variant), **configured.env}
            if settings.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "http/protobuf":
                settings["TRACING_COLLECTOR_PORT"] = str(gateway.ports["otlp_http"])
            if variant == "endpoint":
                settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{gateway.ports['otlp_grpc']}"
            server = running.servers[variant] = started.launch("server", **settings)
            if configured.requester:
                started.launch("requester", **settings, **requests_to(server), REQUESTER_START="0", REQUESTER_LOOPS="1")
        started.ready()
        yield running


OLD_HTTP = {"http.method", "http.target", "http.status_code"}
NEW_HTTP = {"http.request.method", "http.response.status_code", "server.address"}
OLD_SQL = {"db.system", "db.name", "db.user", "db.statement", "net.peer.name"}
NEW_SQL = {"db.system.name", "db.namespace", "db.query.text", "db.operation.name", "db.collection.name"}
OLD, NEW = OLD_HTTP | OLD_SQL, NEW_HTTP | NEW_SQL

GENERATIONS = [
    ("new", "requester", NEW_HTTP, OLD),
    ("new", "GET /<beast>", NEW_HTTP, OLD),
    ("new", "SELECT unicorn", NEW_SQL, OLD),
    ("old", "requester", OLD_HTTP, NEW),
    ("old", "GET /<beast>", OLD_HTTP, NEW),
    ("old", "SELECT unicorn", OLD_SQL, NEW),
    ("http", "GET /<beast>", OLD_HTTP | NEW_HTTP, set[str]()),
    ("http", "SELECT unicorn", OLD_SQL | NEW_SQL, set[str]()),
]


@pytest.mark.parametrize(("variant", "name", "present", "absent"), GENERATIONS)
def test_the_setting_selects_the_generation_of_names(
    variant: str, name: str, present: set[str], absent: set[str], running: Running
) -> None:
    """OTEL_SEMCONV_STABILITY_OPT_IN selects only new names, only old names, or by default both."""
    assert running.trace(variant)[1] == 200

    def found() -> set[str]:
        spans = running.received(variant, "spans", name=name, limit=500)
        return set(spans[0]["attributes"]) if spans else set()

    attributes = eventually(found)
    assert present <= attributes
    assert absent & attributes == set()


@pytest.mark.parametrize("variant", ["http", "endpoint", "grpc logs"])
@pytest.mark.parametrize("signal", ["spans", "metrics"])
def test_both_protocols_and_both_kinds_of_collector_settings_work(variant: str, signal: str, running: Running) -> None:
    """The protocols are gRPC and HTTP; the standard variables take precedence over ours."""
    trace_id, status = running.trace(variant)
    assert status == 200
    eventually(lambda: spans_of(running.gateway, trace_id))
    found = eventually(lambda: running.received(variant, signal, limit=500))
    assert {each["service"] for each in found} == {"renamed" if variant == "endpoint" else "mythical-server"}


@pytest.mark.parametrize("variant", ["http", "grpc logs"])
def test_log_lines_can_be_sent_over_otlp(variant: str, running: Running) -> None:
    """OTEL_LOGS_EXPORTER=otlp sends the same line with its trace and the beast as an attribute, and not to Loki."""
    trace_id, _ = running.trace(variant)
    (line,) = eventually(lambda: running.gateway.get("logs", trace_id=trace_id))
    assert line["via"] == "otlp"
    assert line["resource"]["service.name"] == "mythical-server"
    assert f"traceID={trace_id}" in line["line"]
    assert 'msg="request served"' in line["line"]
    assert "unicorn" in {**line["labels"], **line["metadata"]}.values()


def test_log_lines_without_a_target_go_to_standard_output(running: Running) -> None:
    """Without LOGS_TARGET there is a line for each request, with time, level and trace id."""
    trace_id, _ = running.trace("console")
    log = running.servers["console"].process
    line = eventually(lambda: next((line for line in log.tail(20).splitlines() if trace_id in line), ""))
    for pair in ("time=2", "level=info", "beast=unicorn", f"traceID={trace_id}", "http.method=GET", "status=SUCCESS"):
        assert pair in line
    assert running.gateway.get("logs", trace_id=trace_id) == []


def test_the_sampler_can_drop_traces(running: Running) -> None:
    """With OTEL_TRACES_SAMPLER=always_off requests are served, counted and logged, and no span arrives."""
    trace_ids = [running.trace("console")[0] for _ in range(5)]

    def counted() -> bool:
        metrics = running.received("console", "metrics", name="mythical_request_times")
        return bool(sum(point["count"] for metric in metrics for point in metric["points"]) >= len(trace_ids))

    eventually(counted)
    assert [spans_of(running.gateway, trace_id) for trace_id in trace_ids] == [[]] * len(trace_ids)
    assert running.received("console", "spans", limit=5000) == []


def test_a_disabled_sdk_sends_nothing(running: Running) -> None:
    """With OTEL_SDK_DISABLED=true requests are served, no span and no metric arrives, and lines are printed."""
    url = running.servers["disabled"].base_url
    assert ask(url, "/unicorn", "POST", body='{"name": "unseen"}', headers=JSON).status == 201
    trace_id, status = running.trace("disabled")
    assert status == 200
    # Its data, if any, would arrive before the trace of a later request to a server that exports.
    later, _ = running.trace("http")
    eventually(lambda: spans_of(running.gateway, later))
    assert spans_of(running.gateway, trace_id) == []
    for what in ("spans", "metrics", "logs"):
        assert running.received("disabled", what, limit=5000) == []
    assert "request served" in running.servers["disabled"].process.tail(20)


WRONG = [
    ("server", "OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "is not one of grpc, http/protobuf"),
    ("server", "MYTHICAL_SERVER_DATABASE_TEARDOWN_TIMEOUT", "1", "above 1"),
    ("requester", "REQUESTER_RATE", "fast", "is not a number"),
    ("requester", "MYTHICAL_SERVER_HOST_PORT", "server", "is not host:port"),
    ("recorder", "RECORDER_CONCURRENCY", "0", "is out of range"),
    ("recorder", "LOGS_TARGET", "loki:3100", "must start with http:// or https://"),
]


def test_a_service_exits_with_one_line_for_a_wrong_setting(tmp_path: Path) -> None:
    """The exit code is 2, and the first line of the log has the allowed values."""
    with fleet(tmp_path) as started:
        services = [started.launch(service, **{name: value}) for service, name, value, _ in WRONG]
        for service, (_, name, value, expected) in zip(services, WRONG, strict=True):
            service.ended_by_test = True
            assert service.process.wait(60)
            assert service.process.exit_code == 2
            (line,) = service.process.tail().splitlines()
            assert line.startswith(f"settings: {name}={value}") or f"{name}={value!r}" in line
            assert expected in line
