"""A stranger on a port of ours, who speaks no HTTP or tells other things, is nobody: no stack trace."""

import socket
import threading
from collections.abc import Iterator

import pytest

from local.display.summary import fetch
from tools.query import NoAnswer, is_up, send
from workshop import WorkshopError
from workshop.fault_client import FaultClient
from workshop.gateway import Gateway
from workshop.scenario import GatewayQuery
from workshop.stack import Backends, Stack

GREETING = b"SSH-2.0-OpenSSH_9.2\r\n"
BROKEN = b"HTTP/1.0 500 Internal Server Error\r\n\r\n"
LIST = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n[1]"


@pytest.fixture
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that says `request.param` to everybody, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_greet, args=(server, request.param))
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _greet(server: socket.socket, said: bytes) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(said)


@pytest.mark.parametrize("stranger", [GREETING], indirect=True)
def test_who_speaks_no_http_does_not_answer(stranger: str) -> None:
    """Whether the demo, the doctor or the workshop asks."""
    assert not is_up(stranger)
    assert not Gateway(stranger).answers()
    assert not Stack(Backends(*[stranger] * 4)).answers()
    with pytest.raises(NoAnswer, match="not HTTP"):
        send(stranger)
    with pytest.raises(WorkshopError, match="the server does not answer"):
        FaultClient({"server": stranger}).states()


@pytest.mark.parametrize("stranger", [BROKEN], indirect=True)
def test_a_gateway_that_fails_is_told_to_whoever_runs_a_scenario(stranger: str) -> None:
    """As one that is away, without which the scenario goes on."""
    with pytest.raises(WorkshopError, match="answered 500"):
        Gateway(stranger).value(GatewayQuery("lines", "per_s", 0, {}))


@pytest.mark.parametrize("stranger", [GREETING, LIST], indirect=True)
def test_a_stranger_is_not_taken_for_the_gateway(stranger: str) -> None:
    """The doctor asks the gateway's port before it knows what runs here."""
    assert fetch(stranger) is None
