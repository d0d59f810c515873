"""A stand-in for the server that records what it is asked, in order, and answers as the server would."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from local.ports import LOOPBACK

# What GET finds: always the same, so that what is deleted after it depends on the requester's choices alone.
FOUND = json.dumps([{"name": "found"}]).encode()
STATUSES = {"GET": HTTPStatus.OK, "POST": HTTPStatus.CREATED, "DELETE": HTTPStatus.NO_CONTENT}


@dataclass(frozen=True)
class Asked:
    """One request: method, path, body, and when it came, in seconds of the monotonic clock."""

    method: str
    path: str
    body: str
    at: float = field(compare=False)


class RecordingServer(ThreadingHTTPServer):
    """Records requests while it serves."""

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.asked: list[Asked] = []
        self.connections = 0

    @property
    def settings(self) -> dict[str, str]:
        """The environment that leads a requester here."""
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
        self.server.asked.append(Asked(self.command, self.path, body.decode(), time.monotonic()))
        found = FOUND if self.command == "GET" else b""
        self.send_response(STATUSES[self.command])
        if self.command != "DELETE":
            self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        self.wfile.write(found)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def recording_server() -> Iterator[RecordingServer]:
    """Give a running one, and end it."""
    server = RecordingServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
