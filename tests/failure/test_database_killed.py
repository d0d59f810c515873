"""Postgres is killed, cut off and locked under load: no acknowledged write is lost, and nobody waits without end."""

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
PATIENCE_S = 1.0  # for a turn
BOUND_S = PATIENCE_S + CHECKOUT_S + STATEMENT_S + 1.0
BACK_S = 10.0
LOCKED_S = 10.0
POOL = 4  # connections of a server, as many as it works on requests at a time
OURS = "FROM pg_stat_activity WHERE application_name = 'mythical-server'"
SERVED = {200, 201, 204}


@pytest.fixture(scope="module")
def database(servers_folder: Path) -> Iterator[Postgres]:
    """A Postgres that may be killed."""
    with Postgres(servers_folder / "killed-database") as server:
        yield server


@pytest.fixture(scope="module")
def server(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server on it, without the planted fault: whatever is not served is the failure's doing."""
    folder = tmp_path_factory.mktemp("server")
    with fleet(folder, SILENT, database_settings(database), {"FAULT_NULL_NAME": "0"}) as servers:
        yield servers.start("server")


def assert_no_leak(database: Postgres) -> None:
    """Soon the database sees as many connections as the pool holds, and each of them idle."""
    eventually(lambda: run(database, f"SELECT count(*) {OURS}") == [(POOL,)], BACK_S)
    eventually(lambda: run(database, f"SELECT count(*) {OURS} AND state <> 'idle'") == [(0,)], BACK_S)


def test_no_acknowledged_write_is_lost_though_the_database_is_killed_again_and_again(
    server: Service, database: Postgres, kills: int, measured: Measured
) -> None:
    """By name: what was answered 201 is there, what was answered 204 is not; 503 with Retry-After meanwhile."""
    slowest_back_s = 0.0
    with Callers([server], each=6) as callers:
        for _ in range(kills):
            served = callers.statuses[201]
            eventually(lambda served=served: callers.statuses[201] > served + 100)  # type: ignore[misc]
            refused = callers.statuses[503]
            database.kill()
            eventually(lambda refused=refused: callers.statuses[503] > refused + 30)  # type: ignore[misc]
            database.start()
            since, served = time.monotonic(), callers.statuses[201]
            eventually(lambda: ask(server.base_url, "/readyz").status == 200, BACK_S)
            eventually(lambda served=served: callers.statuses[201] > served, BACK_S)  # type: ignore[misc]
            slowest_back_s = max(slowest_back_s, time.monotonic() - since)
    broken = callers.broken_promises(database)
    promised = sum(map(len, callers.kept.values())) + sum(map(len, callers.gone.values()))
    measured(
        f"{kills} kills, answers {dict(sorted(callers.statuses.items()))}, {promised} promises, {len(broken)} broken; "
        f"slowest answer {callers.slowest_s:.1f} s, ready {slowest_back_s:.1f} s after the database at the latest"
    )
    assert not broken
    assert set(callers.statuses) <= SERVED | {503}
    assert callers.refused_without_hint == 0
    assert not callers.unanswered
    assert callers.slowest_s < BOUND_S
    assert slowest_back_s < BACK_S
    assert server.process.running
    assert_no_leak(database)


def test_connections_that_are_cut_again_and_again_are_replaced(
    server: Service, database: Postgres, kills: int, measured: Measured
) -> None:
    """Every session is ended by the administrator, under load; the statements that were under way may fail."""
    eventually(lambda: ask(server.base_url, "/readyz").status == 200, BACK_S)
    with Callers([server], each=6) as callers:
        for _ in range(kills):
            served = callers.statuses[201]
            run(database, f"SELECT pg_terminate_backend(pid) {OURS}")
            eventually(lambda served=served: callers.statuses[201] > served + 30, BACK_S)  # type: ignore[misc]
    broken = callers.broken_promises(database)
    measured(
        f"{kills} cuts of all connections, answers {dict(sorted(callers.statuses.items()))}, {len(broken)} promises "
        f"broken, slowest answer {callers.slowest_s:.1f} s"
    )
    assert not broken
    assert set(callers.statuses) <= SERVED | {503}
    assert callers.slowest_s < BOUND_S
    assert_no_leak(database)


def test_a_long_lock_exhausts_the_pool_and_nobody_waits_without_end(
    server: Service, database: Postgres, measured: Measured
) -> None:
    """40 callers, half of them on a table that is locked for ten seconds: it is refused, the others are served."""
    with psycopg.connect(database.dsn) as other:
        other.execute("LOCK TABLE beholder IN ACCESS EXCLUSIVE MODE")
        stuck = Callers([server], each=20, beasts=["beholder"])
        free = Callers([server], each=20, beasts=["unicorn", "owlbear"])
        with stuck, free:
            threading.Event().wait(LOCKED_S)  # the length of the failure, not a wait for something
            during = dict(stuck.statuses)
            served = free.statuses[200]
            other.rollback()
            eventually(lambda: stuck.statuses[201] > 100, BACK_S)
    broken = stuck.broken_promises(database) + free.broken_promises(database)
    measured(
        f"on the locked table meanwhile {during}, on the others {served} GETs served; slowest answers "
        f"{stuck.slowest_s:.1f} s and {free.slowest_s:.1f} s (bound {BOUND_S:.0f} s); {len(broken)} promises broken"
    )
    assert set(during) == {503}
    assert served > LOCKED_S * 10
    assert not broken
    assert max(stuck.slowest_s, free.slowest_s) < BOUND_S
    assert stuck.refused_without_hint + free.refused_without_hint == 0
    assert not stuck.unanswered + free.unanswered
    assert_no_leak(database)
