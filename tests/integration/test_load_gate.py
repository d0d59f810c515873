"""The load as a program: the gate, the shape that finds the breaking point, and rejected settings."""

import csv
import socket
from pathlib import Path
from typing import Any

import pytest

from local.ports import LOOPBACK, free_port
from tests.integration.conftest import Gateway, StartService
from tests.integration.load_support import needs_locust, run_enough_load, run_load, stand_in
from tests.unit.telemetry.push_sink import LOGIN_PAGE, Reply, Sink
from tests.unit.telemetry.test_delivery import PROTOBUF, partial

pytestmark = needs_locust

# The limits allow for a busy machine, because this test is not about speed.
LENIENT = """
[run]
users = 8
rate = 8
time = 8
seed = "7"
[most]
p95_ms = 5000
error_share = 0
[least]
requests = 5
"""


def test_the_gate_passes_with_the_real_server_and_traces_are_connected(
    tmp_path: Path, service: StartService, gateway: Gateway
) -> None:
    """A trace starts at a keeper and ends in Postgres; metrics arrive; table, JSON and CSV have the same numbers."""
    file = tmp_path / "gate.toml"
    file.write_text(LENIENT)
    server = service("server")
    run = run_load(
        tmp_path,
        "gate",
        LOAD_HOST=server.base_url,
        LOAD_GATE=str(file),
        LOAD_RUN_ID="integration",
        LOAD_COLLECTOR=f"http://{LOOPBACK}:{gateway.ports['otlp_http']}",
        LOAD_WITHIN="5000",
        OTEL_SDK_DISABLED="false",
    )
    assert run.code == 0, run.output
    assert all(line["holds"] for line in run.results["gate"])
    with (tmp_path / "load.csv").open(encoding="utf-8") as rows:
        counted = {row["request"]: int(row["requests"]) for row in csv.DictReader(rows)}
    assert counted["all"] == run.results["figures"]["requests"] == sum(counted.values()) - counted["all"]
    assert set(counted) <= {f"{m} /<beast>" for m in ("GET", "POST", "DELETE")} | {"GET /<beast>?before=<id>", "all"}

    spans = gateway.poll(lambda g: g.get("spans", service="mythical-loadtest", name="keeper round"))
    # The end of the run may interrupt an iteration, so not every keeper added a name.
    trace = gateway.poll(lambda g: next((found for span in spans if (found := _complete(g, span["trace_id"]))), []))
    services = {span["service"] for span in trace}
    assert services == {"mythical-loadtest", "mythical-server"}
    assert spans[0]["attributes"]["user_agent.synthetic.type"] == "test"
    figures = gateway.poll(lambda g: g.get("metrics", name="locust.requests", service="mythical-loadtest"))
    assert sum(point["value"] for point in figures[0]["points"]) == counted["all"]
    assert {point["attributes"]["run_id"] for point in figures[0]["points"]} == {"integration"}
    request = next(span for span in trace if span["service"] == "mythical-server" and span["kind"] == "SERVER")
    assert request["attributes"]["user_agent.synthetic.type"] == "test"
    assert request["attributes"]["loadtest.user.kind"] == "keeper"


LOSSES = {
    "a part": (Reply(200, partial("traces", 1), PROTOBUF), "the collector rejected a part: too many"),
    "a login page": (LOGIN_PAGE, "status 200 with an HTML page"),
    "a warning": (Reply(200, partial("traces", 0), PROTOBUF), 'accepted with a warning: reason="too many"'),
}


@pytest.mark.parametrize("answer", LOSSES)
def test_what_the_collector_does_not_accept_is_one_line_for_each_signal(tmp_path: Path, answer: str) -> None:
    """With its cause, as a service reports it, however many pushes there are."""
    reply, message = LOSSES[answer]
    collector = Sink(reply)
    try:
        with stand_in() as host:
            ended = run_enough_load(
                1,
                tmp_path,
                LOAD_HOST=host,
                LOAD_TIME="3",
                LOAD_USERS="1",
                LOAD_COLLECTOR=f"http://{LOOPBACK}:{collector.port}",
                OTEL_METRIC_EXPORT_INTERVAL="500",
                OTEL_SDK_DISABLED="false",
            )
    finally:
        collector.close()
    assert ended.code == 0, ended.output
    lines = [line for line in ended.output.splitlines() if "WARNING" in line or "ERROR" in line]
    assert len(lines) == (1 if answer == "a warning" else 2), ended.output
    assert all(message in line for line in lines), lines


