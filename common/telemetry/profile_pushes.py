"""The way of profiles out of the process, on which those that nobody took are counted.

The profiler pushes from native code: it counts nothing, and what it says goes to standard error past all of Python. So
it pushes to a port of this process, on loopback, and from there the push goes on.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests
from opentelemetry.instrumentation.utils import suppress_instrumentation

LOOPBACK = "127.0.0.1"
# To connect, to answer: together less than the ten seconds that the profiler waits, so that it gets our answer.
TIMEOUT_S = (2.0, 7.0)
POLL_S = 0.25
# Ten seconds of a busy process are some 100 kB; a port takes from whoever finds it, and holds it in memory.
LARGEST_BYTES = 16_000_000
PASSED_ON = ("Content-Type", "Content-Encoding", "User-Agent")
NO_PROXY = ("NO_PROXY", "no_proxy")

# Told of each push that is lost, and why: `rejected` or `unreachable`.
Dropped = Callable[[int, str], None]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever goes away before the answer is no fault; anything else is told with its trace, by the base class."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class ProfilePushes:
    """Takes pushes on a loopback port, `address`, and hands them on to `server_address`, one try each."""

    def __init__(self, server_address: str, dropped: Dropped) -> None:
        self._server_address = server_address
        self._dropped = dropped
        self._session = requests.Session()
        self._server = _Server((LOOPBACK, 0), self._handler())
        self.address = f"http://{LOOPBACK}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="profile-pushes", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Take no more pushes; one that is under way is left to end by itself."""
        self._server.shutdown()
        self._server.server_close()
        self._session.close()

    def pass_on(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Push once; give the answer's status, 502 where there was none. What is not taken is counted."""
        try:
            with suppress_instrumentation():  # a push is not part of any request: it makes no span
                answer = self._session.post(self._server_address + path, body, headers=headers, timeout=TIMEOUT_S)
        except requests.RequestException:
            self._dropped(1, "unreachable")
            return HTTPStatus.BAD_GATEWAY
        if not answer.ok:
            self._dropped(1, "rejected")
        return answer.status_code

    def _handler(pushes) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            timeout = sum(TIMEOUT_S)

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length") or ""
                if not (length.isascii() and length.isdecimal() and int(length) <= LARGEST_BYTES):
                    self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                    return
                headers = {name: value for name in PASSED_ON if (value := self.headers.get(name))}
                self.send_response(pushes.pass_on(self.path, headers, self.rfile.read(int(length))))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing: what is lost is counted, and told of by the profiler."""

        return Handler


@contextmanager
def no_proxy() -> Iterator[None]:
    """Have what is begun meanwhile reach this machine directly: a proxy would look for the port on its own."""
    before = {name: os.environ.get(name) for name in NO_PROXY}
    os.environ.update(dict.fromkeys(NO_PROXY, LOOPBACK))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
