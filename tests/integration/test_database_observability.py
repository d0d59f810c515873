"""A request is connected with its statement in Postgres: comment, statistics, plan, lock, and log."""

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
from tests.integration.postgres_statements import SECRET, TRACE_ID, log_secrets
from tests.integration.service_support import JSON, ask, own_database, run, spans_of, traceparent

SIGNALS = ("traces", "spans", "logs", "metrics", "profiles")


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The name of a separate database."""
    with own_database(postgres) as name:
        yield name


@pytest.fixture
def server(service: StartService, database: str, gateway: Gateway, postgres: Postgres) -> Iterator[Service]:
    """A server whose statements have comments, with Postgres's log sent to the gateway."""
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
    response = ask(
        server.base_url, f"/faults/{fault}", method="PUT", body='{"strength": 1, "seconds": 60}', headers=JSON
    )
    assert response.status < 300, response.text


def lines_of(gateway: Gateway, trace_id: str) -> list[dict[str, Any]]:
    """Return Postgres's log lines of a trace."""
    found: list[dict[str, Any]] = gateway.get("logs", service="postgres", trace_id=trace_id)
    return found


def test_a_session_shows_the_trace_of_its_statement(
    server: Service, postgres: Postgres, database: str, gateway: Gateway
) -> None:
    """pg_stat_activity has application, route and trace; the span has the session's process ID."""
    trace_id, header = traceparent()
    sessions = (
        "SELECT pid, query FROM pg_stat_activity WHERE query LIKE 'SELECT id, name%{}%' AND pid <> pg_backend_pid()"
    )

    def poll() -> list[tuple[int, str]]:
        ask(server.base_url, "/unicorn", headers=header)  # the session may have run another statement since
        return run(postgres, sessions.format(trace_id), database)

    pid, query = eventually(poll)[0]
    assert "; /*application='mythical-server',route='%2F%3Cbeast%3E',traceparent='00-" in query
    spans = gateway.poll(lambda _: [one for one in spans_of(gateway, trace_id) if one["name"] == "SELECT unicorn"])
    assert str(pid) in {str(one["attributes"]["db.postgresql.backend_pid"]) for one in spans}


def test_statistics_group_statements_that_differ_in_their_comments(
    server: Service, postgres: Postgres, database: str
) -> None:
    """One row has all calls, and its text has no comment: a trace ID there would be that of an old request."""
    for _ in range(8):
        assert ask(server.base_url, "/unicorn").status == 200
    statistics = """SELECT calls, query FROM pg_stat_statements WHERE query LIKE 'SELECT id, name FROM "unicorn"%'
        AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    rows = run(postgres, statistics, database)
    assert rows == [(8, 'SELECT id, name FROM "unicorn" ORDER BY id DESC LIMIT $1')]


def test_statements_without_comments_stay_prepared(postgres: Postgres, service: StartService, database: str) -> None:
    """Comments are off by default: psycopg prepares frequent statements, and no text has a comment."""
    server = service("server", MYTHICAL_DATABASE_NAME=database, MYTHICAL_DATABASE_CONNECTIONS="1")
    for _ in range(10):
        ask(server.base_url, "/unicorn")
    with psycopg.connect(postgres.dsn, dbname=database) as other:
        rows = other.execute("SELECT query FROM pg_stat_activity WHERE application_name = 'mythical-server'")
        assert not [query for (query,) in rows if "/*" in query]


def test_the_log_has_the_plan_of_a_slow_request(
    server: Service, postgres: Postgres, database: str, gateway: Gateway
) -> None:
    """The trace id finds Postgres's line with level, duration and statement; the statistics have the statement."""
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


def test_a_blocked_request_leads_to_the_trace_that_holds_the_lock(server: Service, gateway: Gateway) -> None:
    """Its line has the session that holds the lock; a span of another trace has that session's process ID."""
    inject(server, "lock_contention")
    added: list[str] = []

    def poll() -> list[dict[str, Any]]:
        """Return the lines about one of the requests so far: a line arrives a second or two after its request."""
        trace_id, header = traceparent()
        add(server, f"one_{trace_id[:8]}", header)
        added.append(trace_id)
        waiting = ([line for line in lines_of(gateway, each) if "still waiting for" in line["line"]] for each in added)
        return next(filter(None, waiting), [])

    (line,) = eventually(poll)
    held = re.search(r"holding the lock: (\d+)\.", line["line"])
    assert held, line
    spans = gateway.poll(
        lambda _: [
            span
            for span in gateway.get("spans", name="LOCK all")
            if str(span["attributes"].get("db.postgresql.backend_pid")) == held[1]
        ]
    )
    assert all(span["trace_id"] != line["metadata"]["trace_id"] for span in spans)


def test_no_signal_has_a_value_of_a_statement(server: Service, postgres: Postgres, gateway: Gateway) -> None:
    """No signal has a name that was added, added twice, too long, or in Postgres's plans and errors."""
    inject(server, "slow_query")
    assert [add(server, SECRET), add(server, SECRET)] == [201, 409]
    assert ask(server.base_url, "/unicorn").text.count(SECRET) == 1
    assert add(server, SECRET * 9) >= 400
    log_secrets(postgres)
    gateway.poll(lambda _: lines_of(gateway, TRACE_ID))
    gateway.poll(lambda _: gateway.get("metrics", service="mythical-server", name="db.client.operation.duration"))
    assert SECRET in postgres.process.log.read_text(encoding="utf-8")
    for signal in SIGNALS:
        assert SECRET not in json.dumps(gateway.get(signal, limit=10_000)), signal


def test_the_server_reports_a_postgres_without_the_libraries(
    service: StartService, monkeypatch: pytest.MonkeyPatch, servers_folder: Path
) -> None:
    """Some distributions have them in another package: Postgres starts, and a log line of the server reports it."""
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
    """Each setting of the file that Compose mounts applies, if this version of Postgres has it."""
    for name, value in SETTING.findall(OBSERVED.read_text(encoding="utf-8")):
        rows = run(postgres, f"SELECT current_setting('{name}', true)", database)
        if name != "include_if_exists":
            assert rows in ([(value,)], [(None,)]), name


def test_the_file_includes_the_settings_of_the_image(servers_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings and password rules created with the data are in effect too: Postgres can be queried."""
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


def test_truncated_and_foreign_log_entries_are_skipped() -> None:
    """A log that starts in the middle of a message, or isn't from Postgres, has no entries."""
    assert [*entries("\tFilter: (name = 'x')\nhello")] == []
