"""The first hop that is broken is the one that is named."""

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
    """Give `answering(status, body)`: a server that gives this answer to everything."""
    started: list[Server] = []

    def start(status: int, body: bytes) -> Server:
        server = Server()
        server.status, server.body = status, body
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()


def at(server: Server | int, name: str = "mythical-server", **told: str) -> Service:
    """A service at a server of ours, or at a port where nobody is."""
    port = server if isinstance(server, int) else server.address[1]
    return Service(name, f"http://127.0.0.1:{port}", log="its log", start="start it", environment=told or None)


def suite(**those: Service) -> dict[str, Service]:
    """All three, well unless given."""
    return {name: those.get(name.removeprefix("mythical-"), at(free_port(), name)) for name in SERVICE_NAMES}


def test_samples_are_summed_by_name_and_labels() -> None:
    """A label with a star has to be there, whatever its value."""
    assert total(PAGE, "loki_write_dropped_entries_total", component_id="loki.write.loki") == 3
    assert total(PAGE, "loki_write_dropped_entries_total") == 7
    assert total(PAGE, "mythical_log_lines_dropped_total", reason="*") == 5
    assert total(PAGE, "mythical_log_lines_dropped_total", error_type="*") == 0
    assert total(PAGE, "no_such_metric") == 0


def test_a_service_that_does_not_answer_comes_first() -> None:
    """Whatever else is wrong."""
    server = at(free_port(), LOGS_TARGET="")
    fault = service_fault(suite(server=server), server, "logs")
    assert fault
    assert (fault.hop, fault.remedy) == ("mythical-server", "start it")
    assert "Connection refused" in fault.said


def test_the_frontend_has_to_answer_and_to_be_ready(answering: Answers) -> None:
    """Without page views it has no traces: that it works is seen in its endpoints."""
    for frontend, said in {
        at(free_port(), "mythical-frontend").address: "it does not answer",
        at(answering(503, b'{"missing": {"server": "away"}}'), "mythical-frontend").address: "it does not answer",
        at(answering(200, b"{}"), "mythical-frontend").address: None,
    }.items():
        services = suite() | {
            "mythical-frontend": Service("mythical-frontend", frontend, log="its log", start="start it")
        }
        found = occasional(services)
        assert [finding.state for finding in found] == ([BROKEN] if said else [])
        assert all(said in finding.said for finding in found if said)


def test_a_service_that_is_not_told_where_to_send_is_not_blamed_for_the_rest(answering: Answers) -> None:
    """The setting is named."""
    server = at(answering(200, b"{}"), LOGS_TARGET="", OTEL_TRACES_EXPORTER="none")
    services = suite(server=server)
    assert (fault := service_fault(services, server, "logs"))
    assert "LOGS_TARGET=" in fault.said
    assert (fault := service_fault(services, server, "traces"))
    assert "OTEL_TRACES_EXPORTER=none" in fault.said
    assert service_fault(services, server, "metrics") is None


@pytest.mark.parametrize(
    ("rung", "said"), [("off", SIGNALS), ("ebpf", SIGNALS), ("zero-code", ("profiles",)), ("fast", ())]
)
def test_a_rung_that_sends_no_such_signal_is_the_cause(rung: str, said: tuple[str, ...], answering: Answers) -> None:
    """Nothing is broken: the setting is named."""
    server = at(answering(200, b"{}"), SERVER_INSTRUMENTATION=rung, LOGS_TARGET="http://h", PROFILE_COLLECTOR_HOST="h")
    faults = {signal: server.switched_off(signal) for signal in SIGNALS}
    assert tuple(signal for signal, fault in faults.items() if fault) == said
    assert all(f"with INSTRUMENTATION={rung}, " in fault.said for fault in faults.values() if fault)


def test_a_service_that_is_not_ready_says_what_it_waits_for(answering: Answers) -> None:
    """In the words of its own page."""
    waiting = at(answering(503, b'{"missing": {"postgres": "connection refused"}, "status": "waiting"}'))
    waiting.page("/healthz")
    fault = waiting.not_ready()
    assert fault
    assert "it waits for postgres (connection refused)" in fault.said


def test_a_service_that_nobody_asks_is_not_to_blame(answering: Answers) -> None:
    """Without requests there are no spans of the server, and no messages for the recorder; metrics come still."""
    server = at(answering(200, b"{}"))
    services = suite(server=server)
    fault = service_fault(services, server, "traces")
    assert fault
    assert fault.hop == "mythical-requester → mythical-server"
    assert service_fault(services, server, "metrics") is None


def test_lines_that_a_service_gave_up_are_counted(answering: Answers) -> None:
    """By its own page, with the setting that says where they should have gone."""
    service = at(answering(200, PAGE.encode()))
    fault = service.dropped("logs")
    assert fault
    assert "it dropped 5" in fault.said
    assert "LOGS_TARGET" in fault.remedy
    assert service.dropped("traces") is None


def test_a_service_that_sends_elsewhere_is_told_with_the_variable_in_effect(answering: Answers) -> None:
    """Not with those that the demo overrides: the address, or what is wrong there."""
    gateway, other = answering(200, b"{}"), answering(401, b"")
    told = {
        "LOGS_TARGET": f"http://127.0.0.1:{gateway.address[1]}/push",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    service = at(gateway, **told, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{other.address[1]}")
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
def test_what_a_service_gave_up_is_told_for_each_signal(answering: Answers, signal: str, line: str) -> None:
    """Whether it never left the queue or the collector did not take it."""
    fault = at(answering(200, (line + "\n").encode())).dropped(signal)
    assert fault
    assert "it dropped 3" in fault.said


def test_an_alloy_that_does_not_answer_is_the_broken_hop() -> None:
    """With what Docker says of its container, if it does."""
    fault = Alloy.examine(f"http://127.0.0.1:{free_port()}", "its container exited with status 1").down()
    assert fault
    assert "its container exited with status 1" in fault.said


def test_a_component_that_is_not_well_breaks_its_own_hop_alone() -> None:
    """The receiver of lines concerns no traces."""
    alloy = Alloy("http://127.0.0.1:12347", unhealthy=(("loki.source.api.mythical", "port taken"),))
    assert (fault := alloy.receiver_fault(PATHS["logs"]))
    assert fault.hop == "service → Alloy"
    assert alloy.receiver_fault(PATHS["traces"]) is None
    assert [finding.what for finding in alloy.findings()] == ["loki.source.api.mythical"]


def test_what_alloy_refused_and_lost_is_counted_for_the_signal_that_it_was() -> None:
    """Spans that were refused are no reason why lines are missing."""
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
def test_spans_that_alloy_lost_are_told_wherever_it_lost_them(name: str) -> None:
    """What the back end refused, and what found the queue full."""
    page = f'{name}{{component_id="otelcol.exporter.otlp.tempo"}} 4\n'
    fault = Alloy("http://127.0.0.1:12347", metrics=page).exporter_fault(PATHS["traces"])
    assert fault
    assert "dropped 4 since its start" in fault.said
