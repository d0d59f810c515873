"""The doctor names the first broken hop."""

from collections.abc import Callable, Iterator

import pytest

from doctor.alloy import Alloy
from doctor.metrics_text import total
from doctor.report import BROKEN
from doctor.service import Service, occasional, service_fault
from doctor.signal_paths import PATHS
from local.ports import free_port
from tests.unit.services.http_server import Server
from tools.suite import SERVICE_NAMES, SIGNALS

PAGE = """# HELP otelcol_receiver_refused_spans_total Refused.
otelcol_receiver_refused_spans_total{component_id="otelcol.receiver.otlp.applications",transport="grpc"} 7
loki_write_dropped_entries_total{component_id="loki.write.loki",reason="ingester_error"} 2
loki_write_dropped_entries_total{component_id="loki.write.loki",reason="line_too_long"} 1
loki_write_dropped_entries_total{component_id="loki.write.other",reason="a \\"quoted\\" one"} 4
mythical_log_lines_dropped_total{reason="queue_full"} 5.0
"""
Answers = Callable[[int, bytes], Server]


@pytest.fixture
def answering() -> Iterator[Answers]:
    """Return `answering(status, body)`, which starts a server with that response to every request."""
    started: list[Server] = []

    def start(status: int, body: bytes) -> Server:
        server = Server()
        server.status, server.body = status, body
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()


def at(server: Server | int, name: str = "mythical-server", **environment: str) -> Service:
    """Return a service at a running server, or at a port without a listener."""
    port = server if isinstance(server, int) else server.address[1]
    return Service(name, f"http://127.0.0.1:{port}", log="its log", start="start it", environment=environment or None)


def suite(**given: Service) -> dict[str, Service]:
    """Return all services; those that are not given are at closed ports."""
    return {name: given.get(name.removeprefix("mythical-"), at(free_port(), name)) for name in SERVICE_NAMES}


def test_samples_are_summed_by_name_and_labels() -> None:
    """A label with the value `*` must be present with any value."""
    assert total(PAGE, "loki_write_dropped_entries_total", component_id="loki.write.loki") == 3
    assert total(PAGE, "loki_write_dropped_entries_total") == 7
    assert total(PAGE, "mythical_log_lines_dropped_total", reason="*") == 5
    assert total(PAGE, "mythical_log_lines_dropped_total", error_type="*") == 0
    assert total(PAGE, "no_such_metric") == 0


def test_a_service_that_does_not_respond_is_named_first() -> None:
    """It is named even if something else is wrong too."""
    server = at(free_port(), LOGS_TARGET="")
    fault = service_fault(suite(server=server), server, "logs")
    assert fault
    assert (fault.hop, fault.remedy) == ("mythical-server", "start it")
    assert "Connection refused" in fault.said


def test_the_frontend_must_respond_and_be_ready(answering: Answers) -> None:
    """Without page views it sends no traces, so its health endpoints show whether it works."""
    for frontend, message in {
        at(free_port(), "mythical-frontend").address: "it does not answer",
        at(answering(503, b'{"missing": {"server": "down"}}'), "mythical-frontend").address: "it does not answer",
        at(answering(200, b"{}"), "mythical-frontend").address: None,
    }.items():
        services = suite() | {
            "mythical-frontend": Service("mythical-frontend", frontend, log="its log", start="start it")
        }
        found = occasional(services)
        assert [finding.state for finding in found] == ([BROKEN] if message else [])
        assert all(message in finding.said for finding in found if message)


def test_a_service_without_a_destination_is_named_with_the_setting(answering: Answers) -> None:
    """The setting that turns off a signal is the fault; signals with a destination have none."""
    server = at(answering(200, b"{}"), LOGS_TARGET="", OTEL_TRACES_EXPORTER="none")
    services = suite(server=server)
    assert (fault := service_fault(services, server, "logs"))
    assert "LOGS_TARGET=" in fault.said
    assert (fault := service_fault(services, server, "traces"))
    assert "OTEL_TRACES_EXPORTER=none" in fault.said
    assert service_fault(services, server, "metrics") is None


@pytest.mark.parametrize(
    ("rung", "missing"), [("off", SIGNALS), ("ebpf", SIGNALS), ("zero-code", ("profiles",)), ("fast", ())]
)
def test_a_rung_without_a_signal_is_named_as_the_cause(rung: str, missing: tuple[str, ...], answering: Answers) -> None:
    """Nothing is broken, so the setting is named."""
    server = at(answering(200, b"{}"), SERVER_INSTRUMENTATION=rung, LOGS_TARGET="http://h", PROFILE_COLLECTOR_HOST="h")
    faults = {signal: server.switched_off(signal) for signal in SIGNALS}
    assert tuple(signal for signal, fault in faults.items() if fault) == missing
    assert all(f"with INSTRUMENTATION={rung}, " in fault.said for fault in faults.values() if fault)


