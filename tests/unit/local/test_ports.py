"""Ports: which are free, who holds the others, and what the demo says about it."""

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
    """Give a listening socket."""
    return socket.create_server((LOOPBACK, 0))


def test_a_free_port_is_free() -> None:
    """What free_port gives can be listened on."""
    assert is_free(free_port())


def test_no_port_is_given_twice() -> None:
    """Whoever asks for a dozen listens on the first when the last is given; a run with two alike would not start."""
    assert len({free_port() for _ in range(500)}) == 500


def test_no_port_is_given_to_two_processes() -> None:
    """Two runs that start at the same time do not get the same ports, even before anything listens on them."""
    ports = "import random; from local.ports import free_port; random.seed(7); print(*(free_port() for _ in range(20)))"
    first, second = (subprocess.check_output([sys.executable, "-c", ports]).split() for _ in range(2))  # noqa: S603 - our own
    assert not {*first} & {*second}


def test_a_free_port_is_not_one_that_the_kernel_gives_to_clients() -> None:
    """A server that is killed and started again must find its port free, whoever connected to anything meanwhile."""
    with socket.socket() as client:
        client.bind((LOOPBACK, 0))
        assert {free_port() < client.getsockname()[1] for _ in range(50)} == {True}


def test_a_taken_port_is_seen(listener: socket.socket) -> None:
    """A listening socket makes a port taken until it is closed."""
    with listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_holder_of_a_port_is_named(listener: socket.socket) -> None:
    """The reader learns which process to stop."""
    with listener:
        assert f"pid {os.getpid()} (" in str(holder_of(listener.getsockname()[1]))


def test_nobody_holds_a_free_port() -> None:
    """No holder, no name."""
    assert holder_of(free_port()) is None


def test_a_taken_port_is_told_with_its_remedy(listener: socket.socket) -> None:
    """The message names the port, its purpose, and the variable that moves it."""
    with listener:
        number = listener.getsockname()[1]
        with pytest.raises(LocalError) as caught:
            Ports([Port("server", "DEMO_SERVER_PORT", number)]).check_free()
    assert f"port {number} (server) is in use" in str(caught.value)
    assert "DEMO_SERVER_PORT=" in str(caught.value)


def test_another_port_is_named_for_one_near_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand above it there is none."""
    monkeypatch.setattr("local.ports.is_free", lambda port: port != 60_000 and is_free(port))
    with pytest.raises(LocalError) as caught:
        Ports([Port("server", "DEMO_SERVER_PORT", 60_000)]).check_free()
    named = re.search(r"DEMO_SERVER_PORT=(\d+) make demo", str(caught.value))
    assert named
    assert int(named[1]) <= 65_535


@pytest.mark.parametrize(("name", "variable", "number"), DEFAULTS)
def test_each_port_has_a_default_and_a_variable(name: str, variable: str, number: int) -> None:
    """Unset, a port is the real stack's; the variable moves it."""
    assert Ports.read(Env({}))[name] == number
    assert Ports.read(Env({variable: "23456"}))[name] == 23456


def test_two_equal_ports_are_refused() -> None:
    """Otherwise the second to start would fail with a message that names neither variable."""
    with pytest.raises(LocalError, match="DEMO_LOKI_PORT and DEMO_SERVER_PORT are both 3100"):
        Ports.read(Env({"DEMO_SERVER_PORT": "3100"}))


def test_a_port_that_is_no_number_is_refused() -> None:
    """The variable and its value are named."""
    with pytest.raises(SettingsError, match="DEMO_LOKI_PORT='loki'"):
        Ports.read(Env({"DEMO_LOKI_PORT": "loki"}))


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_where_docker_holds_a_port_the_remedy_is_its_own() -> None:
    """The suite with Docker is what mostly holds these ports; the folder of the program is left out."""
    held = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen(  # noqa: S603 - our own program under another name
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
