"""The published ports, health and database role of compose's containers."""

import socket
from typing import Any

import psycopg
import pytest

from tests.seams.compose_files import dotenv
from tests.stack import dashboard_queries
from tests.stack.backends import HOST, Backends, port

PAGES = {
    "SERVER_PORT": "/readyz",
    "REQUESTER_PORT": "/readyz",
    "RECORDER_PORT": "/readyz",
    "FRONTEND_PORT": "/readyz",
    "TEMPO_PORT": "/ready",
    "LOKI_PORT": "/ready",
    "MIMIR_PORT": "/ready",
    "PYROSCOPE_PORT": "/ready",
    "ALLOY_PAGES_PORT": "/-/ready",
    "GRAFANA_PORT": "/api/health",
    "QUEUE_PAGES_PORT": "/",
    "LOAD_PORT": "/",
    "WORKSHOP_PORT": "/",
}
OTHERS = ("DATABASE_PORT", "QUEUE_PORT", "OTLP_GRPC_PORT", "OTLP_HTTP_PORT", "FARO_PORT")


@pytest.mark.parametrize("variable", PAGES)
def test_every_published_http_port_is_ready(stack: Backends, variable: str) -> None:
    """The program's readiness endpoint answers with 200."""
    assert stack.status(variable, PAGES[variable]) == 200


@pytest.mark.parametrize("variable", OTHERS)
@pytest.mark.usefixtures("stack")
def test_every_other_published_port_accepts_connections(variable: str) -> None:
    """These ports use other protocols than HTTP."""
    socket.create_connection((HOST, port(variable)), timeout=2).close()


def test_every_container_is_healthy(containers: list[dict[str, Any]]) -> None:
    """Docker reports the health of the containers that compose started here."""
    assert {each["Name"]: each["Health"] for each in containers if each["Health"] != "healthy"} == {}


@pytest.fixture
def reader(stack: Backends) -> psycopg.Connection:
    """A connection with the role of Grafana's data source."""
    return dashboard_queries.reader(stack)


def test_grafana_reads_the_tables(reader: psycopg.Connection) -> None:
    """It can read them also after they were dropped and recreated."""
    with reader:
        assert reader.execute("SELECT count(*) FROM unicorn").fetchone()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM unicorn",
        "DROP TABLE unicorn",
        "CREATE TABLE mine (n int)",
        "CREATE ROLE other",
        "COPY unicorn TO PROGRAM 'true'",
    ],
)
def test_grafana_cannot_write(reader: psycopg.Connection, statement: str) -> None:
    """It can't even after it has disabled its read-only mode."""
    with reader:
        reader.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(statement)


@pytest.mark.parametrize("app", [app.partition("@")[0] for app in dotenv()["DRILLDOWN_APPS"].split()])
def test_drilldown_apps_in_the_image_are_enabled(stack: Backends, app: str) -> None:
    """Without provisioning, and for viewers; an app that could not be downloaded is not in the image."""
    if stack.status("GRAFANA_PORT", f"/api/plugins/{app}/settings") == 404:
        pytest.skip(f"the image was built without {app}")
    assert stack.fetch("GRAFANA_PORT", f"/api/plugins/{app}/settings")["enabled"] is True
