"""What a fault did is undone when it is off, also after a crash; and how the command says what cannot be."""

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
    """A database of these tests' own."""
    with own_database(postgres) as name:
        yield name


@pytest.fixture(scope="module")
def started(
    postgres: Postgres, rabbitmq: RabbitMQ, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Services that send no telemetry."""
    clear_queues(rabbitmq)
    folder = tmp_path_factory.mktemp("services")
    with fleet(folder, database_settings(postgres, database), broker_settings(rabbitmq), SILENT) as services:
        yield services


@pytest.fixture(scope="module")
def server(started: Fleet) -> Service:
    """One server."""
    return started.start("server")


@pytest.fixture(scope="module")
def switches(started: Fleet, server: Service) -> FaultClient:
    """The switches of all services; the requester begins in an hour."""
    recorder = started.launch("recorder")
    frontend = started.launch("frontend", **requests_to(server))
    requester = started.launch("requester", REQUESTER_START="3600", **requests_to(server))
    started.ready()
    services = {"server": server, "recorder": recorder, "requester": requester, "frontend": frontend}
    return FaultClient({name: service.base_url for name, service in services.items()})


def counted(postgres: Postgres, statement: str, database: str) -> int:
    """The one number that a statement returns."""
    return int(run(postgres, statement, database)[0][0])


def test_an_index_that_was_lost_is_made_again(postgres: Postgres, database: str, switches: FaultClient) -> None:
    """And the rows that were added are gone; names given before are there."""
    run(postgres, "INSERT INTO unicorn (name) VALUES ('kept')", database)
    switches.set(find_fault("missing_index"), 0.1, 60)
    eventually(lambda: counted(postgres, INDEXED, database) == 0)
    assert counted(postgres, FILLED, database) == 10_000
    switches.clear()
    eventually(lambda: counted(postgres, INDEXED, database) == 2 and not counted(postgres, FILLED, database))
    assert run(postgres, "SELECT name FROM unicorn WHERE name = 'kept'", database) == [("kept",)]


def test_a_server_that_starts_mends_what_a_crash_left(postgres: Postgres, database: str, started: Fleet) -> None:
    """Killed in the midst of a fault, a server cannot clear up: the next one does."""
    crashed = started.start("server", FAULT_MISSING_INDEX="0.01")
    eventually(lambda: counted(postgres, INDEXED, database) == 0)
    crashed.kill()
    started.start("server")
    eventually(lambda: counted(postgres, INDEXED, database) == 2)


def test_a_table_without_statistics_is_dropped(postgres: Postgres, database: str, switches: FaultClient) -> None:
    """While it is there, its statistics lack most kinds of rows; afterwards requests do not read it any more."""
    there = "SELECT count(*) FROM pg_class WHERE relname = 'mythical_sightings'"
    switches.set(find_fault("stale_statistics"), 0.1, 60)
    eventually(lambda: counted(postgres, there, database) == 1)
    assert counted(postgres, "SELECT count(*) FROM mythical_sightings WHERE state > 0", database) == 100
    changed = "SELECT n_mod_since_analyze FROM pg_stat_user_tables WHERE relname = 'mythical_sightings'"
    eventually(lambda: counted(postgres, changed, database) >= 100)
    switches.clear()
    eventually(lambda: counted(postgres, there, database) == 0)


def test_an_open_transaction_ends_and_names_survive_the_wipe_that_it_delayed(
    postgres: Postgres, database: str, server: Service, switches: FaultClient
) -> None:
    """The wipe is due while the session is idle, and is as far away as before when it has ended."""
    due = "SELECT count(*) FROM mythical_wipes WHERE last < now() - interval '1 year'"
    idle = """SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'mythical-export' AND state = 'idle in transaction'"""
    run(postgres, "INSERT INTO unicorn (name) VALUES ('kept too') ON CONFLICT DO NOTHING", database)
    last = run(postgres, "SELECT last FROM mythical_wipes", database)
    switches.set(find_fault("idle_transaction"), 1, 60)
    eventually(lambda: counted(postgres, idle, database) == 1 and counted(postgres, due, database) == 1)
    eventually(lambda: ask(server.base_url, "/unicorn").status == 503)
    switches.clear()
    eventually(lambda: counted(postgres, idle, database) == 0)
    assert run(postgres, "SELECT last FROM mythical_wipes", database) == last
    assert run(postgres, "SELECT name FROM unicorn WHERE name = 'kept too'", database) == [("kept too",)]


def test_connections_that_were_taken_come_back(server: Service, switches: FaultClient) -> None:
    """The pool's own figures: all are idle again."""

    def used() -> float:
        page = ask(server.base_url, "/metrics").text
        (line,) = (each for each in page.splitlines() if "connection_count{" in each and '_state="used"' in each)
        return float(line.rpartition(" ")[2])

    switches.set(find_fault("pool_too_small"), 1, 60)
    eventually(lambda: used() >= 3)
    switches.clear()
    eventually(lambda: used() <= 1)


def test_no_fault_leaves_a_thread_or_a_lease(switches: FaultClient) -> None:
    """All of them set at once and cleared at once, every service is as at start."""
    before = switches.states()
    for state in before:
        switches.set(state.fault, min(1, state.fault.max_strength), 60)
    assert {state.fault.name for state in switches.states() if state.seconds_left is None} == set()
    switches.clear()
    assert switches.states() == before


def command(switches_of: dict[str, str], folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start `python -m workshop` with these words."""
    settings = {f"WORKSHOP_{name.upper()}": address for name, address in switches_of.items()}
    settings |= {
        "MYTHICAL_STATE": str(folder),
        "WORKSHOP_GATEWAY": f"http://{LOOPBACK}:1",
        "WORKSHOP_MIMIR": f"http://{LOOPBACK}:1",
    }
    return subprocess.Popen(  # noqa: S603 - our own arguments
        [sys.executable, "-m", "workshop", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | settings,
    )


def said(switches_of: dict[str, str], folder: Path, *words: str) -> tuple[int, str, str]:
    """Run the command to its end: status, output, complaint."""
    process = command(switches_of, folder, *words)
    output, complaint = process.communicate(timeout=DEADLINE_S)
    return process.returncode, output, complaint


@pytest.fixture
def addresses(switches: FaultClient) -> dict[str, str]:
    """Where the services are."""
    return dict(switches._services)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_scenario_that_is_ended_puts_its_faults_back(
    signal_number: signal.Signals, addresses: dict[str, str], switches: FaultClient, tmp_path: Path
) -> None:
    """By Ctrl-C, or from another terminal; while it runs, a second one is refused in one line."""
    process = command(addresses, tmp_path, "scenario", "run", "slow-lists", "--for", "60s")
    eventually(lambda: running(tmp_path / "scenario.lock"))
    status, _, complaint = said(addresses, tmp_path, "scenario", "run", "loud-server")
    assert (status, complaint.count("\n")) == (2, 1)
    assert "slow-lists is already running" in complaint
    assert said(addresses, tmp_path, "scenario", "hint")[1].startswith("Hint 1 of 3")
    process.send_signal(signal_number)
    assert process.wait(DEADLINE_S) == 130
    process.communicate()
    assert [state for state in switches.states() if state.seconds_left is not None] == []
    assert said(addresses, tmp_path, "scenario", "stop")[0] == 2


def test_each_run_of_a_scenario_begins_with_its_first_hint(addresses: dict[str, str], tmp_path: Path) -> None:
    """A second class finds the same machine as the first; within a run they go on, and the last one stays."""
    for _ in range(2):
        process = command(addresses, tmp_path, "scenario", "run", "slow-lists", "--for", "60s")
        eventually(lambda: running(tmp_path / "scenario.lock"))
        hints = [said(addresses, tmp_path, "scenario", "hint")[1][:6] for _ in range(4)]
        assert hints == ["Hint 1", "Hint 2", "Hint 3", "Hint 3"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)


def test_a_blind_scenario_names_no_fault(addresses: dict[str, str], tmp_path: Path) -> None:
    """Neither in what it prints, nor where the faults are listed; `stop` ends it from elsewhere."""
    process = command(addresses, tmp_path, "scenario", "run", "slow-lists", "--blind", "--for", "60s")
    eventually(lambda: running(tmp_path / "scenario.lock"))
    listed = said(addresses, tmp_path, "scenario", "list")[1]
    assert listed.rstrip().endswith("a scenario is running")
    assert said(addresses, tmp_path, "scenario", "stop")[0] == 0
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert "slow_query" not in output
    assert "slow-lists" not in output


def test_a_scenario_that_is_killed_leaves_nothing_for_longer_than_its_lease(
    addresses: dict[str, str], switches: FaultClient, tmp_path: Path
) -> None:
    """Nothing is left to restore them: the leases end in the services, as the tests of leases show."""
    process = command(addresses, tmp_path, "scenario", "run", "slow-lists", "--start", "0s", "--for", "10m")

    def left() -> list[float]:
        return [state.seconds_left for state in switches.states() if state.seconds_left is not None]

    eventually(left)
    process.kill()
    process.communicate()
    assert all(seconds <= LEASE_S for seconds in left())
    assert running(tmp_path / "scenario.lock") is None
    switches.clear()


@pytest.mark.parametrize(
    ("words", "needle"),
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
def test_what_cannot_be_is_one_line_and_status_2(
    words: list[str], needle: str, addresses: dict[str, str], tmp_path: Path
) -> None:
    """It says what can be."""
    status, output, complaint = said(addresses, tmp_path, *words)
    assert (status, output, complaint.count("\n")) == (2, "", 1)
    assert complaint.startswith("workshop: ")
    assert needle in complaint


@pytest.mark.parametrize("words", [["fault", "list"], ["scenario", "run", "slow-lists"]])
def test_without_a_suite_it_says_how_to_start_one(words: list[str], tmp_path: Path) -> None:
    """And a service whose switch is shut is distinguished from one that does not run."""
    nobody = dict.fromkeys(("server", "requester", "recorder"), f"http://{LOOPBACK}:{free_port()}")
    status, _, complaint = said(nobody, tmp_path, *words)
    assert (status, complaint.count("\n")) == (2, 1)
    assert "make demo" in complaint


def test_a_service_whose_switch_is_shut_says_so(started: Fleet, addresses: dict[str, str], tmp_path: Path) -> None:
    """On an address that others can reach, faults cannot be set unless enabled."""
    shut = started.start("server", FAULTS_CONTROL="false")
    assert ask(shut.base_url, "/faults").status == 404
    status, _, complaint = said({**addresses, "server": shut.base_url}, tmp_path, "fault", "list")
    assert (status, complaint.count("\n")) == (2, 1)
    assert "FAULTS_CONTROL" in complaint


def test_the_page_switches_faults(addresses: dict[str, str], switches: FaultClient) -> None:
    """For whoever has it open here, and for no page of another site."""
    port = free_port()
    settings = {f"WORKSHOP_{name.upper()}": address for name, address in addresses.items()}
    page = subprocess.Popen(
        [sys.executable, "-m", "workshop", "page"], env=os.environ | settings | {"DEMO_WORKSHOP_PORT": str(port)}
    )
    try:
        base = f"http://{LOOPBACK}:{port}"
        eventually(lambda: is_up(f"{base}/readyz"))
        assert b"page.js" in ask(base, "/").body
        assert ask(base, "/icon.svg").status == 200  # an icon within the page would be refused by its policy
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
        assert {state.strength for state in switches.states() if state.fault.name == "slow_query"} == {2}
        for wrong in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            assert ask(base, "/api/faults", "DELETE", headers=wrong).status == 403
        assert ask(base, "/api/faults/slow_query", "PUT", body='{"strength": 9}', headers=json).status == 400
        assert ask(base, "/api/faults", "DELETE").status == 204
        assert [state for state in switches.states() if state.seconds_left is not None] == []
    finally:
        page.terminate()
        assert page.wait(DEADLINE_S) == 0
