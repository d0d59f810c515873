"""What the server does while its database is unavailable, busy or broken, and afterwards, on a separate Postgres."""

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
    run,
    silent_server,
)

STATEMENT_S = 0.6  # the servers' statement timeout; a lock is waited for half as long
BACK_S = 60.0  # after the database is back, requests are served again within this time
BOUND_S = CHECKOUT_S + STATEMENT_S + 10.0  # the longest that a request may take; the rest is for a busy machine


@pytest.fixture(scope="module")
def database(servers_folder: Path) -> Iterator[Postgres]:
    """A Postgres that may be stopped and killed. It does not run yet."""
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
    """The same server, with its database there."""
    if not database.process.running:
        start(database)
    eventually(lambda: ask(server.base_url, "/readyz").status == 200)
    return server


def start(database: Postgres) -> None:
    """Start the database; if it does not start, show what it says itself."""
    try:
        database.start()
    except LocalError as fault:
        pytest.fail(f"{fault}\n{fault.detail}")


def requests(server: Service) -> list[Response]:
    """One request of each kind."""
    body = json.dumps({"name": "while down"})
    return [
        ask(server.base_url, "/unicorn"),
        ask(server.base_url, "/unicorn", "POST", body=body, headers=JSON),
        ask(server.base_url, "/unicorn", "DELETE", body=body, headers=JSON),
    ]


def assert_away(server: Service) -> None:
    """Each request is refused in time with 503 and Retry-After; the process lives, and says that it is not ready."""
    before = time.monotonic()
    for answer in requests(server):
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
    assert time.monotonic() - before < 3 * BOUND_S
    assert ask(server.base_url, "/healthz").status == 200
    eventually(lambda: ask(server.base_url, "/readyz").status == 503, BACK_S)


def assert_refused_at_once(server: Service) -> None:
    """Once the pool has found that it cannot connect, no request waits for a connection: many arrive at once."""
    eventually(lambda: b"The database is unavailable. Retry after 1 second." in ask(server.base_url, "/unicorn").body)
    before = time.monotonic()
    answers = [ask(server.base_url, "/unicorn") for _ in range(20)]
    assert {answer.status for answer in answers} == {503}
    assert time.monotonic() - before < 20 * CHECKOUT_S / 2


def assert_back(server: Service, since: float) -> None:
    """Soon each request is served again, by the same process."""
    eventually(lambda: ask(server.base_url, "/readyz").status == 200, BACK_S)
    eventually(lambda: [answer.status for answer in requests(server)] == [200, 201, 204], BACK_S)
    assert time.monotonic() - since < BACK_S
    assert server.process.running


def test_the_server_starts_while_the_database_is_away_and_becomes_ready(server: Service, database: Postgres) -> None:
    """The order of starting does not matter."""
    assert_away(server)
    start(database)
    assert_back(server, time.monotonic())


def test_a_stop_of_the_database_is_survived(ready: Service, database: Postgres) -> None:
    """Stopped in good order, as for an update: 503 meanwhile, then as before."""
    assert ask(ready.base_url, "/owlbear", "POST", body='{"name": "kept"}', headers=JSON).status in (201, 409)
    database.stop()
    assert_away(ready)
    assert_refused_at_once(ready)
    start(database)
    assert_back(ready, time.monotonic())
    assert b"kept" in ask(ready.base_url, "/owlbear").body


def test_a_crash_of_the_database_under_load_loses_nothing_acknowledged(ready: Service, database: Postgres) -> None:
    """SIGKILL while eight callers add names: each sees 201 or 503, and every 201 is there after."""

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
    assert_back(ready, time.monotonic())
    assert {status for _, status in results} == {201, 503}
    kept = {name for (name,) in run(database, "SELECT name FROM illithid")}
    assert {name for name, status in results if status == 201} <= kept


def test_connections_that_were_cut_are_replaced(ready: Service, database: Postgres) -> None:
    """Every session ended by the administrator: at worst, a request with a dead connection gets 503."""
    run(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mythical-server'")
    statuses = {answer.status for answer in requests(ready)}
    assert statuses <= {200, 201, 204, 503}
    assert_back(ready, time.monotonic())


def test_a_lock_held_by_someone_else_is_not_waited_for_without_end(ready: Service, database: Postgres) -> None:
    """The statement is ended by the database itself, the caller gets 503, and other tables are served meanwhile."""
    with psycopg.connect(database.dsn) as other:
        other.execute("LOCK TABLE beholder IN ACCESS EXCLUSIVE MODE")
        before = time.monotonic()
        answer = ask(ready.base_url, "/beholder")
        took_s = time.monotonic() - before
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert took_s < BOUND_S
        assert ask(ready.base_url, "/owlbear").status == 200
    eventually(lambda: ask(ready.base_url, "/beholder").status == 200, BACK_S)


def test_a_pool_that_is_exhausted_refuses_quickly(ready: Service, database: Postgres) -> None:
    """Many callers at once on a locked table: all are answered in bounded time, and afterwards nothing is leaked."""
    with psycopg.connect(database.dsn) as other:
        other.execute("LOCK TABLE beholder IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(24) as callers:
            before = time.monotonic()
            answers = list(callers.map(lambda _: ask(ready.base_url, "/beholder", timeout_s=60), range(48)))
            took_s = time.monotonic() - before
        assert {answer.status for answer in answers} == {503}
        # Four threads, each of which waits for the lock or a connection: 48 requests are 12 rounds of that at most.
        assert took_s < 12 * (CHECKOUT_S + STATEMENT_S) + 15
    assert_back(ready, time.monotonic())
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mythical-server' AND state <> 'idle'"
    eventually(lambda: run(database, count) == [(0,)], BACK_S)


def test_a_server_in_the_middle_of_an_outage_stops_in_good_order(started: Fleet, database: Postgres) -> None:
    """With neither database nor collector there, SIGTERM still ends it in time with exit code 0."""
    database.stop()
    stranded = started.start("server", until="/healthz")
    assert ask(stranded.base_url, "/unicorn").status == 503
    assert stranded.stop() == 0


def test_a_server_whose_partners_all_hang_ends_in_time(tmp_path: Path) -> None:
    """A database and a collector that take connections and never answer: SIGTERM ends it, with exit code 0."""
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


def test_tables_that_someone_dropped_are_made_anew(ready: Service, database: Postgres) -> None:
    """Without a restart: a request without tables gets 503, and soon one is served."""
    run(database, "DROP TABLE unicorn, owlbear")
    assert ask(ready.base_url, "/owlbear").status == 503
    assert_back(ready, time.monotonic())
    assert ask(ready.base_url, "/owlbear").status == 200


def test_callers_that_waited_in_vain_do_not_shut_the_pool(database: Postgres) -> None:
    """After an outage longer than its patience, with more callers than may wait, the pool connects again by itself."""
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
        eventually(reads, BACK_S)
