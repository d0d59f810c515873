"""From a request to its statement in Postgres: the comment, the statistics, the plan, the lock, and the log."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local.ports import LOOPBACK
from local.postgres_log import PostgresLog, entries
from local.servers import postgres as local_postgres
from local.servers.binaries import postgres_binary
from local.servers.postgres import OBSERVED, SETTING, Postgres, observed
from tests.integration.conftest import Gateway, Service, StartService, eventually
from tests.integration.postgres_statements import SECRET, TRACE_ID, say_it_all
from tests.integration.service_support import JSON, ask, own_database, run, spans_of, traceparent

SIGNALS = ("traces", "spans", "logs", "metrics", "profiles")


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """Give the name of a database of the test's own."""
    with own_database(postgres) as name:
        yield name


@pytest.fixture
def server(service: StartService, database: str, gateway: Gateway, postgres: Postgres) -> Iterator[Service]:
    """Give a server whose statements have comments, and send Postgres's log to the gateway."""
    with PostgresLog(postgres.process.log, f"http://{LOOPBACK}:{gateway.ports['loki']}/loki/api/v1/push"):
        yield service(
            "server",
            MYTHICAL_DATABASE_NAME=database,
            MYTHICAL_SQL_COMMENTS="true",
            FAULT_NULL_NAME="0",
            FAULTS_CONTROL="true",
        )


def add(server: Service, name: str, headers: dict[str, str] | None = None) -> int:
    """Add a unicorn; return the status."""
    body = json.dumps({"name": name})
    return ask(server.base_url, "/unicorn", method="POST", body=body, headers=JSON | (headers or {})).status


def inject(server: Service, fault: str) -> None:
    """Set a fault of the server to 1."""
    answer = ask(server.base_url, f"/faults/{fault}", method="PUT", body='{"strength": 1, "seconds": 60}', headers=JSON)
    assert answer.status < 300, answer.text


def lines_of(gateway: Gateway, trace_id: str) -> list[dict[str, Any]]:
    """The lines of Postgres about a trace."""
    found: list[dict[str, Any]] = gateway.get("logs", service="postgres", trace_id=trace_id)
    return found


def test_a_session_shows_the_trace_of_its_statement(
    server: Service, postgres: Postgres, database: str, gateway: Gateway
) -> None:
    """In pg_stat_activity: application, route and trace; the span has the process ID of that session."""
    trace_id, header = traceparent()
    seen = "SELECT pid, query FROM pg_stat_activity WHERE query LIKE 'SELECT id, name%{}%' AND pid <> pg_backend_pid()"

    def look() -> list[tuple[int, str]]:
        ask(server.base_url, "/unicorn", headers=header)  # each time: the session may have run another one since
        return run(postgres, seen.format(trace_id), database)

    pid, query = eventually(look)[0]
    assert "; /*application='mythical-server',route='%2F%3Cbeast%3E',traceparent='00-" in query
    spans = gateway.poll(lambda _: [one for one in spans_of(gateway, trace_id) if one["name"] == "SELECT unicorn"])
    assert str(pid) in {str(one["attributes"]["db.postgresql.backend_pid"]) for one in spans}


def test_statistics_group_statements_that_differ_in_their_comments(
    server: Service, postgres: Postgres, database: str
) -> None:
    """One row with all calls, whose text has no comment: a trace ID there would be that of some old request."""
    for _ in range(8):
        assert ask(server.base_url, "/unicorn").status == 200
    seen = """SELECT calls, query FROM pg_stat_statements WHERE query LIKE 'SELECT id, name FROM "unicorn"%'
        AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    rows = run(postgres, seen, database)
    assert rows == [(8, 'SELECT id, name FROM "unicorn" ORDER BY id DESC LIMIT $1')]


def test_without_comments_statements_stay_prepared(postgres: Postgres, service: StartService, database: str) -> None:
    """Off by default: psycopg prepares what it runs often, and no text has a comment."""
    server = service("server", MYTHICAL_DATABASE_NAME=database, MYTHICAL_DATABASE_CONNECTIONS="1")
    for _ in range(10):
        ask(server.base_url, "/unicorn")
    with psycopg.connect(postgres.dsn, dbname=database) as other:
        rows = other.execute("SELECT query FROM pg_stat_activity WHERE application_name = 'mythical-server'")
        assert not [query for (query,) in rows if "/*" in query]


def test_a_slow_request_leads_to_its_plan_in_the_log(
    server: Service, postgres: Postgres, database: str, gateway: Gateway
) -> None:
    """The trace finds the line of Postgres, with level, duration and statement; the statistics have that statement."""
    inject(server, "slow_query")
    assert add(server, "one") == 201  # Postgres does not sleep for an empty table
    trace_id, header = traceparent()
    assert ask(server.base_url, "/unicorn", headers=header).status == 200
    (line,) = gateway.poll(lambda _: lines_of(gateway, trace_id))
    assert line["labels"]["level"] == "info"
    assert float(line["metadata"]["duration_ms"]) > 100
    assert "Function Scan on pg_sleep slow" in line["line"]
    statement = f"SELECT query FROM pg_stat_statements WHERE queryid = {int(line['metadata']['query_id'])}"  # noqa: S608
    rows = run(postgres, statement, database)
    assert rows
    assert all("pg_sleep" in query for (query,) in rows)


def test_a_waiting_request_leads_to_the_trace_that_holds_the_lock(server: Service, gateway: Gateway) -> None:
    """Its line names the session that holds the lock; a span of another trace has that session's process ID."""
    inject(server, "lock_contention")
    added: list[str] = []

    def look() -> list[dict[str, Any]]:
        """Return the lines about one of the requests so far: a line arrives a second or two after its request."""
        trace_id, header = traceparent()
        add(server, f"one_{trace_id[:8]}", header)
        added.append(trace_id)
        waiting = ([line for line in lines_of(gateway, each) if "still waiting for" in line["line"]] for each in added)
        return next(filter(None, waiting), [])

    (line,) = eventually(look)
    held = re.search(r"holding the lock: (\d+)\.", line["line"])
    assert held, line
    spans = gateway.poll(
        lambda _: [
            span
            for span in gateway.get("spans", name="LOCK all")
            if str(span["attributes"]["db.postgresql.backend_pid"]) == held[1]
        ]
    )
    assert all(span["trace_id"] != line["metadata"]["trace_id"] for span in spans)


