"""Postgres as the real Alloy measures it: by the role that compose makes for that, which is no superuser."""

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.postgres import Postgres
from tests.integration.conftest import postgres, servers_folder
from tests.integration.database_roles import Roles, roles
from tests.integration.running import eventually
from tests.seams.tree import ROOT
from tests.stack.alloy_running import environ, needs_alloy, running

__all__ = ["postgres", "servers_folder"]

pytestmark = needs_alloy

EXPORTER = "/api/v0/component/prometheus.exporter.postgres.mythical/metrics"
SHOWN = {
    name
    for board in (ROOT / "grafana").rglob("*.json")
    for name in re.findall(r"\bpg_(?:up|(?:database|locks|stat|wal)_[a-z_]+)", board.read_text(encoding="utf-8"))
} - {"pg_stat_activity", "pg_stat_user_tables"}  # tables that queries of their own read


@pytest.fixture
def measured_by(postgres: Postgres) -> Iterator[Roles]:
    """Give a database with the roles."""
    with roles(postgres) as made:
        yield made


def measured(folder: Path, dsn: str) -> dict[str, list[float]]:
    """Have Alloy measure Postgres: the values of each metric, once it reached it."""

    def look() -> dict[str, list[float]]:
        with urllib.request.urlopen(one.http + EXPORTER, timeout=10) as answer:  # noqa: S310 - our own Alloy
            lines = re.findall(r"^(pg_\w+)(?:\{.*\})? (\S+)$", answer.read().decode(), re.MULTILINE)
        found: dict[str, list[float]] = {}
        for name, value in lines:
            found.setdefault(name, []).append(float(value))
        return found if found.get("pg_up") == [1.0] else {}

    folder.mkdir()
    with running(folder, environ(folder, ALLOY_POSTGRES=f"{dsn}?sslmode=disable")) as one:
        return eventually(look, what="Alloy does not reach Postgres")


def test_the_role_sees_all_that_a_superuser_sees(measured_by: Roles, tmp_path: Path) -> None:
    """Each metric, and without an error of any collector; those of the dashboards among them."""
    superuser = measured_by.postgres.dsn.rpartition("/")[0] + f"/{measured_by.database}"
    role = measured(tmp_path / "role", measured_by.dsn("alloy"))
    assert role.keys() == measured(tmp_path / "superuser", superuser).keys()
    assert len(SHOWN) > 10
    assert role.keys() >= SHOWN
    assert role["pg_exporter_last_scrape_error"] == [0.0]
    assert role["pg_wal_size_bytes"][0] > 0
