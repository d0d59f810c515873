"""The standard OTEL_* settings do what they say, as the collector receives it."""

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
    """Settings that differ from the default, with which a server runs, and a requester where that matters."""

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
    """The servers of all variants, and what the gateway holds of each."""

    gateway: Gateway
    servers: dict[str, Service] = field(default_factory=dict)

    def trace(self, variant: str) -> tuple[str, int]:
        """Have one request served as part of a trace; give the trace's id and the status."""
        trace_id, header = traceparent()
        return trace_id, ask(self.servers[variant].base_url, "/unicorn", headers=header).status

    def received(self, variant: str, what: str, **query: object) -> list[Json]:
        """What the gateway holds of one variant: spans, metrics or logs."""
        return own(self.gateway.get(what, **query), namespace(variant))


def namespace(variant: str) -> str:
    """What marks the telemetry of a variant."""
    return f"variant-{variant.replace(' ', '-')}"


@pytest.fixture(scope="module")
def running(
    postgres: Postgres, rabbitmq: RabbitMQ, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """All variants, started side by side."""
    clear_queues(rabbitmq)
    folder = tmp_path_factory.mktemp("services")
    quiet = {"PROFILE_COLLECTOR_HOST": "", "FAULT_NULL_NAME": "0"}
    with (
        own_database(postgres) as name,
        fleet(folder, gateway.settings, database_settings(postgres, name), broker_settings(rabbitmq), quiet) as started,
    ):
        running = Running(gateway)
        for variant, said in VARIANTS.items():
            told = {"NAMESPACE": namespace(variant), **said.env}
            if told.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "http/protobuf":
                told["TRACING_COLLECTOR_PORT"] = str(gateway.ports["otlp_http"])
            if variant == "endpoint":
                told["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{gateway.ports['otlp_grpc']}"
            server = running.servers[variant] = started.launch("server", **told)
            if said.requester:
                started.launch("requester", **told, **requests_to(server), REQUESTER_START="0", REQUESTER_LOOPS="1")
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


@pytest.mark.parametrize(("variant", "name", "there", "absent"), GENERATIONS)
def test_one_generation_of_names_can_be_had_alone(
    variant: str, name: str, there: set[str], absent: set[str], running: Running
) -> None:
    """OTEL_SEMCONV_STABILITY_OPT_IN decides: the new names alone, the old ones alone, or by default both."""
    assert running.trace(variant)[1] == 200

    def found() -> set[str]:
        spans = running.received(variant, "spans", name=name, limit=500)
        return set(spans[0]["attributes"]) if spans else set()

    attributes = eventually(found)
    assert there <= attributes
    assert absent & attributes == set()


@pytest.mark.parametrize("variant", ["http", "endpoint", "grpc logs"])
@pytest.mark.parametrize("signal", ["spans", "metrics"])
def test_either_protocol_and_either_way_to_name_the_collector_work(variant: str, signal: str, running: Running) -> None:
    """gRPC and HTTP; by our variables or by the standard ones, which win over ours."""
    trace_id, status = running.trace(variant)
    assert status == 200
    eventually(lambda: spans_of(running.gateway, trace_id))
    found = eventually(lambda: running.received(variant, signal, limit=500))
    assert {each["service"] for each in found} == {"renamed" if variant == "endpoint" else "mythical-server"}


@pytest.mark.parametrize("variant", ["http", "grpc logs"])
def test_log_lines_can_go_over_otlp(variant: str, running: Running) -> None:
    """OTEL_LOGS_EXPORTER=otlp: the same line, under its trace, with the beast as an attribute; nothing goes to Loki."""
    trace_id, _ = running.trace(variant)
    (line,) = eventually(lambda: running.gateway.get("logs", trace_id=trace_id))
    assert line["via"] == "otlp"
    assert line["resource"]["service.name"] == "mythical-server"
    assert f"traceID={trace_id}" in line["line"]
    assert 'msg="request served"' in line["line"]
    assert "unicorn" in {**line["labels"], **line["metadata"]}.values()


def test_log_lines_go_to_standard_output_where_there_is_no_target(running: Running) -> None:
    """LOGS_TARGET unset: one line for each request, with time, level and trace id in it."""
    trace_id, _ = running.trace("console")
    log = running.servers["console"].process
    line = eventually(lambda: next((line for line in log.tail(20).splitlines() if trace_id in line), ""))
    for pair in ("time=2", "level=info", "beast=unicorn", f"traceID={trace_id}", "http.method=GET", "status=SUCCESS"):
        assert pair in line
    assert running.gateway.get("logs", trace_id=trace_id) == []


def test_the_sampler_can_leave_traces_out(running: Running) -> None:
    """OTEL_TRACES_SAMPLER=always_off: requests are served, counted and logged, and no span comes."""
    trace_ids = [running.trace("console")[0] for _ in range(5)]

    def counted() -> bool:
        metrics = running.received("console", "metrics", name="mythical_request_times")
        return bool(sum(point["count"] for metric in metrics for point in metric["points"]) >= len(trace_ids))

    eventually(counted)
    assert [spans_of(running.gateway, trace_id) for trace_id in trace_ids] == [[]] * len(trace_ids)
    assert running.received("console", "spans", limit=5000) == []


def test_a_disabled_sdk_sends_nothing(running: Running) -> None:
    """OTEL_SDK_DISABLED=true: requests are served as before; no span and no metric comes, lines are printed."""
    url = running.servers["disabled"].base_url
    assert ask(url, "/unicorn", "POST", body='{"name": "unseen"}', headers=JSON).status == 201
    trace_id, status = running.trace("disabled")
    assert status == 200
    # What it might have sent would be here before a trace of a server that sends, asked for later.
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


def test_a_wrong_setting_ends_a_service_with_one_line(tmp_path: Path) -> None:
    """Exit code 2, and what to write instead: whoever set it finds it on the first line of the log."""
    with fleet(tmp_path) as started:
        services = [started.launch(service, **{name: value}) for service, name, value, _ in WRONG]
        for service, (_, name, value, said) in zip(services, WRONG, strict=True):
            service.ended_by_test = True
            assert service.process.wait(60)
            assert service.process.exit_code == 2
            (line,) = service.process.tail().splitlines()
            assert line.startswith(f"settings: {name}={value}") or f"{name}={value!r}" in line
            assert said in line
