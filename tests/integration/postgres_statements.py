"""Statements whose messages in Postgres's log contain a value, at each place where Postgres writes one."""

from contextlib import suppress

import psycopg

from local.servers.postgres import Postgres
from tests.integration.service_support import own_database

SECRET = "secret_in_a_statement"
TRACE_ID = "5a" * 16
COMMENT = f"; /*application='test',traceparent='00-{TRACE_ID}-{'5b' * 8}-01'*/".encode()
FAIL = (
    "SELECT 'SECRET'::int",
    "SELECT 'SECRET",
    'SELECT "SECRET"',
    "INSERT INTO beast (name) VALUES ('SECRET')",
    "INSERT INTO beast (name) VALUES (NULL), ('SECRET')",
    "INSERT INTO beast (name) VALUES ('SECRET SECRET SECRET SECRET')",
    """DO $$ BEGIN RAISE WARNING '"%" is here', 'SECRET'; END $$""",
)
SLOW = (
    "SELECT name FROM beast WHERE name = 'SECRET' AND id < 4711 AND length(name) > -3 OR id IN (1, 2, 3)",
    "SELECT name,\n  id FROM beast WHERE name IN ('SECRET', 'it''s SECRET', E'a\\nSECRET') LIMIT 20",
    "WITH word AS (SELECT 'SECRET' AS word) SELECT word FROM word WHERE word > 'SECRET'",
)


def filled(statement: str) -> bytes:
    """Return a statement with the secret inserted."""
    return statement.replace("SECRET", SECRET).encode()


def log_secrets(postgres: Postgres) -> None:
    """Make Postgres log errors, plans, statements, and a wait for a lock, with the secret in each."""
    with (
        own_database(postgres) as name,
        psycopg.connect(postgres.dsn, dbname=name, autocommit=True) as one,
        psycopg.connect(postgres.dsn, dbname=name) as other,
    ):
        one.execute("CREATE TABLE beast (id serial PRIMARY KEY, name varchar(50) UNIQUE NOT NULL)")
        one.execute("INSERT INTO beast (name) VALUES (%s)", (SECRET,))
        one.execute("SET auto_explain.log_min_duration = 0")
        for statement in (*SLOW, *FAIL):
            with suppress(psycopg.Error):
                one.execute(filled(statement) + COMMENT)
        one.execute(
            "SET auto_explain.log_min_duration = -1; SET log_statement = 'all'; SET log_min_duration_statement = 0"
        )
        for _ in range(2):
            one.execute(filled(SLOW[0]), prepare=True)
        one.execute("SET log_statement = 'none'; SET log_min_duration_statement = -1; SET lock_timeout = '400ms'")
        other.execute("LOCK TABLE beast")
        with suppress(psycopg.errors.LockNotAvailable):
            one.execute(filled(FAIL[3]) + COMMENT)
