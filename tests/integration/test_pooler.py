"""The server behind PgBouncer in transaction mode, where each transaction may run in another session."""

import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from local.ports import LOOPBACK, answers, free_port
from local.processes.process import Process
from local.servers.postgres import Postgres
from local.state import server_user
from tests.integration.conftest import DEADLINE_S, StartService, eventually
from tests.integration.service_support import JSON, SILENT, ask, own_database

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed")

# Fewer sessions than the server has connections, so that connections must share them.
CONFIGURATION = """
[databases]
* = host={postgres.host} port={postgres.port}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = {mode}
default_pool_size = 2
ignore_startup_parameters = {ignored}
"""

Pooler = Callable[..., dict[str, str]]


@pytest.fixture
def pooler(servers_folder: Path, postgres: Postgres) -> Iterator[Pooler]:
    """Return `pooler(ignored, mode)`, which starts PgBouncer and returns a server's environment for it."""
    with ExitStack() as end, own_database(postgres) as database:

        def start(ignored: str, mode: str = "transaction") -> dict[str, str]:
            port, user = free_port(), server_user("postgres", "nobody")
            folder = servers_folder / f"pgbouncer-{port}"
            folder.mkdir()
            configuration, users = folder / "pgbouncer.ini", folder / "users.txt"
            configuration.write_text(
                CONFIGURATION.format(
                    postgres=postgres, host=LOOPBACK, port=port, users=users, ignored=ignored, mode=mode
                )
            )
            users.write_text(f'"{postgres.user}" "{postgres.password}"\n')
            if user:
                os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
            command = [str(PGBOUNCER), str(configuration)]
            process = Process(
                "pgbouncer", command, log=folder / "log", record=folder / "pid", mark=str(folder), user=user
            )
            process.launch()
            end.callback(process.stop)
            process.wait_ready(lambda: answers(port), DEADLINE_S)
            return SILENT | {
                "MYTHICAL_DATABASE_HOST": LOOPBACK,
                "MYTHICAL_DATABASE_HOST_PORT": str(port),
                "MYTHICAL_DATABASE_NAME": database,
                "MYTHICAL_DATABASE_STATEMENT_TIMEOUT": "600",
                "FAULT_NULL_NAME": "0",
            }

        yield start


def test_the_server_works_with_one_setting(pooler: Pooler, postgres: Postgres, service: StartService) -> None:
    """Every request is answered, and the timeouts limit each statement."""
    settings = pooler("")
    server = service("server", **settings, MYTHICAL_DATABASE_POOLER="true")

    def statuses(number: int) -> set[int]:
        added = ask(server.base_url, "/unicorn", method="POST", body=b'{"name": "n%d"}' % number, headers=JSON)
        read = [ask(server.base_url, f"/{beast}") for beast in ("unicorn", "manticore", "owlbear")]
        deleted = ask(server.base_url, "/unicorn", method="DELETE", body=b'{"name": "n%d"}' % number, headers=JSON)
        assert "application/json" in read[0].headers["Content-Type"]
        return {added.status, *(each.status for each in read), deleted.status}

    with ThreadPoolExecutor(4) as callers:
        seen = set().union(*callers.map(statuses, range(40)))
    assert seen <= {200, 201, 204}
    dsn = f"{postgres.dsn.rpartition('/')[0]}/{settings['MYTHICAL_DATABASE_NAME']}"
    with psycopg.connect(dsn) as holder:
        holder.execute("LOCK TABLE unicorn")
        assert ask(server.base_url, "/unicorn").status == 503
    eventually(lambda: ask(server.base_url, "/unicorn").status == 200)


@pytest.mark.parametrize("ignored", ["", "options"])
def test_without_the_setting_the_log_recommends_it(pooler: Pooler, service: StartService, ignored: str) -> None:
    """Whether PgBouncer rejects the session's timeouts or discards them, no request runs without them."""
    server = service("server", until="/healthz", **pooler(ignored))
    eventually(lambda: "set MYTHICAL_DATABASE_POOLER=true" in server.process.tail(50), what="the setting in the log")
    assert ask(server.base_url, "/readyz").status == 503
    assert ask(server.base_url, "/unicorn").status == 503
    assert "Traceback" not in server.process.tail(50)


def test_a_mode_without_transactions_is_named_with_its_remedy(pooler: Pooler, service: StartService) -> None:
    """In statement mode, PgBouncer rejects each transaction; the log says so once."""
    remedy = "set pool_mode = transaction in PgBouncer"
    server = service("server", until="/healthz", **pooler("", "statement"), MYTHICAL_DATABASE_POOLER="true")
    eventually(lambda: remedy in ask(server.base_url, "/readyz").text, what="the remedy on /readyz")
    assert ask(server.base_url, "/unicorn").status == 503
    assert server.process.tail(500).count(remedy) == 1