def test_a_service_that_is_not_ready_is_named_with_its_missing_dependency(answering: Answers) -> None:
    """The reason is the text of its readiness page."""
    waiting = at(answering(503, b'{"missing": {"postgres": "connection refused"}, "status": "waiting"}'))
    waiting.page("/healthz")
    fault = waiting.not_ready()
    assert fault
    assert "it waits for postgres (connection refused)" in fault.said


def test_a_service_without_requests_is_not_named_as_broken(answering: Answers) -> None:
    """Without requests, the server has no spans and the recorder has no messages, but metrics still arrive."""
    server = at(answering(200, b"{}"))
    services = suite(server=server)
    fault = service_fault(services, server, "traces")
    assert fault
    assert fault.hop == "mythical-requester → mythical-server"
    assert service_fault(services, server, "metrics") is None


def test_lines_that_a_service_dropped_are_counted(answering: Answers) -> None:
    """The number comes from its metrics page; the remedy names the setting of the destination."""
    service = at(answering(200, PAGE.encode()))
    fault = service.dropped("logs")
    assert fault
    assert "it dropped 5" in fault.said
    assert "LOGS_TARGET" in fault.remedy
    assert service.dropped("traces") is None


def test_a_service_with_another_destination_is_reported_with_the_variable_in_effect(answering: Answers) -> None:
    """The variable is not one that the demo overrides; the message has the address, or the error at that address."""
    gateway, other = answering(200, b"{}"), answering(401, b"")
    environment = {
        "LOGS_TARGET": f"http://127.0.0.1:{gateway.address[1]}/push",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    service = at(gateway, **environment, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{other.address[1]}")
    addresses = {("127.0.0.1", gateway.address[1])}
    assert service.misdirected("logs", addresses) is None
    assert (fault := service.misdirected("metrics", addresses))
    assert "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:" in fault.said
    assert "rejects the credentials (status 401)" in fault.said
    other.status = 200
    assert (fault := service.misdirected("metrics", addresses))
    assert "is not where the suite receives metrics" in fault.said
    assert fault.remedy.startswith("unset OTEL_EXPORTER_OTLP_ENDPOINT")
    assert at(gateway).misdirected("logs", ()) is None, "its environment is not known"


@pytest.mark.parametrize(
    ("signal", "line"),
    [
        ("traces", 'otel_sdk_processor_span_processed_total{error_type="queue_full"} 3'),
        ("traces", 'otel_sdk_exporter_span_exported_total{error_type="export_failed"} 3'),
        ("logs", 'mythical_log_lines_dropped_total{reason="queue_full"} 3'),
    ],
)
def test_data_that_a_service_dropped_are_reported_for_each_signal(answering: Answers, signal: str, line: str) -> None:
    """They were dropped because the queue was full or because the collector rejected them."""
    fault = at(answering(200, (line + "\n").encode())).dropped(signal)
    assert fault
    assert "it dropped 3" in fault.said


def test_an_alloy_that_does_not_respond_is_the_broken_hop() -> None:
    """The message has the status of its container if Docker reports one."""
    fault = Alloy.examine(f"http://127.0.0.1:{free_port()}", "its container exited with status 1").down()
    assert fault
    assert "its container exited with status 1" in fault.said


def test_an_unhealthy_component_breaks_only_its_hop() -> None:
    """The receiver of log lines does not affect traces."""
    alloy = Alloy("http://127.0.0.1:12347", unhealthy=(("loki.source.api.mythical", "port taken"),))
    assert (fault := alloy.receiver_fault(PATHS["logs"]))
    assert fault.hop == "service → Alloy"
    assert alloy.receiver_fault(PATHS["traces"]) is None
    assert [finding.what for finding in alloy.findings()] == ["loki.source.api.mythical"]


def test_data_that_alloy_rejected_or_dropped_count_for_their_signal() -> None:
    """Rejected spans do not explain missing log lines."""
    alloy = Alloy("http://127.0.0.1:12347", metrics=PAGE)
    assert (fault := alloy.receiver_fault(PATHS["traces"]))
    assert "refused 7" in fault.said
    assert alloy.receiver_fault(PATHS["logs"]) is None
    assert (fault := alloy.exporter_fault(PATHS["logs"]))
    assert "dropped 3" in fault.said
    assert alloy.exporter_fault(PATHS["traces"]) is None


@pytest.mark.parametrize(
    "name", ["otelcol_exporter_send_failed_spans_total", "otelcol_exporter_enqueue_failed_spans_total"]
)
def test_spans_that_alloy_dropped_are_reported_for_each_reason(name: str) -> None:
    """The backend rejected them, or the queue was full."""
    page = f'{name}{{component_id="otelcol.exporter.otlp.tempo"}} 4\n'
    fault = Alloy("http://127.0.0.1:12347", metrics=page).exporter_fault(PATHS["traces"])
    assert fault
    assert "dropped 4 since its start" in fault.said
