"""Postgres is killed, disconnected and locked under load: no acknowledged write is lost, and no request hangs."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from local.servers.postgres import Postgres
from services.server.store import CHECKOUT_S
from tests.failure.calling import Callers
from tests.failure.conftest import Measured
from tests.integration.conftest import Service, eventually
from tests.integration.service_support import SILENT, ask, database_settings, fleet, run

pytestmark = pytest.mark.timeout(900)

STATEMENT_S = 2.0  # the server's own limit
QUEUE_S = 1.0  # the longest wait for a free thread
MAX_RESPONSE_S = QUEUE_S + CHECKOUT_S + STATEMENT_S + 1.0
RECOVERY_S = 10.0
LOCKED_S = 10.0
POOL = 4  # connections of a server, as many as the requests that it processes concurrently
SESSIONS = "FROM pg_stat_activity WHERE application_name = 'mythical-server'"
SUCCESS = {200, 201, 204}


@pytest.fixture(scope="module")
def database(servers_folder: Path) -> Iterator[Postgres]:
    """A Postgres that may be killed."""
    with Postgres(servers_folder / "killed-database") as server:
        yield server


@pytest.fixture(scope="module")
def server(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server on that database, without injected faults: every failed request has its cause in the outage."""
    folder = tmp_path_factory.mktemp("server")
    with fleet(folder, SILENT, database_settings(database), {"FAULT_NULL_NAME": "0"}) as servers:
        yield servers.start("server")


def assert_no_leak(database: Postgres) -> None:
    """Wait until the database has as many connections as the pool, all of them idle."""
    eventually(lambda: run(database, f"SELECT count(*) {SESSIONS}") == [(POOL,)], RECOVERY_S)
    eventually(lambda: run(database, f"SELECT count(*) {SESSIONS} AND state <> 'idle'") == [(0,)], RECOVERY_S)


def test_no_acknowledged_write_is_lost_when_the_database_is_killed_repeatedly(
    server: Service, database: Postgres, kills: int, measured: Measured
) -> None:
    """Names answered with 201 are stored, names answered with 204 are not; meanwhile 503 with Retry-After."""
    slowest_recovery_s = 0.0
    with Callers([server], each=6) as callers:
        for _ in range(kills):
            served = callers.statuses[201]
            eventually(lambda served=served: callers.statuses[201] > served + 100)  # type: ignore[misc]
            unavailable = callers.statuses[503]
            database.kill()
            eventually(lambda unavailable=unavailable: callers.statuses[503] > unavailable + 30)  # type: ignore[misc]
            database.start()
            started, served = time.monotonic(), callers.statuses[201]
            eventually(lambda: ask(server.base_url, "/readyz").status == 200, RECOVERY_S)
            eventually(lambda served=served: callers.statuses[201] > served, RECOVERY_S)  # type: ignore[misc]
            slowest_recovery_s = max(slowest_recovery_s, time.monotonic() - started)
    violations = callers.broken_guarantees(database)
    guarantees = sum(map(len, callers.stored.values())) + sum(map(len, callers.deleted.values()))
    measured(
        f"{kills} kills, responses {dict(sorted(callers.statuses.items()))}, {guarantees} guarantees, "
        f"{len(violations)} violated; "
        f"slowest response {callers.slowest_s:.1f} s, ready {slowest_recovery_s:.1f} s after the database at the latest"
    )
    assert not violations
    assert set(callers.statuses) <= SUCCESS | {503}
    assert callers.unavailable_without_retry_after == 0
    assert not callers.unanswered
    assert callers.slowest_s < MAX_RESPONSE_S
    assert slowest_recovery_s < RECOVERY_S
    assert server.process.running
    assert_no_leak(database)


def test_terminated_connections_are_replaced(
    server: Service, database: Postgres, kills: int, measured: Measured
) -> None:
    """An administrator terminates every session, repeatedly and under load; only statements in progress may fail."""
    eventually(lambda: ask(server.base_url, "/readyz").status == 200, RECOVERY_S)
    with Callers([server], each=6) as callers:
        for _ in range(kills):
            served = callers.statuses[201]
            run(database, f"SELECT pg_terminate_backend(pid) {SESSIONS}")
            eventually(lambda served=served: callers.statuses[201] > served + 30, RECOVERY_S)  # type: ignore[misc]
    violations = callers.broken_guarantees(database)
    measured(
        f"{kills} terminations of all connections, responses {dict(sorted(callers.statuses.items()))}, "
        f"{len(violations)} guarantees violated, slowest response {callers.slowest_s:.1f} s"
    )
    assert not violations
    assert set(callers.statuses) <= SUCCESS | {503}
    assert callers.slowest_s < MAX_RESPONSE_S
    assert_no_leak(database)


def test_requests_do_not_hang_when_a_long_lock_exhausts_the_pool(
    server: Service, database: Postgres, measured: Measured
) -> None:
    """Of 40 callers, half use a table that is locked for ten seconds: they get 503, the others are served."""
    with psycopg.connect(database.dsn) as other:
        other.execute("LOCK TABLE beholder IN ACCESS EXCLUSIVE MODE")
        blocked = Callers([server], each=20, beasts=["beholder"])
        others = Callers([server], each=20, beasts=["unicorn", "owlbear"])
        with blocked, others:
            threading.Event().wait(LOCKED_S)  # the length of the outage, not a wait for an event
            during = dict(blocked.statuses)
            served = others.statuses[200]
            other.rollback()
            eventually(lambda: blocked.statuses[201] > 100, RECOVERY_S)
    violations = blocked.broken_guarantees(database) + others.broken_guarantees(database)
    measured(
        f"on the locked table meanwhile {during}, on the others {served} GETs served; slowest responses "
        f"{blocked.slowest_s:.1f} s and {others.slowest_s:.1f} s (limit {MAX_RESPONSE_S:.0f} s); {len(violations)} "
        "guarantees violated"
    )
    assert set(during) == {503}
    assert served > LOCKED_S * 10
    assert not violations
    assert max(blocked.slowest_s, others.slowest_s) < MAX_RESPONSE_S
    assert blocked.unavailable_without_retry_after + others.unavailable_without_retry_after == 0
    assert not blocked.unanswered + others.unanswered
    assert_no_leak(database)
