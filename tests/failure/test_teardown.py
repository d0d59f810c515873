"""All tables are dropped and recreated under load, with three replicas of which each could do it."""

import itertools
from datetime import timedelta
from pathlib import Path

import pytest

from common.core.endpoints import MYTHICAL
from local.servers.postgres import Postgres
from services.server.table_maintenance import WIPES
from tests.failure.calling import Callers
from tests.failure.conftest import Measured
from tests.integration.conftest import eventually
from tests.integration.service_support import SILENT, ask, database_settings, fleet, own_database, run

pytestmark = pytest.mark.timeout(180)

PERIOD_S = 3.0
WIPE_COUNT = 5
LAST = f"SELECT last FROM {WIPES}"  # noqa: S608 - a constant


def test_three_replicas_wipe_once_per_period_without_errors(
    postgres: Postgres, tmp_path: Path, measured: Measured
) -> None:
    """Only one replica wipes per period; each request succeeds or gets 503 with Retry-After; all tables exist."""
    settings = {"FAULT_NULL_NAME": "0", "MYTHICAL_SERVER_DATABASE_TEARDOWN_TIMEOUT": f"{PERIOD_S * 1000:.0f}"}
    with (
        own_database(postgres) as name,
        fleet(tmp_path, SILENT, database_settings(postgres, name), settings) as started,
    ):
        replicas = [started.launch("server") for _ in range(3)]
        started.ready()
        wipes = run(postgres, LAST, name)

        def next_wipe() -> bool:
            last = run(postgres, LAST, name)
            wipes.extend(each for each in last if each != wipes[-1])
            return len(wipes) > WIPE_COUNT

        with Callers(replicas, each=3) as callers:
            eventually(next_wipe, (WIPE_COUNT + 2) * PERIOD_S + 10)
        tables = [ask(replica.base_url, f"/{beast}").status for replica in replicas for beast in MYTHICAL.names]
        logs = [replica.process.log.read_text(encoding="utf-8") for replica in replicas]
    intervals = [(later[0] - earlier[0]).total_seconds() for earlier, later in itertools.pairwise(wipes)]
    by_replica = [log.count("tables recreated") for log in logs]
    measured(
        f"{len(intervals)} wipes, {min(intervals):.2f} s apart at the least (period {PERIOD_S:.0f} s), by replica "
        f"{by_replica}; responses {dict(sorted(callers.statuses.items()))}, slowest {callers.slowest_s:.1f} s"
    )
    assert timedelta(seconds=min(intervals)) >= timedelta(seconds=PERIOD_S)
    assert sum(by_replica) in (len(intervals), len(intervals) + 1)  # one more may have happened while the load ended
    assert set(callers.statuses) <= {200, 201, 204, 503}
    assert callers.statuses[503] < callers.statuses[200]
    assert callers.unavailable_without_retry_after == 0
    assert not callers.unanswered
    assert set(tables) <= {200, 503}
    assert 200 in tables
    assert not any("unhandled exception" in log or "maintenance failed" in log for log in logs)
