"""The real Alloy measures Postgres with the role that compose creates for it, which isn't a superuser."""

import threading
from pathlib import Path

import psycopg

from doctor.metrics_text import SAMPLE, total
from local.servers.postgres import Postgres
from tests.integration.conftest import postgres, servers_folder
from tests.integration.database_roles import roles
from tests.integration.running import eventually
from tests.seams.dashboard_metrics import FROM_OTHERS
from tests.stack.alloy_running import environ, needs_alloy, running
from tools.query import send

__all__ = ["postgres", "servers_folder"]

pytestmark = needs_alloy

EXPORTER = "/api/v0/component/prometheus.exporter.postgres.mythical/metrics"
# These exist only while a session waits.
WHILE_WAITING = {"pg_blocked_sessions", "pg_waits_sessions"}
SHOWN = {name for name in FROM_OTHERS if name.startswith("pg_")} - WHILE_WAITING


def measured(folder: Path, dsn: str) -> str:
    """Return the metrics of Alloy's exporter once it reaches Postgres."""

    def poll() -> str:
        page = send(one.http + EXPORTER).text
        return page if total(page, "pg_up") == 1 else ""

    folder.mkdir()
    with running(folder, environ(folder, ALLOY_POSTGRES=f"{dsn}?sslmode=disable")) as one:
        return eventually(poll, what="Alloy does not reach Postgres")


def names(page: str) -> set[str]:
    """Return the names of the Postgres metrics in a text of metrics."""
    return {sample[1] for sample in SAMPLE.finditer(page) if sample[1].startswith("pg_")}


def test_the_role_has_all_metrics_of_a_superuser(postgres: Postgres, tmp_path: Path) -> None:
    """Each metric exists, including those of the dashboards, and no collector has an error."""
    with roles(postgres) as created:
        role = measured(tmp_path / "role", created.dsn("alloy"))
        superuser = measured(tmp_path / "superuser", created.superuser)
    assert names(role) ^ names(superuser) <= {"pg_waits_sessions"}
    assert len(SHOWN) > 10
    assert names(role) >= SHOWN | {"pg_exporter_last_scrape_error"}
    assert total(role, "pg_exporter_last_scrape_error") == 0
    assert total(role, "pg_wal_size_bytes") > 0


def test_alloy_measures_statements_waits_and_blocking_sessions(postgres: Postgres, tmp_path: Path) -> None:
    """The role reads no table, but each statement's text without literals, and the holder of a lock."""
    with (
        roles(postgres) as created,
        psycopg.connect(created.superuser, autocommit=True) as one,
        psycopg.connect(created.superuser, application_name="holder") as other,
    ):
        for _ in range(3):
            one.execute("SELECT name FROM unicorn WHERE name = 'secret_value'")
        one.execute("CREATE ROLE secretive PASSWORD 'secret_value'")
        one.execute("DROP ROLE secretive")
        other.execute("LOCK TABLE unicorn IN SHARE MODE")
        waiting = threading.Thread(target=one.execute, args=("DELETE FROM unicorn",))
        waiting.start()

        def poll() -> str:
            page = send(alloy.http + EXPORTER).text
            return page if "pg_blocked_sessions{" in page else ""

        tmp_path.mkdir(exist_ok=True)
        with running(tmp_path, environ(tmp_path, ALLOY_POSTGRES=f"{created.dsn('alloy')}?sslmode=disable")) as alloy:
            page = eventually(poll, what="a blocked session")
        other.rollback()
        waiting.join()
    series = [line for line in page.splitlines() if line.startswith(("pg_statements_", "pg_waits_", "pg_blocked_"))]
    (calls,) = [line for line in series if line.startswith("pg_statements_calls") and "WHERE name = $1" in line]
    assert calls.endswith(" 3")
    assert [line for line in series if 'wait_event_type="Lock"' in line]
    assert [line for line in series if 'holder="holder"' in line and 'holder_state="idle in transaction"' in line]
    assert "secret_value" not in page
    assert len(series) < 300
