"""The effects of a fault are undone when it is disabled, also after a crash; the command reports errors in one line."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.ports import LOOPBACK, free_port
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import DEADLINE_S, Service, eventually
from tests.integration.service_support import (
    SILENT,
    Fleet,
    ask,
    broker_settings,
    clear_queues,
    database_settings,
    fleet,
    own_database,
    requests_to,
    run,
)
from tools.query import is_up
from workshop.fault_client import FaultClient, find_fault
from workshop.run_lock import running
from workshop.runner import LEASE_S

INDEXED = "SELECT count(*) FROM pg_index WHERE indisprimary AND indrelid::regclass::text IN ('unicorn', 'beholder')"
FILLED = "SELECT count(*) FROM unicorn WHERE id < 0"


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[str]:
    """A separate database."""
    with own_database(postgres) as name:
        yield name


@pytest.fixture(scope="module")
def started(
    postgres: Postgres, rabbitmq: RabbitMQ, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Services without a collector."""
    clear_queues(rabbitmq)
    folder = tmp_path_factory.mktemp("services")
    with fleet(folder, database_settings(postgres, database), broker_settings(rabbitmq), SILENT) as services:
        yield services


@pytest.fixture(scope="module")
def server(started: Fleet) -> Service:
    """One server."""
    return started.start("server")


@pytest.fixture(scope="module")
def fault_client(started: Fleet, server: Service) -> FaultClient:
    """A client for the faults of all services; the requester's first request is in an hour."""
    recorder = started.launch("recorder")
    frontend = started.launch("frontend", **requests_to(server))
    requester = started.launch("requester", REQUESTER_START="3600", **requests_to(server))
    started.ready()
    services = {"server": server, "recorder": recorder, "requester": requester, "frontend": frontend}
    return FaultClient({name: service.base_url for name, service in services.items()})


def number(postgres: Postgres, statement: str, database: str) -> int:
    """Return the number that a statement selects."""
    return int(run(postgres, statement, database)[0][0])


def test_a_dropped_index_is_recreated(postgres: Postgres, database: str, fault_client: FaultClient) -> None:
    """The rows that the fault added are deleted; names stored before remain."""
    run(postgres, "INSERT INTO unicorn (name) VALUES ('kept')", database)
    fault_client.set(find_fault("missing_index"), 0.1, 60)
    eventually(lambda: number(postgres, INDEXED, database) == 0)
    assert number(postgres, FILLED, database) == 10_000
    fault_client.clear()
    eventually(lambda: number(postgres, INDEXED, database) == 2 and not number(postgres, FILLED, database))
    assert run(postgres, "SELECT name FROM unicorn WHERE name = 'kept'", database) == [("kept",)]


def test_a_server_repairs_a_crashed_servers_faults_at_startup(
    postgres: Postgres, database: str, started: Fleet
) -> None:
    """A server that is killed during a fault cannot undo it; the next one does."""
    crashed = started.start("server", FAULT_MISSING_INDEX="0.01")
    eventually(lambda: number(postgres, INDEXED, database) == 0)
    crashed.kill()
    started.start("server")
    eventually(lambda: number(postgres, INDEXED, database) == 2)


def test_a_table_without_statistics_is_dropped(postgres: Postgres, database: str, fault_client: FaultClient) -> None:
    """While it exists, its statistics lack most kinds of rows; afterwards requests no longer read it."""
    exists = "SELECT count(*) FROM pg_class WHERE relname = 'mythical_sightings'"
    added = "SELECT count(*) FROM mythical_sightings WHERE state > 0"
    fault_client.set(find_fault("stale_statistics"), 0.1, 60)
    # The rows are added after the table is created and analyzed.
    eventually(lambda: number(postgres, exists, database) and number(postgres, added, database) == 100)
    changed = "SELECT n_mod_since_analyze FROM pg_stat_user_tables WHERE relname = 'mythical_sightings'"
    eventually(lambda: number(postgres, changed, database) >= 100)
    fault_client.clear()
    eventually(lambda: number(postgres, exists, database) == 0)


