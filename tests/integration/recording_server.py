"""A stand-in for the server that records the requests in order, and answers like the server."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from local.ports import LOOPBACK

# GET always finds the same name, so that only the requester's choices determine which name is deleted afterwards.
FOUND = json.dumps([{"name": "found"}]).encode()
STATUSES = {"GET": HTTPStatus.OK, "POST": HTTPStatus.CREATED, "DELETE": HTTPStatus.NO_CONTENT}


@dataclass(frozen=True)
class Request:
    """A request: method, path, body, and time of arrival in seconds of the monotonic clock."""

    method: str
    path: str
    body: str
    at: float = field(compare=False)


class RecordingServer(ThreadingHTTPServer):
    """A server that records its requests."""

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.requests: list[Request] = []
        self.connections = 0

    @property
    def settings(self) -> dict[str, str]:
        """The environment of a requester that uses this server."""
        return {"MYTHICAL_SERVER_HOST_PORT": f"{LOOPBACK}:{self.server_address[1]}"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # so that the requester can keep its connection
    server: RecordingServer

    def setup(self) -> None:
        """Count the connection."""
        self.server.connections += 1
        super().setup()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(Request(self.command, self.path, body.decode(), time.monotonic()))
        found = FOUND if self.command == "GET" else b""
        self.send_response(STATUSES[self.command])
        if self.command != "DELETE":
            self.send_header("Content-Length", str(len(found)))
        if self.close_connection:  # as the caller asks; RFC 9112, section 9.6
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(found)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def recording_server() -> Iterator[RecordingServer]:
    """Run the server, and stop it at the end."""
    server = RecordingServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
