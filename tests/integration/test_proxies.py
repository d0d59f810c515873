"""With a proxy in the environment, a service's four signals still reach a collector on this machine directly."""

import socket
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from local.ports import LOOPBACK
from tests.integration.conftest import Gateway, StartService, eventually
from tests.integration.service_support import ask, own

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
KINDS = {
    "lower": dict.fromkeys(VARIABLES, "http"),
    "upper": dict.fromkeys(map(str.upper, VARIABLES), "http"),
    "socks": {"ALL_PROXY": "socks5", "all_proxy": "socks5"},
}


class Proxy:
    """Accepts connections, closes them, and counts them."""

    def __init__(self) -> None:
        self.connections = 0
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy that closes every connection."""
    created = Proxy()
    yield created
    created.close()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_signal_goes_through_the_proxy(
    service: StartService, gateway: Gateway, proxy: Proxy, kind: str, protocol: str
) -> None:
    """A proxy would look for 127.0.0.1 on its own machine, and all four signals would be lost without an error."""
    namespace = f"proxy-{kind}-{protocol.partition('/')[0]}"
    variables: dict[str, Any] = {name: f"{scheme}://{LOOPBACK}:{proxy.port}" for name, scheme in KINDS[kind].items()}
    otlp = "otlp_grpc" if protocol == "grpc" else "otlp_http"
    server = service(
        "server",
        NAMESPACE=namespace,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        TRACING_COLLECTOR_PORT=str(gateway.ports[otlp]),
        NO_PROXY="",
        no_proxy="",
        **variables,
    )

    def arrived(what: str) -> bool:
        ask(server.base_url, "/unicorn")  # only a busy process pushes profiles
        return bool(own(gateway.get(what), namespace))

    for what in ("spans", "metrics", "logs", "profiles"):
        eventually(partial(arrived, what), 40, f"{what} did not arrive")
    assert proxy.connections == 0