def _complete(gateway: Gateway, trace_id: str) -> list[dict[str, Any]]:
    trace: list[dict[str, Any]] = gateway.get(f"traces/{trace_id}")
    return trace if any(span["name"].startswith("INSERT") for span in trace) else []


def test_the_gate_fails_with_a_slow_server(tmp_path: Path) -> None:
    """All responses are correct, but 400 ms late: p95 and the time checks exceed their limits."""
    with stand_in(delay_s=0.4) as host:
        run = run_enough_load(20, tmp_path, "gate", LOAD_HOST=host, LOAD_TIME="8")
    assert run.code == 1, run.output
    exceeded = {line["figure"] for line in run.results["gate"] if not line["holds"]}
    assert {"p95_ms", "check_share"} <= exceeded
    assert "error_share" not in exceeded
    assert "EXCEEDED" in run.output
    assert "expected a response within 300 ms" in run.output


def test_break_reports_the_number_of_users_at_the_limit(tmp_path: Path) -> None:
    """With a server that answers 503, the limit is exceeded long before the end of the run."""
    with stand_in(broken=True) as host:
        run = run_load(
            tmp_path,
            LOAD_HOST=host,
            LOAD_SHAPE="break",
            LOAD_USERS="60",
            LOAD_TIME="60",
            LOAD_KINDS="breeder=1",
            LOAD_BREAK_P95="600000",  # a busy machine would exceed the default first
        )
    assert run.code == 0, run.output
    assert "broke at" in run.results["broke"]
    assert "100.0% of requests fail, above 5.0%" in run.output


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"LOAD_SHAPE": "wave"}, "LOAD_SHAPE='wave' is not one of steady"),
        ({"LOAD_BEASTS": "phoenix"}, "phoenix is not one of unicorn"),
        ({"LOAD_HOST": "127.0.0.1:4000"}, "must start with http://"),
        ({"LOAD_USERS": "0"}, "LOAD_USERS='0' is out of range"),
        ({}, "does not answer"),
        ({"LOAD_ROLE": "boss"}, "LOAD_ROLE='boss' is not one of alone, master, worker"),
        ({"LOAD_ROLE": "master", "LOAD_PROCESSES": "2"}, "LOAD_PROCESSES is for processes that generate load"),
        ({"LOAD_RESULTS": "/proc/nowhere"}, "cannot be created"),
        ({"LOAD_GATE": "nowhere.toml"}, "nowhere.toml: No such file"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_status_2(tmp_path: Path, settings: dict[str, str], expected: str) -> None:
    """Unknown shape or beast, a host without scheme, no users, a host that does not answer, a folder, a file."""
    unreachable = f"http://{LOOPBACK}:{free_port()}"
    run = run_load(tmp_path, *(["gate"] if "LOAD_GATE" in settings else []), **{"LOAD_HOST": unreachable, **settings})
    assert run.code == 2
    (line,) = run.output.splitlines()
    assert expected in line


def test_a_port_in_use_is_reported_with_a_remedy(tmp_path: Path) -> None:
    """The error comes before anything starts."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        run = run_load(tmp_path, LOAD_HEADLESS="false", LOAD_PORT=str(port))
    assert run.code == 2
    (line,) = run.output.splitlines()
    assert f"LOAD_PORT={port}" in line
    assert "choose another" in line


def test_runs_with_the_same_seed_use_the_same_names(tmp_path: Path) -> None:
    """Three keepers start with the same names for the same beasts, in any order; only the suffixes differ."""
    first_names: list[set[tuple[str, str]]] = []
    for run_id in ("first", "other"):
        posts: list[tuple[str, str]] = []
        with stand_in(posts=posts) as host:
            run_enough_load(
                9,
                tmp_path,
                LOAD_HOST=host,
                LOAD_SEED="42",
                LOAD_RUN_ID=run_id,
                LOAD_USERS="3",
                LOAD_RATE="3",
                LOAD_TIME="6",
                LOAD_KINDS="keeper=1",
            )
        assert all(name.endswith(run_id) for _, name in posts)
        first_names.append({(path, name.removesuffix(run_id)) for path, name in posts})
    assert len(first_names[0] & first_names[1]) >= 3