def test_no_signal_has_a_value_of_a_statement(server: Service, postgres: Postgres, gateway: Gateway) -> None:
    """A name that is added, twice, too long, and in plans and errors of Postgres, is in nothing that was received."""
    inject(server, "slow_query")
    assert [add(server, SECRET), add(server, SECRET)] == [201, 409]
    assert ask(server.base_url, "/unicorn").text.count(SECRET) == 1
    assert add(server, SECRET * 9) >= 400
    say_it_all(postgres)
    gateway.poll(lambda _: lines_of(gateway, TRACE_ID))
    gateway.poll(lambda _: gateway.get("metrics", service="mythical-server", name="db.client.operation.duration"))
    assert SECRET in postgres.process.log.read_text(encoding="utf-8")
    for signal in SIGNALS:
        assert SECRET not in json.dumps(gateway.get(signal, limit=10_000)), signal


def test_a_postgres_without_the_libraries_starts_and_the_server_says_so(
    service: StartService, monkeypatch: pytest.MonkeyPatch, servers_folder: Path
) -> None:
    """Some distributions have them in another package: one line of the server names what is missing."""
    monkeypatch.setattr(local_postgres, "LIBRARIES", "log_timezone")
    settings = observed(postgres_binary("postgres"))
    assert "log_timezone" not in settings
    settings = {key: value for key, value in settings.items() if key != "shared_preload_libraries"}
    monkeypatch.setattr(local_postgres, "observed", lambda _: settings)
    with Postgres(servers_folder / "bare") as bare:
        server = service("server", MYTHICAL_DATABASE_HOST_PORT=str(bare.port), OTEL_LOGS_EXPORTER="console")
        assert ask(server.base_url, "/unicorn").status == 200
        lines = [line for line in server.process.tail(100).splitlines() if "no statistics of statements" in line]
    assert len(lines) == 1
    assert "shared_preload_libraries" in lines[0]


def test_the_settings_of_the_file_are_in_effect(postgres: Postgres, database: str) -> None:
    """Of the file that Compose mounts: each setting that this version of Postgres has."""
    for name, value in SETTING.findall(OBSERVED.read_text(encoding="utf-8")):
        rows = run(postgres, f"SELECT current_setting('{name}', true)", database)
        if name != "include_if_exists":
            assert rows in ([(value,)], [(None,)]), name


def test_the_file_includes_the_settings_of_the_image(servers_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were made with the data are in effect too, as are the rules for passwords: it can be queried."""
    folder = servers_folder / "included"
    with Postgres(folder):
        (data,) = folder.glob("data-*")
    whole = folder / "whole.conf"
    text = OBSERVED.read_text(encoding="utf-8")
    whole.write_text(text.replace("/var/lib/postgresql/data/postgresql.conf", str(data / "postgresql.conf")))
    whole.chmod(0o644)
    monkeypatch.setattr(local_postgres, "observed", lambda _: {"config_file": str(whole)})
    with Postgres(folder) as both:
        files = dict(run(both, "SELECT name, sourcefile FROM pg_settings WHERE sourcefile IS NOT NULL"))
    assert files["dynamic_shared_memory_type"] == str(data / "postgresql.conf")
    assert files["track_io_timing"] == files["shared_preload_libraries"] == str(whole)


def test_an_entry_that_is_cut_or_foreign_is_left_out() -> None:
    """A log that starts in the middle of a message, or is not one of Postgres, makes no line."""
    assert [*entries("\tFilter: (name = 'x')\nhello")] == []
