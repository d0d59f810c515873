"""Clients that announce a body and then send nothing of it, or a byte now and then."""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

RESPONSE_S = 30.0
LENGTH = 21  # bytes announced, of which at most half are sent before `finish`


class SlowBodies:
    """`count` connections, each with a request that remains incomplete; `kinds` says how the bodies arrive.

    `silent`: not at all. `dripping`: a byte now and then. `chunked`: one chunk, without an announced length.
    """

    def __init__(self, port: int, path: str, count: int, *, method: str = "POST", kinds: tuple[str, ...] = ()) -> None:
        self._port = port
        self._path = path
        self._count = count
        self._method = method
        self._kinds = kinds or ("silent", "dripping", "chunked")
        self._connections: list[socket.socket] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drip, name="dripping")
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        for number in range(self._count):
            connection = socket.create_connection(("127.0.0.1", self._port), timeout=RESPONSE_S)
            self._connections.append(connection)
            connection.sendall(self._head(self._kinds[number % len(self._kinds)]))
        self.began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for connection in self._connections:
            connection.close()

    def __len__(self) -> int:
        return len(self._connections)

    def disconnect(self, count: int = 1) -> None:
        """Close the last `count` connections."""
        for _ in range(count):
            self._connections.pop().close()

    def finish(self) -> dict[str, int]:
        """Send the bodies, each with another name; return the statuses of the responses by these, 0 for none.

        For `silent` bodies only.
        """
        names = [f"slow-{number:04}" for number in range(len(self._connections))]
        for name, connection in zip(names, self._connections, strict=True):
            connection.sendall(f'{{"name": "{name}"}}'.encode())
        return {name: _status(connection) for name, connection in zip(names, self._connections, strict=True)}

    def final_statuses(self) -> Counter[int]:
        """Wait until the server has closed each connection; return the statuses of its responses, 0 for none."""
        return Counter(_status(connection) for connection in self._connections)

    def _head(self, kind: str) -> bytes:
        length = "Transfer-Encoding: chunked" if kind == "chunked" else f"Content-Length: {LENGTH}"
        body = {"silent": "", "dripping": '{"n', "chunked": '3\r\n{"n\r\n'}[kind]
        head = f"{self._method} {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{length}\r\n"
        return f"{head}Content-Type: application/json\r\n\r\n{body}".encode()

    def _drip(self) -> None:
        for _ in range(LENGTH // 2 - 3):
            for number, connection in enumerate(self._connections.copy()):
                if self._stop.wait(1.0 / self._count):
                    return
                if self._kinds[number % len(self._kinds)] == "dripping":
                    with contextlib.suppress(OSError):  # the server has closed it
                        connection.sendall(b"a")


def durations(request: Callable[[], int], times: int, expected: int) -> list[float]:
    """Make `times` requests, one after the other; return their durations in seconds, sorted.

    Raise AssertionError on any other status than the expected one.
    """
    seconds = []
    for _ in range(times):
        began = time.monotonic()
        status = request()
        seconds.append(time.monotonic() - began)
        assert status == expected, status
    return sorted(seconds)


def _status(connection: socket.socket) -> int:
    response = b""
    with contextlib.suppress(ConnectionError):  # closed by a reset; a timeout makes the test fail
        while more := connection.recv(65536):
            response += more
    return int(response.split()[1]) if response else 0
