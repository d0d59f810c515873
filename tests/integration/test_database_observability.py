"""From a request to its statement in Postgres: the comment, the statistics, the plan, and the log."""

import psycopg

from local.servers.postgres import Postgres
from tests.integration.conftest import Gateway, StartService, eventually
from tests.integration.service_support import ask, own_database, run, spans_of, traceparent

ON = {"MYTHICAL_SQL_COMMENTS": "true", "FAULT_NULL_NAME": "0"}


def test_a_session_shows_the_trace_of_its_statement(
    postgres: Postgres, service: StartService, gateway: Gateway
) -> None:
    """In pg_stat_activity: application, route and trace; the span has the process ID of that session."""
    with own_database(postgres) as database:
        server = service("server", MYTHICAL_DATABASE_NAME=database, **ON)
        trace_id, header = traceparent()
        seen = (
            "SELECT pid, query FROM pg_stat_activity WHERE query LIKE 'SELECT id, name%{}%' AND pid <> pg_backend_pid()"
        )

        def look() -> list[tuple[int, str]]:
            ask(server.base_url, "/unicorn", headers=header)  # each time: the session may have run another one since
            return run(postgres, seen.format(trace_id), database)

        pid, query = eventually(look)[0]
        assert "; /*application='mythical-server',route='%2F%3Cbeast%3E',traceparent='00-" in query
        spans = gateway.poll(lambda _: [one for one in spans_of(gateway, trace_id) if one["name"] == "SELECT unicorn"])
        assert str(pid) in {str(one["attributes"]["db.postgresql.backend_pid"]) for one in spans}


def test_statements_without_comments_stay_prepared(postgres: Postgres, service: StartService) -> None:
    """Off by default: psycopg prepares what it runs often, and no text has a comment."""
    with own_database(postgres) as database:
        server = service("server", MYTHICAL_DATABASE_NAME=database, MYTHICAL_DATABASE_CONNECTIONS="1")
        for _ in range(10):
            ask(server.base_url, "/unicorn")
        with psycopg.connect(postgres.dsn, dbname=database) as other:
            rows = other.execute("SELECT query FROM pg_stat_activity WHERE application_name = 'mythical-server'")
            assert not [query for (query,) in rows if "/*" in query]
