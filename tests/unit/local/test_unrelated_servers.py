"""An unrelated program on a port of the suite is not mistaken for a part of it and causes no stack trace."""

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
def unrelated(request: pytest.FixtureRequest) -> Iterator[str]:
    """Start a server that sends `request.param` to every client and disconnects; return its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_greet, args=(server, request.param))
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _greet(server: socket.socket, greeting: bytes) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(greeting)


@pytest.mark.parametrize("unrelated", [GREETING], indirect=True)
def test_a_server_without_http_counts_as_not_responding(unrelated: str) -> None:
    """The demo, the doctor, and the workshop handle it in the same way."""
    assert not is_up(unrelated)
    assert not Gateway(unrelated).answers()
    assert not Stack(Backends(*[unrelated] * 4)).answers()
    with pytest.raises(NoAnswer, match="not HTTP"):
        send(unrelated)
    with pytest.raises(WorkshopError, match="the server does not answer"):
        FaultClient({"server": unrelated}).states()


@pytest.mark.parametrize("unrelated", [BROKEN], indirect=True)
def test_a_failing_gateway_is_reported_to_a_scenario(unrelated: str) -> None:
    """A scenario continues without it, as if the gateway were unavailable."""
    with pytest.raises(WorkshopError, match="answered 500"):
        Gateway(unrelated).value(GatewayQuery("lines", "per_s", 0, {}))


@pytest.mark.parametrize("unrelated", [GREETING, LIST], indirect=True)
def test_an_unrelated_server_is_not_mistaken_for_the_gateway(unrelated: str) -> None:
    """The doctor queries the gateway's port before it knows which suite is running."""
    assert fetch(unrelated) is None
