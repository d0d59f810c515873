"""The server during and after outages, locks and crashes of its database, on a separate Postgres."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import PoolTimeout, TooManyRequests

from local.errors import LocalError
from local.ports import LOOPBACK
from local.servers.postgres import Postgres
from services.server.config import Database
from services.server.store import CHECKOUT_S, ConnectionHealth, make_pool
from tests.integration.conftest import Service, eventually
from tests.integration.service_support import (
    JSON,
    SILENT,
    Fleet,
    Response,
    ask,
    database_settings,
    fleet,
    own_database,
    run,
    silent_server,
)

STATEMENT_S = 0.6  # the servers' statement timeout; the lock timeout is half as long
RECOVERY_S = 60.0  # the longest time until requests are served after the database has started
MAX_RESPONSE_S = CHECKOUT_S + STATEMENT_S + 10.0  # the margin is for a busy machine


@pytest.fixture(scope="module")
def database(servers_folder: Path) -> Iterator[Postgres]:
    """A Postgres that tests may stop and kill. It is not started."""
    server = Postgres(servers_folder / "outage")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def started(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The servers of this module."""
    folder = tmp_path_factory.mktemp("servers")
    settings = {"FAULT_NULL_NAME": "0", "MYTHICAL_DATABASE_STATEMENT_TIMEOUT": f"{STATEMENT_S * 1000:.0f}"}
    with fleet(folder, SILENT, database_settings(database), settings) as servers:
        yield servers


@pytest.fixture(scope="module")
def server(started: Fleet, database: Postgres) -> Service:
    """A server that was started while its database was down."""
    assert not database.process.running
    return started.start("server", until="/healthz")


@pytest.fixture
def ready(server: Service, database: Postgres) -> Service:
    """The same server, with a running database."""
    if not database.process.running:
        start(database)
    eventually(lambda: ask(server.base_url, "/readyz").status == 200)
    return server


def start(database: Postgres) -> None:
    """Start the database; if it does not start, fail with its log."""
    try:
        database.start()
    except LocalError as error:
        pytest.fail(f"{error}\n{error.detail}")


def requests(server: Service) -> list[Response]:
    """Send a request of each method; return the responses."""
    body = json.dumps({"name": "while down"})
    return [
        ask(server.base_url, "/unicorn"),
        ask(server.base_url, "/unicorn", "POST", body=body, headers=JSON),
        ask(server.base_url, "/unicorn", "DELETE", body=body, headers=JSON),
    ]


def assert_unavailable(server: Service) -> None:
    """Each request gets 503 with Retry-After in time; the process runs and is not ready."""
    before = time.monotonic()
    for response in requests(server):
        assert response.status == 503
        assert int(response.headers["Retry-After"]) >= 1
    assert time.monotonic() - before < 3 * MAX_RESPONSE_S
    assert ask(server.base_url, "/healthz").status == 200
    eventually(lambda: ask(server.base_url, "/readyz").status == 503, RECOVERY_S)


def assert_rejected_at_once(server: Service) -> None:
    """When the pool cannot connect, requests are rejected without waiting for a connection."""
    eventually(lambda: b"The database is unavailable. Retry after 1 second." in ask(server.base_url, "/unicorn").body)
    before = time.monotonic()
    responses = [ask(server.base_url, "/unicorn") for _ in range(20)]
    assert {response.status for response in responses} == {503}
    assert time.monotonic() - before < 20 * CHECKOUT_S / 2


def assert_recovers(server: Service, since: float) -> None:
    """Wait until each request is served again by the same process."""
    eventually(lambda: ask(server.base_url, "/readyz").status == 200, RECOVERY_S)
    eventually(lambda: [response.status for response in requests(server)] == [200, 201, 204], RECOVERY_S)
    assert time.monotonic() - since < RECOVERY_S
    assert server.process.running


def test_the_server_starts_without_a_database_and_becomes_ready(server: Service, database: Postgres) -> None:
    """The start order does not matter."""
    assert_unavailable(server)
    start(database)
    assert_recovers(server, time.monotonic())


def test_the_server_recovers_from_a_restart_of_the_database(ready: Service, database: Postgres) -> None:
    """During a clean stop, as for an update, requests get 503; afterwards they are served."""
    assert ask(ready.base_url, "/owlbear", "POST", body='{"name": "kept"}', headers=JSON).status in (201, 409)
    database.stop()
    assert_unavailable(ready)
    assert_rejected_at_once(ready)
    start(database)
    assert_recovers(ready, time.monotonic())
    assert b"kept" in ask(ready.base_url, "/owlbear").body