def test_the_idle_transaction_ends_and_names_survive_the_wipe(
    postgres: Postgres, database: str, server: Service, fault_client: FaultClient
) -> None:
    """The wipe is due while the session is idle; afterwards it has its former due time."""
    due = "SELECT count(*) FROM mythical_wipes WHERE last < now() - interval '1 year'"
    idle = """SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'mythical-export' AND state = 'idle in transaction'"""
    run(postgres, "INSERT INTO unicorn (name) VALUES ('kept too') ON CONFLICT DO NOTHING", database)
    last = run(postgres, "SELECT last FROM mythical_wipes", database)
    fault_client.set(find_fault("idle_transaction"), 1, 60)
    eventually(lambda: number(postgres, idle, database) == 1 and number(postgres, due, database) == 1)
    eventually(lambda: ask(server.base_url, "/unicorn").status == 503)
    fault_client.clear()
    eventually(lambda: number(postgres, idle, database) == 0)
    assert run(postgres, "SELECT last FROM mythical_wipes", database) == last
    assert run(postgres, "SELECT name FROM unicorn WHERE name = 'kept too'", database) == [("kept too",)]


def test_occupied_connections_are_released(server: Service, fault_client: FaultClient) -> None:
    """The pool's metrics show that all are idle again."""

    def used() -> float:
        page = ask(server.base_url, "/metrics").text
        (line,) = (each for each in page.splitlines() if "connection_count{" in each and '_state="used"' in each)
        return float(line.rpartition(" ")[2])

    fault_client.set(find_fault("pool_too_small"), 1, 60)
    eventually(lambda: used() >= 3)
    fault_client.clear()
    eventually(lambda: used() <= 1)


def test_no_lease_remains_after_clearing_all_faults(fault_client: FaultClient) -> None:
    """After all faults are set and cleared, every service has its startup values."""
    before = fault_client.states()
    for state in before:
        fault_client.set(state.fault, min(1, state.fault.max_strength), 60)
    assert {state.fault.name for state in fault_client.states() if state.seconds_left is None} == set()
    fault_client.clear()
    assert fault_client.states() == before


