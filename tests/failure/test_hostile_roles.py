"""The roles by which Grafana reads and Alloy measures: made by compose's scripts on a real Postgres, then misused."""

from collections.abc import Iterator

import psycopg
import pytest

from local.servers.postgres import Postgres
from tests.integration.database_roles import PASSWORDS, Roles, roles
from tests.integration.service_support import run

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
    "ALTER ROLE alloy SUPERUSER",
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
ROLES = pytest.mark.parametrize("role", list(PASSWORDS))


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Roles]:
    """Give a database with the roles, one table, and another in a schema of its own."""
    with roles(postgres) as made:
        run(postgres, "CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.other (id int)", made.database)
        made.make()  # the scripts may be run again at any time
        yield made


def test_grafana_reads_the_tables_and_those_made_later(database: Roles) -> None:
    """The server wipes its tables and makes them anew each day."""
    run(database.postgres, "CREATE TABLE IF NOT EXISTS later (id int)", database.database)
    with database.connect("grafana") as connection:
        assert connection.execute("SELECT name FROM unicorn").fetchall() == [("amber",)]
        assert connection.execute("SELECT count(*) FROM later").fetchone() == (0,)


def test_alloy_reads_the_statistics_of_others_and_no_table(database: Roles) -> None:
    """What its exporter asks for: sessions, sizes, the write-ahead log. The values of statements are not in them."""
    with psycopg.connect(database.postgres.dsn, dbname=database.database) as other:
        other.execute("SELECT name FROM unicorn WHERE name = %s", ("a name of a beast",))
        with database.connect("alloy") as connection:
            of = (other.info.backend_pid,)
            seen = connection.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", of)
            assert seen.fetchall() == [("SELECT name FROM unicorn WHERE name = $1",)]
            assert connection.execute("SELECT sum(size) > 0 FROM pg_ls_waldir()").fetchone() == (True,)
            assert connection.execute("SELECT pg_database_size(current_database()) > 0").fetchone() == (True,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT name FROM unicorn")


@ROLES
@pytest.mark.parametrize("statement", WRITES)
def test_they_cannot_write_even_once_they_have_left_their_read_only_mode(
    statement: str, role: str, database: Roles
) -> None:
    """The mode is a default that any session may change: what stops a write has to be the rights."""
    with database.connect(role) as connection:
        connection.execute("SET TRANSACTION READ WRITE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


@ROLES
@pytest.mark.parametrize("statement", CLOSED)
def test_they_cannot_read_or_reach_anything_else(statement: str, role: str, database: Roles) -> None:
    """Nor other tables, nor files, nor the sessions and locks of the services."""
    with database.connect(role) as connection:
        connection.execute("SET TRANSACTION READ WRITE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


@pytest.mark.parametrize(("role", "after"), [("grafana", "5s"), ("alloy", "8s")])
def test_a_query_that_takes_long_is_ended(role: str, after: str, database: Roles) -> None:
    """After the seconds that the role was given, with no word of the client."""
    with database.connect(role) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == (after,)
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