def test_no_acknowledged_write_is_lost_when_the_database_crashes_under_load(ready: Service, database: Postgres) -> None:
    """After SIGKILL while eight callers add names, each gets 201 or 503, and every name with 201 is stored."""

    def add(number: int) -> tuple[str, int]:
        name = f"crash {number}"
        return name, ask(ready.base_url, "/illithid", "POST", body=json.dumps({"name": name}), headers=JSON).status

    with ThreadPoolExecutor(8) as callers:
        adding = [callers.submit(add, number) for number in range(150)]
        eventually(lambda: sum(each.done() for each in adding) > 50)
        database.kill()
        adding += [callers.submit(add, number) for number in range(150, 170)]
        results = [each.result() for each in adding]
    start(database)
    assert_recovers(ready, time.monotonic())
    assert {status for _, status in results} == {201, 503}
    kept = {name for (name,) in run(database, "SELECT name FROM illithid")}
    assert {name for name, status in results if status == 201} <= kept


def test_terminated_connections_are_replaced(ready: Service, database: Postgres) -> None:
    """An administrator terminates every session: at worst, a request with a closed connection gets 503."""
    run(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mythical-server'")
    statuses = {response.status for response in requests(ready)}
    assert statuses <= {200, 201, 204, 503}
    assert_recovers(ready, time.monotonic())


def test_a_request_on_a_locked_table_times_out(ready: Service, database: Postgres) -> None:
    """The database cancels the statement, the caller gets 503, and other tables are served meanwhile."""
    with psycopg.connect(database.dsn) as other:
        other.execute("LOCK TABLE beholder IN ACCESS EXCLUSIVE MODE")
        before = time.monotonic()
        response = ask(ready.base_url, "/beholder")
        duration_s = time.monotonic() - before
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert duration_s < MAX_RESPONSE_S
        assert ask(ready.base_url, "/owlbear").status == 200
    eventually(lambda: ask(ready.base_url, "/beholder").status == 200, RECOVERY_S)


def test_an_exhausted_pool_rejects_requests_quickly(ready: Service, database: Postgres) -> None:
    """Many concurrent callers on a locked table are answered in bounded time, and no connection leaks."""
    with psycopg.connect(database.dsn) as other:
        other.execute("LOCK TABLE beholder IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(24) as callers:
            before = time.monotonic()
            responses = list(callers.map(lambda _: ask(ready.base_url, "/beholder", timeout_s=60), range(48)))
            duration_s = time.monotonic() - before
        assert {response.status for response in responses} == {503}
        # Four threads, each of which waits for the lock or a connection: 48 requests need at most 12 rounds.
        assert duration_s < 12 * (CHECKOUT_S + STATEMENT_S) + 15
    assert_recovers(ready, time.monotonic())
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mythical-server' AND state <> 'idle'"
    eventually(lambda: run(database, count) == [(0,)], RECOVERY_S)


def test_a_server_stops_cleanly_during_an_outage(started: Fleet, database: Postgres) -> None:
    """Without database and collector, it exits in time with code 0 after SIGTERM."""
    database.stop()
    disconnected = started.start("server", until="/healthz")
    assert ask(disconnected.base_url, "/unicorn").status == 503
    assert disconnected.stop() == 0


def test_a_server_stops_in_time_when_database_and_collector_hang(tmp_path: Path) -> None:
    """Database and collector accept connections and never answer: after SIGTERM it exits with code 0."""
    with silent_server() as silent, fleet(tmp_path, {"MYTHICAL_DATABASE_HOST": LOOPBACK}) as services:
        hanging = services.start(
            "server",
            until="/healthz",
            MYTHICAL_DATABASE_HOST_PORT=str(silent),
            TRACING_COLLECTOR_HOST=LOOPBACK,
            TRACING_COLLECTOR_PORT=str(silent),
            LOGS_TARGET=f"http://{LOOPBACK}:{silent}/loki/api/v1/push",
        )
        assert ask(hanging.base_url, "/unicorn").status == 503
        assert hanging.stop() == 0


def test_dropped_tables_are_recreated(ready: Service, database: Postgres) -> None:
    """It needs no restart: a request without tables gets 503, and soon requests are served."""
    run(database, "DROP TABLE unicorn, owlbear")
    assert ask(ready.base_url, "/owlbear").status == 503
    assert_recovers(ready, time.monotonic())
    assert ask(ready.base_url, "/owlbear").status == 200


def test_the_pool_reconnects_after_callers_timed_out(database: Postgres) -> None:
    """After an outage longer than its timeout, with more callers than may wait, the pool reconnects by itself."""
    database.stop()
    settings = Database(database.host, database.port, database.user, database.password, database.database, 1, 1000)
    with make_pool(settings, ConnectionHealth()) as pool:
        pool.reconnect_timeout, pool.timeout = 0.5, 0.02

        def reads() -> bool:
            try:
                with pool.connection() as connection:
                    return bool(connection.execute("SELECT 1").fetchone())
            except (PoolTimeout, TooManyRequests):
                return False

        eventually(lambda: not any(reads() for _ in range(8)) and pool.get_stats()["connections_errors"] > 4)
        start(database)
        eventually(reads, RECOVERY_S)


def test_no_caller_gets_a_connection_that_the_database_closed(database: Postgres) -> None:
    """After a restart, or after idle_session_timeout, each idle connection is replaced before its next use."""
    if not database.process.running:
        start(database)
    settings = Database(database.host, database.port, database.user, database.password, database.database, 3, 1000)
    with make_pool(settings, ConnectionHealth()) as pool:
        for _ in range(2):
            eventually(lambda: pool.get_stats()["pool_available"] == 3)
            ours = "FROM pg_stat_activity WHERE application_name = 'mythical-server'"
            run(database, f"SELECT pg_terminate_backend(pid, 60000) {ours}")
            for _ in range(4):
                with pool.connection(60) as connection:
                    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_rejected_login_is_named_with_its_remedy(started: Fleet, ready: Service, database: Postgres) -> None:
    """The log has the cause once, and /readyz has it for the doctor. A password is used as it is, blanks included."""
    assert ready.process.running
    run(database, "DROP ROLE IF EXISTS keeper")
    run(database, "CREATE ROLE keeper SUPERUSER LOGIN PASSWORD ' p@ss:w/o%r?d#ü '")
    wrong = {"MYTHICAL_DATABASE_USER": "keeper", "MYTHICAL_DATABASE_PASSWORD": "p@ss:w/o%r?d#ü"}
    server = started.start("server", until="/healthz", **wrong)
    remedy = 'password authentication failed for user "keeper"; check MYTHICAL_DATABASE_USER and '
    eventually(lambda: remedy in json.loads(ask(server.base_url, "/readyz").body)["missing"]["database"])
    assert {response.status for response in requests(server)} == {503}
    assert server.process.tail(500).count("check MYTHICAL_DATABASE_USER and MYTHICAL_DATABASE_PASSWORD") == 1
    assert server.stop() == 0
    right = started.start("server", **wrong | {"MYTHICAL_DATABASE_PASSWORD": " p@ss:w/o%r?d#ü "})
    assert ask(right.base_url, "/unicorn").status == 200
    assert right.stop() == 0


@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        ("ALTER DATABASE {} SET default_transaction_read_only = on", "read-only transaction"),
        ("ALTER DATABASE {} SET search_path = nowhere", "no schema has been selected"),
        ("REVOKE CREATE ON SCHEMA public FROM public; ALTER DATABASE {} SET role = pg_monitor", "permission denied"),
    ],
)
def test_a_database_without_rights_or_schema_is_named_in_one_line(
    ready: Service, database: Postgres, tmp_path: Path, statement: str, cause: str
) -> None:
    """The log names the cause once, without a stack trace, and the server rejects requests."""
    assert ready.process.running
    with own_database(database) as name:
        for each in statement.format(name).split("; "):
            run(database, each, name)
        settings = database_settings(database, name) | {"MYTHICAL_SERVER_DATABASE_TEARDOWN_TIMEOUT": "1000"}
        with fleet(tmp_path, SILENT, settings) as servers:
            server = servers.start("server", until="/healthz")
            eventually(lambda: cause in server.process.tail(50), what="the cause in the log")
            assert ask(server.base_url, "/readyz").status == 503
            assert {response.status for response in requests(server)} == {503}
            log = server.process.tail(500).splitlines()
            assert len([line for line in log if 'msg="maintenance' in line and cause in line]) == 1
            assert "Traceback" not in server.process.tail(500)


def test_texts_are_the_same_in_a_database_without_an_encoding(
    database: Postgres, ready: Service, tmp_path: Path
) -> None:
    """Of SQL_ASCII, psycopg reads texts as bytes unless the client asks for UTF-8."""
    assert ready.process.running
    with (
        own_database(database, "ENCODING SQL_ASCII TEMPLATE template0") as name,
        fleet(tmp_path, SILENT, database_settings(database, name), {"FAULT_NULL_NAME": "0"}) as servers,
    ):
        server = servers.start("server")
        added = ask(server.base_url, "/unicorn", "POST", body=json.dumps({"name": "größe"}), headers=JSON)
        assert added.status == 201
        assert json.loads(ask(server.base_url, "/unicorn").body) == [{"name": "größe"}]
