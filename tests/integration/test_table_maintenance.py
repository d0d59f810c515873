"""The server's table maintenance: tables stay small, and are dropped and recreated once per period, under load."""

import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from opentelemetry.metrics import NoOpMeter
from opentelemetry.trace import NoOpTracer

from common.core.endpoints import MYTHICAL
from common.core.env import Env
from common.faults import Faults
from common.telemetry.settings import conventions
from local.servers.postgres import Postgres
from services.server.config import DAY_MS, Database
from services.server.sql_telemetry import StatementTracer
from services.server.store import ConnectionHealth, Store, make_pool
from services.server.table_maintenance import WIPES, TableMaintenance
from tests.integration.conftest import DEADLINE_S, Service, eventually
from tests.integration.service_support import JSON, SILENT, ask, database_settings, fleet, own_database, run

PERIOD_S = 1.0
WIPE_COUNT = 3
LAST = f"SELECT last FROM {WIPES}"  # noqa: S608 - a constant


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A separate database."""
    with own_database(postgres) as name:
        yield name


NO_FAULTS = Faults({}, random.Random(1))  # noqa: S311 - not for secrets


@contextmanager
def running_maintenance(postgres: Postgres, database: str, rows: int) -> Iterator[TableMaintenance]:
    """Run TableMaintenance with continuous trimming, without a service."""
    settings = Database(postgres.host, postgres.port, postgres.user, postgres.password, database, 1, 2000)
    health = ConnectionHealth()
    with make_pool(settings, health) as pool:
        spans = StatementTracer(NoOpTracer(), NoOpMeter("test"), settings, conventions(Env({})))
        store = Store(pool, health, spans, MYTHICAL.names, NO_FAULTS, statement_s=2.0)
        maintenance = TableMaintenance(
            store, NoOpTracer(), rows=rows, wipe_after_ms=DAY_MS, faults=NO_FAULTS, trim_every_s=0
        )
        maintenance.start()
        try:
            yield maintenance
        finally:
            maintenance.close()


def test_tables_keep_only_their_newest_rows(postgres: Postgres, database: str) -> None:
    """A table is trimmed to its limit, and the oldest rows are deleted."""
    with running_maintenance(postgres, database, rows=10) as maintenance:
        eventually(lambda: maintenance.ready)
        for beast in ("unicorn", "beholder"):
            run(postgres, f"INSERT INTO {beast} (name) SELECT 'n' || i FROM generate_series(1, 500) AS i", database)  # noqa: S608
        for beast in ("unicorn", "beholder"):
            names = f"SELECT name FROM {beast} ORDER BY id"  # noqa: S608 - a constant
            eventually(lambda names=names: len(run(postgres, names, database)) <= 10)  # type: ignore[misc]
            assert [name for (name,) in run(postgres, names, database)] == [f"n{i}" for i in range(491, 501)]
        assert maintenance.ready


class Load:
    """Callers of a server that add, read and delete continuously until stopped, and the statuses they get."""

    def __init__(self, servers: list[Service]) -> None:
        self.statuses: Counter[int] = Counter()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(server, f"{number}-{caller}"))
            for number, server in enumerate(servers)
            for caller in range(2)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, server: Service, caller: str) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            path = f"/{MYTHICAL.names[count % len(MYTHICAL.names)]}"
            body = json.dumps({"name": f"{caller} {count}"})
            self.statuses[ask(server.base_url, path, "POST", body=body, headers=JSON).status] += 1
            self.statuses[ask(server.base_url, path).status] += 1
            self.statuses[ask(server.base_url, path, "DELETE", body=body, headers=JSON).status] += 1


def test_two_replicas_wipe_once_per_period_without_errors(postgres: Postgres, database: str, tmp_path: Path) -> None:
    """Under load there is one wipe per period in total, each caller is served or gets 503, and all rows are deleted."""
    settings = {"FAULT_NULL_NAME": "0", "MYTHICAL_SERVER_DATABASE_TEARDOWN_TIMEOUT": f"{PERIOD_S * 1000:.0f}"}
    with fleet(tmp_path, SILENT, database_settings(postgres, database), settings) as started:
        replicas = [started.launch("server"), started.launch("server")]
        started.ready()
        for beast in MYTHICAL.names:
            run(postgres, f"INSERT INTO {beast} (name) VALUES ('from before')", database)  # noqa: S608 - a constant
        wipes = run(postgres, LAST, database)
        with Load(replicas) as load:
            end = time.monotonic() + DEADLINE_S
            while len(wipes) <= WIPE_COUNT:
                assert time.monotonic() < end, f"no {WIPE_COUNT} wipes within {DEADLINE_S:.0f} s: {wipes}"
                last = run(postgres, LAST, database)
                wipes += [each for each in last if each != wipes[-1]]
        assert {200, 201, 204} <= set(load.statuses) <= {200, 201, 204, 503}
        for beast in MYTHICAL.names:
            assert run(postgres, f"SELECT name FROM {beast} WHERE name = 'from before'", database) == []  # noqa: S608
    wipes += run(postgres, LAST, database)
    recreated = sum(replica.process.log.read_text().count("tables recreated") for replica in replicas)
    intervals = [later[0] - earlier[0] for earlier, later in itertools.pairwise(wipes[:-1])]
    assert min(intervals) >= timedelta(seconds=PERIOD_S)
    # More may have happened between two polls, while the load ended, and, once, before the first poll.
    assert WIPE_COUNT <= recreated <= (wipes[-1][0] - wipes[0][0]) / timedelta(seconds=PERIOD_S) + 1


def test_without_the_fault_nothing_is_wiped(postgres: Postgres, database: str, tmp_path: Path) -> None:
    """With FAULT_DAILY_WIPE=0 and a short period, rows stay; with the fault, the same rows are deleted at once."""
    settings = {"FAULT_NULL_NAME": "0", "MYTHICAL_SERVER_DATABASE_TEARDOWN_TIMEOUT": "50"}
    kept = "SELECT name FROM unicorn WHERE name = 'kept'"
    with fleet(tmp_path, SILENT, database_settings(postgres, database), settings) as started:
        without = started.start("server", FAULT_DAILY_WIPE="0")
        assert ask(without.base_url, "/unicorn", "POST", body='{"name": "kept"}', headers=JSON).status == 201
        (first,) = run(postgres, LAST, database)
        with Load([without]) as load:
            eventually(lambda: load.statuses[204] > 50)
        assert set(load.statuses) == {200, 201, 204}
        assert run(postgres, LAST, database) == [first]
        assert run(postgres, kept, database) == [("kept",)]
        started.start("server")
        eventually(lambda: run(postgres, kept, database) == [])