def command(urls: dict[str, str], folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `python -m workshop` with these arguments."""
    settings = {f"WORKSHOP_{name.upper()}": url for name, url in urls.items()}
    settings |= {
        "MYTHICAL_STATE": str(folder),
        "WORKSHOP_GATEWAY": f"http://{LOOPBACK}:1",
        "WORKSHOP_MIMIR": f"http://{LOOPBACK}:1",
    }
    return subprocess.Popen(  # noqa: S603 - constant arguments
        [sys.executable, "-m", "workshop", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | settings,
    )


def run_command(urls: dict[str, str], folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command until it exits; return exit status, output and errors."""
    process = command(urls, folder, *arguments)
    output, errors = process.communicate(timeout=DEADLINE_S)
    return process.returncode, output, errors


@pytest.fixture
def addresses(fault_client: FaultClient) -> dict[str, str]:
    """The URLs of the services."""
    return dict(fault_client._services)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_scenario_clears_its_faults(
    signal_number: signal.Signals, addresses: dict[str, str], fault_client: FaultClient, tmp_path: Path
) -> None:
    """Ctrl-C or SIGTERM stops it; while it runs, a second one is rejected in one line."""
    process = command(addresses, tmp_path, "scenario", "run", "slow-lists", "--for", "60s")
    eventually(lambda: running(tmp_path / "scenario.lock"))
    status, _, errors = run_command(addresses, tmp_path, "scenario", "run", "loud-server")
    assert (status, errors.count("\n")) == (2, 1)
    assert "slow-lists is already running" in errors
    assert run_command(addresses, tmp_path, "scenario", "hint")[1].startswith("Hint 1 of 3")
    process.send_signal(signal_number)
    assert process.wait(DEADLINE_S) == 130
    process.communicate()
    assert [state for state in fault_client.states() if state.seconds_left is not None] == []
    assert run_command(addresses, tmp_path, "scenario", "stop")[0] == 2


def test_each_run_of_a_scenario_begins_with_its_first_hint(addresses: dict[str, str], tmp_path: Path) -> None:
    """Hints are not kept from an earlier run; within a run they advance, and the last one is repeated."""
    for _ in range(2):
        process = command(addresses, tmp_path, "scenario", "run", "slow-lists", "--for", "60s")
        eventually(lambda: running(tmp_path / "scenario.lock"))
        hints = [run_command(addresses, tmp_path, "scenario", "hint")[1][:6] for _ in range(4)]
        assert hints == ["Hint 1", "Hint 2", "Hint 3", "Hint 3"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)


def test_a_blind_scenario_shows_no_fault(addresses: dict[str, str], tmp_path: Path) -> None:
    """Neither its output nor the list of faults has it; `stop` ends it from another terminal."""
    process = command(addresses, tmp_path, "scenario", "run", "slow-lists", "--blind", "--for", "60s")
    eventually(lambda: running(tmp_path / "scenario.lock"))
    listed = run_command(addresses, tmp_path, "scenario", "list")[1]
    assert listed.rstrip().endswith("a scenario is running")
    assert run_command(addresses, tmp_path, "scenario", "stop")[0] == 0
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert "slow_query" not in output
    assert "slow-lists" not in output


def test_a_killed_scenarios_faults_end_with_their_leases(
    addresses: dict[str, str], fault_client: FaultClient, tmp_path: Path
) -> None:
    """No process remains to clear them: the leases expire in the services, as the tests of leases show."""
    process = command(addresses, tmp_path, "scenario", "run", "slow-lists", "--start", "0s", "--for", "10m")

    def seconds_left() -> list[float]:
        return [state.seconds_left for state in fault_client.states() if state.seconds_left is not None]

    eventually(seconds_left)
    process.kill()
    process.communicate()
    assert all(seconds <= LEASE_S for seconds in seconds_left())
    assert running(tmp_path / "scenario.lock") is None
    fault_client.clear()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fault", "set", "slow_quary", "1"], "slow_query"),
        (["fault", "set", "slow_query", "6"], "0 to 5"),
        (["fault", "set", "slow_query", "much"], "0 to 5"),
        (["fault", "set", "slow_query", "1", "--for", "soon"], "10m"),
        (["fault", "clear", "none"], "slow_query"),
        (["fault"], "--help"),
        (["scenario", "run", "none"], "slow-lists"),
        (["scenario", "run"], "--blind"),
        (["scenario", "hint"], "no scenario is running"),
        (["scenario", "answer"], "no scenario is running"),
        (["scenario", "stop"], "no scenario is running"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(
    arguments: list[str], expected: str, addresses: dict[str, str], tmp_path: Path
) -> None:
    """The line has the allowed values."""
    status, output, errors = run_command(addresses, tmp_path, *arguments)
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("workshop: ")
    assert expected in errors


@pytest.mark.parametrize("arguments", [["fault", "list"], ["scenario", "run", "slow-lists"]])
def test_without_a_suite_the_error_has_the_command_to_start_one(arguments: list[str], tmp_path: Path) -> None:
    """It is one line with `make demo`."""
    unreachable = dict.fromkeys(("server", "requester", "recorder"), f"http://{LOOPBACK}:{free_port()}")
    status, _, errors = run_command(unreachable, tmp_path, *arguments)
    assert (status, errors.count("\n")) == (2, 1)
    assert "make demo" in errors


def test_a_service_with_a_disabled_fault_api_is_reported(
    started: Fleet, addresses: dict[str, str], tmp_path: Path
) -> None:
    """On an address that other machines can reach, the fault API is disabled by default."""
    disabled = started.start("server", FAULTS_CONTROL="false")
    assert ask(disabled.base_url, "/faults").status == 404
    status, _, errors = run_command({**addresses, "server": disabled.base_url}, tmp_path, "fault", "list")
    assert (status, errors.count("\n")) == (2, 1)
    assert "FAULTS_CONTROL" in errors


def test_the_page_sets_faults(addresses: dict[str, str], fault_client: FaultClient) -> None:
    """It does so for a user of this machine, and not for a page of another site."""
    port = free_port()
    settings = {f"WORKSHOP_{name.upper()}": address for name, address in addresses.items()}
    page = subprocess.Popen(
        [sys.executable, "-m", "workshop", "page"], env=os.environ | settings | {"DEMO_WORKSHOP_PORT": str(port)}
    )
    try:
        base = f"http://{LOOPBACK}:{port}"
        eventually(lambda: is_up(f"{base}/readyz"))
        assert b"page.js" in ask(base, "/").body
        assert ask(base, "/icon.svg").status == 200  # the page's policy would block an inline icon
        second = subprocess.run(
            [sys.executable, "-m", "workshop", "page"],
            env=os.environ | settings | {"DEMO_WORKSHOP_PORT": str(port)},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert (second.returncode, second.stderr.count("\n")) == (2, 1)
        assert f"port {port} is in use" in second.stderr
        body, json = '{"strength": 2}', {"Content-Type": "application/json"}
        assert ask(base, "/api/faults/slow_query", "PUT", body=body, headers=json).status == 204
        assert {state.strength for state in fault_client.states() if state.fault.name == "slow_query"} == {2}
        for wrong in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            assert ask(base, "/api/faults", "DELETE", headers=wrong).status == 403
        assert ask(base, "/api/faults/slow_query", "PUT", body='{"strength": 9}', headers=json).status == 400
        assert ask(base, "/api/faults", "DELETE").status == 204
        assert [state for state in fault_client.states() if state.seconds_left is not None] == []
    finally:
        page.terminate()
        assert page.wait(DEADLINE_S) == 0
