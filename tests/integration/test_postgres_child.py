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


@pytest.fixture
def folder(servers_folder: Path, request: pytest.FixtureRequest) -> Path:
    """Give a folder of this test's own."""
    return servers_folder / str(request.node.name)


def put(server: Postgres, text: str) -> None:
    """Write a row, committed."""
    with psycopg.connect(server.dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (text text)")
        connection.execute("INSERT INTO kept VALUES (%s)", (text,))


def rows(server: Postgres) -> list[str]:
    """Read all rows."""
    with psycopg.connect(server.dsn) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM kept")]


def test_a_stopped_server_starts_again_with_its_data(folder: Path) -> None:
    """Stop is in good order: exit code 0, nothing listening, nothing lost."""
    server = Postgres(folder).start()
    put(server, "before the stop")
    server.stop(STOP_S)
    assert server.process.exit_code == 0
    assert not answers(server.port)
    with server:
        assert rows(server) == ["before the stop"]


def test_a_killed_server_keeps_what_was_committed(folder: Path) -> None:
    """SIGKILL of the whole server is a power cut: on the same port, the committed row is there."""
    server = Postgres(folder).start()
    put(server, "before the crash")
    port = server.port
    with psycopg.connect(server.dsn):  # an open session, whose process must die as well
        server.kill()
    assert not answers(port)
    with server:
        assert server.port == port
        assert rows(server) == ["before the crash"]


def test_a_server_whose_postmaster_alone_was_killed_starts_again(folder: Path) -> None:
    """Its other processes linger for a moment with the shared memory; the next start waits for them."""
    server = Postgres(folder).start()
    put(server, "kept")
    assert server.process.pid is not None
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(60)
    with server:
        assert rows(server) == ["kept"]


def test_the_orphan_of_a_crashed_run_is_replaced(folder: Path) -> None:
    """The next run with the same folder ends the server that the crashed one left, and takes its data over."""
    lost = Postgres(folder).start()
    put(lost, "from the crashed run")
    pid = lost.process.pid
    assert pid is not None
    with Postgres(folder) as server:
        assert lost.process.wait(60)
        assert not psutil.pid_exists(pid)
        assert rows(server) == ["from the crashed run"]


def test_a_stale_pid_file_does_not_hinder(folder: Path) -> None:
    """After a power cut, the number in postmaster.pid may be somebody else's: here it is ours."""
    server = Postgres(folder).start()
    server.stop()
    (data,) = folder.glob("data-*")
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n{int(time.time())}\n{server.port}\n\n127.0.0.1\n")
    (data / "postmaster.pid").chmod(0o666)
    with server:
        assert server.is_ready()


def test_a_stale_pid_file_that_names_a_stranger_does_not_hinder(folder: Path) -> None:
    """Numbers are used again: one that was the server's may be another process of the same user by now."""
    server = Postgres(folder).start()
    server.kill()
    lock = next(folder.glob("data-*")) / "postmaster.pid"
    with Postgres(folder.with_name("stranger")) as stranger:
        lines = lock.read_text().splitlines()
        lock.write_text("\n".join([str(stranger.process.pid), *lines[1:], ""]))
        with server:
            assert server.is_ready()


def test_nobody_enters_without_the_password(postgres: Postgres) -> None:
    """A port of the loopback address is open to every user of the machine."""
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.dsn.replace(postgres.password, "wrong"))


def test_it_listens_on_the_loopback_address_alone(postgres: Postgres) -> None:
    """No unix socket, no other address."""
    with psycopg.connect(postgres.dsn) as connection:
        show = {name: connection.execute(f"SHOW {name}").fetchone() for name in ("listen_addresses", "fsync")}
        sockets = connection.execute("SHOW unix_socket_directories").fetchone()
    assert show["listen_addresses"] == ("127.0.0.1",)
    assert show["fsync"] == ("on",)
    assert sockets == ("",)


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    """The error is one line that names the log, and the log's end tells the cause."""
    server = Postgres(folder).start()
    server.stop()
    (data,) = folder.glob("data-*")
    (data / "postgresql.conf").write_text("no_such_setting = on")
    with pytest.raises(LocalError, match="postgres ended immediately") as caught:
        server.start()
    assert "\n" not in str(caught.value)
    assert "no_such_setting" in caught.value.detail


def test_a_taken_port_is_not_mistaken_for_a_ready_server(folder: Path, postgres: Postgres) -> None:
    """Another Postgres with the same password answers there; ours has not started and says so."""
    with pytest.raises(LocalError, match=f"port {postgres.port} of postgres is in use"):
        Postgres(folder, port=postgres.port).start()
