"""Postgres as a private child, on the real server."""

import os
import signal
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from local.errors import LocalError
from local.ports import answers
from local.servers.postgres import Postgres
from tests.integration.running import STOP_S


def insert(server: Postgres, text: str) -> None:
    """Insert and commit a row."""
    with psycopg.connect(server.dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (text text)")
        connection.execute("INSERT INTO kept VALUES (%s)", (text,))


def rows(server: Postgres) -> list[str]:
    """Return all rows."""
    with psycopg.connect(server.dsn) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM kept")]


def test_a_stopped_server_starts_again_with_its_data(folder: Path) -> None:
    """After a clean stop, the exit code is 0, the port is closed, and no data is lost."""
    server = Postgres(folder).start()
    insert(server, "before the stop")
    server.stop(STOP_S)
    assert server.process.exit_code == 0
    assert not answers(server.port)
    with server:
        assert rows(server) == ["before the stop"]


def test_a_killed_server_keeps_what_was_committed(folder: Path) -> None:
    """After SIGKILL of the whole server, like a power cut, the committed row is there on the same port."""
    server = Postgres(folder).start()
    insert(server, "before the crash")
    port = server.port
    with psycopg.connect(server.dsn):  # an open session, whose process must be killed too
        server.kill()
    assert not answers(port)
    with server:
        assert server.port == port
        assert rows(server) == ["before the crash"]


def test_a_server_restarts_after_only_its_postmaster_was_killed(folder: Path) -> None:
    """Its other processes use the shared memory for another moment; the next start waits for them."""
    server = Postgres(folder).start()
    insert(server, "kept")
    assert server.process.pid is not None
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(60)
    with server:
        assert rows(server) == ["kept"]


def test_the_orphan_of_a_crashed_run_is_replaced(folder: Path) -> None:
    """The next run with the same folder stops the crashed run's server, and uses its data."""
    orphan = Postgres(folder).start()
    insert(orphan, "from the crashed run")
    pid = orphan.process.pid
    assert pid is not None
    with Postgres(folder) as server:
        assert orphan.process.wait(60)
        assert not psutil.pid_exists(pid)
        assert rows(server) == ["from the crashed run"]


def test_the_server_starts_with_a_stale_pid_file(folder: Path) -> None:
    """After a power cut, postmaster.pid may have another process's number: here the test's."""
    server = Postgres(folder).start()
    server.stop()
    (data,) = folder.glob("data-*")
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n{int(time.time())}\n{server.port}\n\n127.0.0.1\n")
    (data / "postmaster.pid").chmod(0o666)
    with server:
        assert server.is_ready()


def test_the_server_starts_with_the_pid_file_of_another_server(folder: Path) -> None:
    """Process numbers are reused: the server's former number may now be another process of the same user."""
    server = Postgres(folder).start()
    server.kill()
    lock = next(folder.glob("data-*")) / "postmaster.pid"
    with Postgres(folder.with_name("other")) as other:
        lines = lock.read_text().splitlines()
        lock.write_text("\n".join([str(other.process.pid), *lines[1:], ""]))
        with server:
            assert server.is_ready()


def test_a_wrong_password_is_rejected(postgres: Postgres) -> None:
    """Every user of the machine can connect to a port of the loopback address."""
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.dsn.replace(postgres.password, "wrong"))


def test_the_server_listens_only_on_the_loopback_address(postgres: Postgres) -> None:
    """There is no Unix socket and no other address."""
    with psycopg.connect(postgres.dsn) as connection:
        show = {name: connection.execute(f"SHOW {name}").fetchone() for name in ("listen_addresses", "fsync")}
        sockets = connection.execute("SHOW unix_socket_directories").fetchone()
    assert show["listen_addresses"] == ("127.0.0.1",)
    assert show["fsync"] == ("on",)
    assert sockets == ("",)


def test_a_failed_start_is_reported_with_its_cause(folder: Path) -> None:
    """The error is one line, and its detail has the end of the log with the cause."""
    server = Postgres(folder).start()
    server.stop()
    (data,) = folder.glob("data-*")
    (data / "postgresql.conf").write_text("no_such_setting = on")
    with pytest.raises(LocalError, match="postgres ended immediately") as caught:
        server.start()
    assert "\n" not in str(caught.value)
    assert "no_such_setting" in caught.value.detail


def test_another_server_on_the_port_does_not_count_as_ready(folder: Path, postgres: Postgres) -> None:
    """Another Postgres with the same password answers there; the start fails."""
    with pytest.raises(LocalError, match=f"port {postgres.port} of postgres is in use"):
        Postgres(folder, port=postgres.port).start()
