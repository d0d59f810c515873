"""The statements of docs/instrument-your-own-service.md are true, about the example and the zero-code agent."""

import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from tests.integration.conftest import DEADLINE_S, STOP_S, Gateway, eventually
from tests.integration.service_support import ask, spans_of, traceparent
from tools.query import is_up

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = CHECKOUT / "examples/instrumented_flask.py"
MAX_LINES = 120

PLAIN = """
    import logging

    from flask import Flask

    logging.basicConfig(level=logging.INFO)
    app = Flask(__name__)

    @app.get("/primes/<int:limit>")
    def primes(limit):
        logging.getLogger("primes").info("primes found")
        return {"limit": limit}
"""


@contextmanager
def started(folder: Path, command: list[str], path: str, port: int, gateway: Gateway, **env: str) -> Iterator[Process]:
    """Run an application that sends all its signals to the gateway; yield it when `path` answers."""
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:{gateway.ports['otlp_http']}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "LOKI_URL": f"http://{LOOPBACK}:{gateway.ports['loki']}/loki/api/v1/push",
        "PYROSCOPE_SERVER_ADDRESS": f"http://{LOOPBACK}:{gateway.ports['pyroscope']}",
        **env,
    }
    process = Process(
        "application",
        command,
        log=folder / "application.log",
        record=folder / "application.pid",
        mark=command[1],
        environ=os.environ | settings,
    )
    process.launch()
    try:
        process.wait_ready(lambda: is_up(f"http://{LOOPBACK}:{port}{path}"), DEADLINE_S)
        yield process
    finally:
        process.stop(STOP_S)


def test_the_example_emits_four_connected_signals(tmp_path: Path, gateway: Gateway) -> None:
    """One request has a trace, a log line, an exemplar and a profile of its span."""
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    port, name = free_port(), "example-of-four-signals"
    trace_id, headers = traceparent()

    def received(what: str, look: Callable[[list[Any]], Any]) -> Any:
        return eventually(lambda: look(gateway.get(what, service=name)), what=what)

    with started(
        tmp_path, [sys.executable, str(EXAMPLE)], "/primes/10", port, gateway, PORT=str(port), OTEL_SERVICE_NAME=name
    ) as process:
        assert ask(f"http://{LOOPBACK}:{port}", "/primes/50000", headers=headers).status == 200
        # Each collection clears the exemplars, so the exemplar is checked first.
        received("metrics", lambda metrics: trace_id in str(metrics) and "primes.found" in str(metrics))
        server, sieve = sorted(
            eventually(lambda: found if len(found := spans_of(gateway, trace_id)) == 2 else []),
            key=lambda span: span["kind"] != "SERVER",
        )
        line = received("logs", lambda lines: [line for line in lines if trace_id in line["line"]])[0]
        assert process.stop(STOP_S) == 0, process.tail(30)
    assert server["name"] == "GET /primes/<int:limit>"
    assert sieve["parent_span_id"] == server["span_id"]
    assert (sieve["name"], sieve["attributes"]) == ("sieve", {"primes.limit": 50000})
    assert line["line"] == f'msg="primes found" traceID={trace_id}'
    assert line["labels"] == {"service_name": name, "job": name, "level": "info", "logger": "__main__"}
    assert server["attributes"]["pyroscope.profile.id"] == server["span_id"]
    # A profile is pushed every ten seconds and at the end.
    profiled_spans = gateway.get(f"profiles/{name}/spans")
    assert server["span_id"] in {span["span_id"] for span in profiled_spans}


def test_zero_code_emits_only_spans_and_http_metrics(tmp_path: Path, gateway: Gateway) -> None:
    """As the page's first step says, there are no logs, no profiles, and no spans or metrics of the application."""
    (tmp_path / "plain.py").write_text(textwrap.dedent(PLAIN), encoding="utf-8")
    port, name = free_port(), "example-zero-code"
    trace_id, headers = traceparent()
    agent = Path(sys.executable).with_name("opentelemetry-instrument")
    flask = Path(sys.executable).with_name("flask")
    command = [str(agent), str(flask), "--app", str(tmp_path / "plain.py"), "run", "--port", str(port)]
    disabled = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "logging"}  # installed here, but not by the page
    with started(tmp_path, command, "/primes/10", port, gateway, OTEL_SERVICE_NAME=name, **disabled):
        assert ask(f"http://{LOOPBACK}:{port}", "/primes/11", headers=headers).status == 200
        (span,) = eventually(lambda: spans_of(gateway, trace_id))
        # An export during the first request has no duration yet.
        eventually(lambda: gateway.get("metrics", service=name, name="http.server.duration"))
        metrics = gateway.get("metrics", service=name)
        assert (span["kind"], span["name"]) == ("SERVER", "GET /primes/<int:limit>")
        assert span["attributes"]["http.method"] == "GET"  # the names before 2023
        assert {metric["name"] for metric in metrics} == {"http.server.active_requests", "http.server.duration"}
        assert not gateway.get("logs", service=name)
        assert not gateway.get("profiles", service=name)
