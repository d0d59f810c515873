"""Free ports are found, used ones are reported with their process and a remedy."""

import os
import re
import socket
import subprocess
import sys

import pytest

from common.core.env import Env, SettingsError
from local.errors import LocalError
from local.ports import DEFAULTS, LOOPBACK, Port, Ports, free_port, holder_of, is_free


@pytest.fixture
def listener() -> socket.socket:
    """Return a listening socket."""
    return socket.create_server((LOOPBACK, 0))


def test_a_free_port_is_free() -> None:
    """A socket can listen on a port that free_port returned."""
    assert is_free(free_port())


def test_no_port_is_returned_twice() -> None:
    """A caller reserves several ports before it listens on them; two equal ports would prevent a start."""
    assert len({free_port() for _ in range(500)}) == 500


def test_no_port_is_returned_to_two_processes() -> None:
    """Two runs that start at the same time get different ports, even before anything listens on them."""
    ports = "import random; from local.ports import free_port; random.seed(7); print(*(free_port() for _ in range(20)))"
    first, second = (subprocess.check_output([sys.executable, "-c", ports]).split() for _ in range(2))  # noqa: S603 - a constant program
    assert not {*first} & {*second}


def test_a_free_port_is_outside_the_ephemeral_range() -> None:
    """A restarted server must find its port free, independent of client connections in the meantime."""
    with socket.socket() as client:
        client.bind((LOOPBACK, 0))
        assert {free_port() < client.getsockname()[1] for _ in range(50)} == {True}


def test_a_used_port_is_detected(listener: socket.socket) -> None:
    """A port is used while a socket listens on it."""
    with listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_holder_of_a_port_is_named(listener: socket.socket) -> None:
    """The user can stop that process."""
    with listener:
        assert f"pid {os.getpid()} (" in str(holder_of(listener.getsockname()[1]))


def test_a_free_port_has_no_holder() -> None:
    """There is no process to name."""
    assert holder_of(free_port()) is None


def test_a_used_port_is_reported_with_a_remedy(listener: socket.socket) -> None:
    """The message names the port, its purpose, and the variable that changes it."""
    with listener:
        number = listener.getsockname()[1]
        with pytest.raises(LocalError) as caught:
            Ports([Port("server", "DEMO_SERVER_PORT", number)]).check_free()
    assert f"port {number} (server) is in use" in str(caught.value)
    assert "DEMO_SERVER_PORT=" in str(caught.value)


def test_the_suggested_port_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no port 10,000 above one near the maximum."""
    monkeypatch.setattr("local.ports.is_free", lambda port: port != 60_000 and is_free(port))
    with pytest.raises(LocalError) as caught:
        Ports([Port("server", "DEMO_SERVER_PORT", 60_000)]).check_free()
    named = re.search(r"DEMO_SERVER_PORT=(\d+) make demo", str(caught.value))
    assert named
    assert int(named[1]) <= 65_535


@pytest.mark.parametrize(("name", "variable", "number"), DEFAULTS)
def test_each_port_has_a_default_and_a_variable(name: str, variable: str, number: int) -> None:
    """The default is the port of the real stack."""
    assert Ports.read(Env({}))[name] == number
    assert Ports.read(Env({variable: "23456"}))[name] == 23456


def test_two_equal_ports_are_rejected() -> None:
    """Otherwise, the second program would fail with a message that names neither variable."""
    with pytest.raises(LocalError, match="DEMO_LOKI_PORT and DEMO_SERVER_PORT are both 3100"):
        Ports.read(Env({"DEMO_SERVER_PORT": "3100"}))


def test_a_port_that_is_not_a_number_is_rejected() -> None:
    """The message has the variable and its value."""
    with pytest.raises(SettingsError, match="DEMO_LOKI_PORT='loki'"):
        Ports.read(Env({"DEMO_LOKI_PORT": "loki"}))


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_remedy_for_a_port_of_docker_is_docker_compose_down() -> None:
    """The suite with Docker often uses these ports; the folder of the program is omitted from the message."""
    held = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen(  # noqa: S603 - a constant program under another name
        ["/a/folder/with/a/long/name/docker-proxy", "-c", held],
        executable=sys.executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as proxy:
        assert proxy.stdout
        number = int(proxy.stdout.readline())
        with pytest.raises(LocalError) as caught:
            Ports([Port("server", "DEMO_SERVER_PORT", number)]).check_free()
        proxy.communicate(b"\n")
    assert f"by pid {proxy.pid} (docker-proxy -c " in str(caught.value)
    assert "docker compose down" in str(caught.value)
