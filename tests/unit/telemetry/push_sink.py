"""A loopback HTTP server that receives pushes, responds as configured, and stores the requests."""

import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.unit.waiting import eventually

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Push:
    """A received request with its decompressed body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body parsed as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """A response to a push."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


LOGIN_PAGE = Reply(200, b"<html>Log in</html>", (("Content-Type", "text/html; charset=utf-8"),))
REDIRECT = Reply(302, headers=(("Location", "https://user:s3cret@login.example:8443/?next=%2Fpush"),))


class Sink:
    """Responds to each push with the next of `statuses`, the last of which repeats; `None` hangs until `release`.

    A GET is counted as a check. Its response is 404, as by a receiver without a page, or 503 if not `healthy`.
    """

    def __init__(self, *statuses: int | Reply | None) -> None:
        self.pushes: list[Push] = []
        self.respond: Callable[[Push], Reply | int | None] = lambda _: self._next()
        self.healthy = True
        self.checks = 0
        self._statuses = list(statuses) or [204]
        self._released = threading.Event()
        self._server = ThreadingHTTPServer((LOOPBACK, 0), self._handler())
        self._server.daemon_threads = False  # joined by server_close(), so that no connection outlives the test
        self.port = self._server.server_address[1]
        self.url = f"http://{LOOPBACK}:{self.port}/loki/api/v1/push"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def release(self) -> None:
        """Respond to requests that hang; later ones do not hang."""
        self._released.set()

    def close(self) -> None:
        """Respond to requests that hang, and stop."""
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for(self, pushes: int) -> None:
        """Wait until that many pushes have arrived."""
        eventually(lambda: len(self.pushes) >= pushes, f"{pushes} pushes")

    def _next(self) -> int | Reply | None:
        return self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]

    def _answer(self, push: Push) -> Reply:
        self.pushes.append(push)
        response = self.respond(push)
        if response is None:
            self._released.wait()
        return response if isinstance(response, Reply) else Reply(response or 204)

    def _handler(sink) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                reply = sink._answer(Push(self.path, dict(self.headers), body))
                self.send_response(reply.status)
                for header in (*reply.headers, ("Content-Length", str(len(reply.body)))):
                    self.send_header(*header)
                self.end_headers()
                self.wfile.write(reply.body)

            def do_GET(self) -> None:
                sink.checks += 1
                self.send_response(404 if sink.healthy else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing: requests are in `pushes`."""

        return Handler
