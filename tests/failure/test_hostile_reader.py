"""The role by which Grafana reads: made by the script that compose runs, on a real Postgres, and then misused."""

import os
import secrets
import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from local.postgres import Postgres
from local.state import CHECKOUT
from tests.integration.service_support import own_database, run

SCRIPT = CHECKOUT / "postgres/reader.sql"
# The role belongs to the whole server, so this password is kept for the run.
PASSWORD = secrets.token_hex(8)

WRITES = [
    "INSERT INTO unicorn (name) VALUES ('mine')",
    "UPDATE unicorn SET name = 'mine'",
    "DELETE FROM unicorn",
    "TRUNCATE unicorn",
    "DROP TABLE unicorn",
    "ALTER TABLE unicorn ADD COLUMN mine int",
    "LOCK TABLE unicorn IN SHARE MODE",
    "CREATE TABLE mine (id int)",
    "CREATE SCHEMA mine",
    "CREATE TEMPORARY TABLE mine (id int)",
    "CREATE ROLE mine SUPERUSER",
    "ALTER ROLE grafana SUPERUSER",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'mine')",
]
CLOSED = [
    "SELECT * FROM elsewhere.other",
    "SELECT rolpassword FROM pg_authid",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY unicorn TO PROGRAM 'cat'",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT pg_try_advisory_lock(1)",
]


@pytest.fixture(scope="module")
def reader(postgres: Postgres) -> Iterator[str]:
    """Give the connection string of the role in a database with one table, and another in a schema of its own."""
    with own_database(postgres) as name:
        run(postgres, "CREATE TABLE unicorn (name text); INSERT INTO unicorn VALUES ('amber')", name)
        run(postgres, "CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.other (id int)", name)
        for _ in range(2):  # it may be run again at any time
            made(postgres, name)
        yield f"postgresql://grafana:{PASSWORD}@{postgres.host}:{postgres.port}/{name}"
        run(postgres, "DROP OWNED BY grafana", name)
    run(postgres, "DROP ROLE grafana")


def made(postgres: Postgres, database: str) -> None:
    """Run the script as the image does: by psql, as the superuser, with the password in the environment."""
    told = {"PGPASSWORD": postgres.password, "GRAFANA_DATABASE_PASSWORD": PASSWORD}
    where = ["-h", postgres.host, "-p", str(postgres.port), "-U", postgres.user, "-d", database]
    command = ["psql", "-X", "-v", "ON_ERROR_STOP=1", *where, "-f", str(SCRIPT)]
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr


def test_it_reads_the_tables_and_those_made_later(reader: str, postgres: Postgres) -> None:
    """The server wipes its tables and makes them anew each day."""
    name = conninfo_to_dict(reader)["dbname"]
    run(postgres, "CREATE TABLE IF NOT EXISTS later (id int)", str(name))
    with psycopg.connect(reader) as connection:
        assert connection.execute("SELECT name FROM unicorn").fetchall() == [("amber",)]
        assert connection.execute("SELECT count(*) FROM later").fetchone() == (0,)


@pytest.mark.parametrize("statement", WRITES)
def test_it_cannot_write_even_once_it_has_left_its_read_only_mode(statement: str, reader: str) -> None:
    """The mode is a default that any session may change: what stops a write has to be the rights."""
    with psycopg.connect(reader) as connection:
        connection.execute("SET TRANSACTION READ WRITE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


@pytest.mark.parametrize("statement", CLOSED)
def test_it_cannot_read_or_reach_anything_else(statement: str, reader: str) -> None:
    """Nor other tables, nor files, nor the sessions and locks of the services."""
    with psycopg.connect(reader) as connection:
        connection.execute("SET TRANSACTION READ WRITE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_a_query_that_takes_long_is_ended(reader: str) -> None:
    """After the five seconds that the role was given, with no word of the client."""
    with psycopg.connect(reader) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("5s",)
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
