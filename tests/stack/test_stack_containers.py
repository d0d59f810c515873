"""What compose promises of its containers, seen from this machine."""

import json
import shutil
import socket
import subprocess

import psycopg
import pytest

from tests.seams.compose_files import dotenv
from tests.stack import dashboards_asking
from tests.stack.backends import HOST, ROOT, Backends, port

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
def test_behind_every_published_page_is_a_program_that_is_ready(stack: Backends, variable: str) -> None:
    """By its own word."""
    assert stack.status(variable, PAGES[variable]) == 200


@pytest.mark.parametrize("variable", OTHERS)
@pytest.mark.usefixtures("stack")
def test_behind_every_other_published_port_someone_listens(variable: str) -> None:
    """Protocols that a GET cannot speak."""
    socket.create_connection((HOST, port(variable)), timeout=2).close()


@pytest.mark.usefixtures("stack")
def test_every_container_is_healthy() -> None:
    """By the word of Docker, for those that compose started here."""
    if not shutil.which("docker"):
        pytest.skip("docker is not here")
    listed = subprocess.run(
        ["docker", "compose", "ps", "--all", "--format", "json"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    containers = [json.loads(line) for line in listed.stdout.splitlines()]
    if not containers:
        pytest.skip("what answers was not started by compose from here")
    assert {each["Name"]: each["Health"] for each in containers if each["Health"] != "healthy"} == {}


@pytest.fixture
def reader(stack: Backends) -> psycopg.Connection:
    """Give a connection as Grafana's data source opens it."""
    return dashboards_asking.reader(stack)


def test_grafana_reads_the_tables(reader: psycopg.Connection) -> None:
    """Also after they were dropped and made anew."""
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
def test_grafana_changes_nothing(reader: psycopg.Connection, statement: str) -> None:
    """Even if it switches its own guard off first."""
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
