"""The database roles of Grafana and Alloy, created by compose's scripts on a real Postgres, and then misused."""

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
FORBIDDEN = [
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
    """A database with the roles, one table, and another table in a separate schema."""
    with roles(postgres) as created:
        run(postgres, "CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.other (id int)", created.database)
        created.create()  # the scripts may run again at any time
        yield created


def test_grafana_reads_tables_that_exist_and_tables_created_later(database: Roles) -> None:
    """The server drops and recreates its tables each day."""
    run(database.postgres, "CREATE TABLE IF NOT EXISTS later (id int)", database.database)
    with database.connect("grafana") as connection:
        assert connection.execute("SELECT name FROM unicorn").fetchall() == [("amber",)]
        assert connection.execute("SELECT count(*) FROM later").fetchone() == (0,)


def test_alloy_reads_statistics_of_other_sessions_but_no_table(database: Roles) -> None:
    """Its exporter reads sessions, sizes, and the write-ahead log. They don't contain the values of statements."""
    with psycopg.connect(database.postgres.dsn, dbname=database.database) as other:
        other.execute("SELECT name FROM unicorn WHERE name = %s", ("a name of a beast",))
        with database.connect("alloy") as connection:
            pid = (other.info.backend_pid,)
            queries = connection.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", pid)
            assert queries.fetchall() == [("SELECT name FROM unicorn WHERE name = $1",)]
            assert connection.execute("SELECT sum(size) > 0 FROM pg_ls_waldir()").fetchone() == (True,)
            assert connection.execute("SELECT pg_database_size(current_database()) > 0").fetchone() == (True,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT name FROM unicorn")


@ROLES
@pytest.mark.parametrize("statement", WRITES)
def test_roles_cannot_write_after_leaving_read_only_mode(statement: str, role: str, database: Roles) -> None:
    """Any session may change that default, so the privileges have to prevent writes."""
    with database.connect(role) as connection:
        connection.execute("SET TRANSACTION READ WRITE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


@ROLES
@pytest.mark.parametrize("statement", FORBIDDEN)
def test_roles_cannot_access_anything_else(statement: str, role: str, database: Roles) -> None:
    """Other tables, files, and the sessions and locks of the services are denied."""
    with database.connect(role) as connection:
        connection.execute("SET TRANSACTION READ WRITE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


@pytest.mark.parametrize(("role", "after"), [("grafana", "5s"), ("alloy", "8s")])
def test_a_long_query_is_cancelled(role: str, after: str, database: Roles) -> None:
    """The role's own statement timeout applies, without a setting of the client."""
    with database.connect(role) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == (after,)
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
