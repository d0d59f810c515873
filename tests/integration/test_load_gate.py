"""The load as a program: the gate, the shape that finds where it breaks, and what is refused."""

import csv
import socket
from pathlib import Path
from typing import Any

import pytest

from local.ports import LOOPBACK, free_port
from tests.integration.conftest import Gateway, StartService
from tests.integration.load_support import needs_locust, run_load, stand_in
from tests.unit.telemetry.push_sink import LOGIN_PAGE, Reply, Sink
from tests.unit.telemetry.test_delivery import PROTOBUF, partial

pytestmark = needs_locust

# A busy machine may be slow; what is proved here is the way, not the speed.
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


def test_the_gate_passes_with_the_real_server_and_its_traces_join(
    tmp_path: Path, service: StartService, gateway: Gateway
) -> None:
    """A trace begins at a keeper and ends in Postgres; the run's figures arrive; table, JSON and CSV agree."""
    file = tmp_path / "gate.toml"
    file.write_text(LENIENT)
    server = service("server")
    ended = run_load(
        tmp_path,
        "gate",
        LOAD_HOST=server.base_url,
        LOAD_GATE=str(file),
        LOAD_RUN_ID="integration",
        LOAD_COLLECTOR=f"http://{LOOPBACK}:{gateway.ports['otlp_http']}",
        LOAD_WITHIN="5000",
        OTEL_SDK_DISABLED="false",
    )
    assert ended.code == 0, ended.output
    assert all(line["holds"] for line in ended.results["gate"])
    with (tmp_path / "load.csv").open(encoding="utf-8") as rows:
        counted = {row["request"]: int(row["requests"]) for row in csv.DictReader(rows)}
    assert counted["all"] == ended.results["figures"]["requests"] == sum(counted.values()) - counted["all"]
    assert set(counted) <= {f"{m} /<beast>" for m in ("GET", "POST", "DELETE")} | {"GET /<beast>?before=<id>", "all"}

    spans = gateway.poll(lambda g: g.get("spans", service="mythical-loadtest", name="keeper round", limit=1))
    trace = gateway.poll(lambda g: _whole(g.get(f"traces/{spans[0]['trace_id']}")))
    services = {span["service"] for span in trace}
    assert services == {"mythical-loadtest", "mythical-server"}
    assert spans[0]["attributes"]["user_agent.synthetic.type"] == "test"
    figures = gateway.poll(lambda g: g.get("metrics", name="locust.requests", service="mythical-loadtest"))
    assert sum(point["value"] for point in figures[0]["points"]) == counted["all"]
    assert {point["attributes"]["run_id"] for point in figures[0]["points"]} == {"integration"}
    asked = next(span for span in trace if span["service"] == "mythical-server" and span["kind"] == "SERVER")
    assert asked["attributes"]["user_agent.synthetic.type"] == "test"
    assert asked["attributes"]["loadtest.user.kind"] == "keeper"


LOSSES = {
    "a part": (Reply(200, partial("traces", 1), PROTOBUF), "the collector rejected a part: too many"),
    "a login page": (LOGIN_PAGE, "status 200 with an HTML page"),
    "a warning": (Reply(200, partial("traces", 0), PROTOBUF), 'accepted with a warning: reason="too many"'),
}


@pytest.mark.parametrize("answer", LOSSES)
def test_what_the_collector_does_not_accept_is_one_line_for_each_signal(tmp_path: Path, answer: str) -> None:
    """With its cause, as a service reports it, however many pushes there are."""
    reply, said = LOSSES[answer]
    collector = Sink(reply)
    try:
        with stand_in() as host:
            ended = run_load(
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
    assert all(said in line for line in lines), lines


def _whole(trace: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return trace if any(span["name"].startswith("INSERT") for span in trace) else []


def test_the_gate_fails_with_a_slow_server(tmp_path: Path) -> None:
    """All answers are right, and 400 ms late: p95 and the checks of time cross the lines that are kept."""
    with stand_in(delay_s=0.4) as host:
        ended = run_load(tmp_path, "gate", LOAD_HOST=host, LOAD_TIME="8")
    assert ended.code == 1, ended.output
    crossed = {line["figure"] for line in ended.results["gate"] if not line["holds"]}
    assert {"p95_ms", "check_share"} <= crossed
    assert "error_share" not in crossed
    assert "EXCEEDED" in ended.output
    assert "expected a response within 300 ms" in ended.output


def test_break_says_at_how_many_users_a_line_was_crossed(tmp_path: Path) -> None:
    """With a server that answers 503 it is soon, and long before the time is over."""
    with stand_in(broken=True) as host:
        ended = run_load(
            tmp_path, LOAD_HOST=host, LOAD_SHAPE="break", LOAD_USERS="60", LOAD_TIME="60", LOAD_KINDS="breeder=1"
        )
    assert ended.code == 0, ended.output
    assert "broke at" in ended.results["broke"]
    assert "100.0% of requests fail, above 5.0%" in ended.output


@pytest.mark.parametrize(
    ("settings", "said"),
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
def test_what_cannot_be_done_is_one_line_and_exit_status_2(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    """Unknown shape or beast, a host without scheme, no users, a host that does not answer, a folder, a file."""
    nobody = f"http://{LOOPBACK}:{free_port()}"
    ended = run_load(tmp_path, *(["gate"] if "LOAD_GATE" in settings else []), **{"LOAD_HOST": nobody, **settings})
    assert ended.code == 2
    (line,) = ended.output.splitlines()
    assert said in line


def test_a_taken_port_of_the_page_is_told_with_a_remedy(tmp_path: Path) -> None:
    """Before anything starts."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_load(tmp_path, LOAD_HEADLESS="false", LOAD_PORT=str(port))
    assert ended.code == 2
    (line,) = ended.output.splitlines()
    assert f"LOAD_PORT={port}" in line
    assert "choose another" in line


def test_a_seed_makes_the_same_names_again_in_a_run_of_its_own(tmp_path: Path) -> None:
    """Three keepers begin with the same names for the same beasts, in whatever order; only the ends of names differ."""
    begun: list[set[tuple[str, str]]] = []
    for run in ("first", "other"):
        asked: list[tuple[str, str]] = []
        with stand_in(asked=asked) as host:
            run_load(
                tmp_path,
                LOAD_HOST=host,
                LOAD_SEED="42",
                LOAD_RUN_ID=run,
                LOAD_USERS="3",
                LOAD_RATE="3",
                LOAD_TIME="6",
                LOAD_KINDS="keeper=1",
            )
        assert all(name.endswith(run) for _, name in asked)
        begun.append({(path, name.removesuffix(run)) for path, name in asked})
    assert len(begun[0] & begun[1]) >= 3
