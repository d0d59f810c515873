"""A small HTTP server on the standard library's: routes, bounded bodies, plain refusals."""

import http.server
import json
import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from common.web.read_deadline import RequestDeadlineMixin
from local.gateway.compression import gunzip
from local.gateway.refusal import Refusal

# Each connection holds a thread. Further ones are closed at once, until some have ended.
MOST_CONNECTIONS = 1024
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler may know of a request: `body` is decompressed, `captured` holds the {parts} of the path."""

    headers: Message
    query: Mapping[str, str]
    captured: tuple[str, ...]
    body: bytes

    @property
    def content_type(self) -> str:
        """The media type of the body in lower case, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler answers with."""

    body: bytes = b""
    content_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(value: Any) -> Answer:
    """`value` as JSON."""
    return Answer(json.dumps(value, separators=(",", ":")).encode())


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path, of which `{…}` parts match anything but a slash."""

    method: str
    path: str
    handler: Callable[[Request], Answer]

    def match(self, path: str) -> tuple[str, ...] | None:
        """The captured parts if `path` is this route's, else None."""
        mine, theirs = self.path.split("/"), path.split("/")
        if len(mine) != len(theirs):
            return None
        captured = []
        for pattern, part in zip(mine, theirs, strict=True):
            if pattern.startswith("{"):
                captured.append(unquote(part))
            elif pattern != part:
                return None
        return tuple(captured)


class HttpPort(socketserver.ThreadingTCPServer):
    """One listening port with its routes; call `start`, later `stop`."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], routes: list[Route], limit: int, guard: Callable[[str], None] | None = None
    ) -> None:
        """Listen on `address`; bodies above `limit` bytes are refused; `guard` may refuse a Host header."""
        self.routes = routes
        self.limit = limit
        self.guard = guard
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, _Handler)

    @property
    def port(self) -> int:
        """The port listened on, known even if any free one was asked for."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Serve in a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(0.25,), name=f"http-{self.port}", daemon=True).start()

    def stop(self) -> None:
        """Stop serving and close the port."""
        self.shutdown()
        self.server_close()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the base class's signature
        """Whether there is a place for one more connection."""
        return self._places.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and give its place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        """A peer that went away is no fault; anything else is logged with its trace."""
        if not isinstance(sys.exc_info()[1], OSError):
            logging.getLogger(__name__).exception("fault on the connection from %s", client_address)


class _Handler(RequestDeadlineMixin, http.server.BaseHTTPRequestHandler):
    """Answers the requests of one connection; each holds a thread, so who sends a request too slowly is cut off."""

    server: HttpPort
    protocol_version = "HTTP/1.1"
    server_version = "mythical-gateway"
    sys_version = ""
    # Head and body leave in one packet at once; otherwise Nagle's algorithm holds each answer back by 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True

    def _respond(self) -> None:
        try:
            answer = self._route()
        except Refusal as refusal:
            answer = Answer(f"{refusal.message}\n".encode(), TEXT, refusal.status)
        except ConnectionError:
            raise  # there is nobody to answer; see handle_error
        except Exception:
            logging.getLogger(__name__).exception("fault while answering %s", self.path)
            answer = Answer(b"fault in the gateway, see its log\n", TEXT, HTTPStatus.INTERNAL_SERVER_ERROR)
        self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _respond  # noqa: N815 - the names looked up

    def _route(self) -> Answer:
        if self.server.guard:
            self.server.guard(self.headers.get("Host", ""))
        body = self._body()
        try:
            split = urlsplit(self.path)
        except ValueError:
            raise Refusal(400, "the target of the request is no address") from None
        method = "GET" if self.command == "HEAD" else self.command
        allowed = set()
        for route in self.server.routes:
            captured = route.match(split.path)
            if captured is not None and route.method == method:
                return route.handler(Request(self.headers, dict(parse_qsl(split.query)), captured, body))
            if captured is not None:
                allowed.add(route.method)
        if allowed:
            raise Refusal(405, f"{split.path} takes {', '.join(sorted(allowed))}")
        served = ", ".join(f"{route.method} {route.path}" for route in self.server.routes)
        raise Refusal(404, f"nothing at this path; served here: {served}")

    def _body(self) -> bytes:
        """The body, decompressed; it is read even for an unknown path, or it would be taken for the next request."""
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise Refusal(411, "chunked bodies are not taken; send Content-Length")
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if length < 0:
            self.close_connection = True
            raise Refusal(400, "Content-Length is no number of bytes")
        if length > self.server.limit:
            self._discard(length)
            raise Refusal(413, f"the body has more than {self.server.limit} bytes; send smaller batches")
        body = self._read(length)
        if len(body) < length:
            self.close_connection = True
            raise Refusal(400, "the body ends before its Content-Length")
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        if encoding in {"", "identity"}:
            return body
        if encoding == "gzip":
            return gunzip(body, self.server.limit)
        raise Refusal(415, f"Content-Encoding {encoding} is not taken; send gzip or none")

    def _read(self, length: int) -> bytes:
        try:
            return self.rfile.read(length)
        except TimeoutError:
            self.close_connection = True
            raise Refusal(408, f"the body did not come within {self.request_timeout_s:g} seconds") from None

    def _discard(self, length: int) -> None:
        """Read some of what will be refused: most clients look for an answer only once they have sent all of it."""
        self.close_connection = True
        left = min(length, 8 * self.server.limit)
        while left > 0 and (piece := self._read(min(left, 65536))):
            left -= len(piece)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer a request that is no HTTP; the standard library's own would be a page of HTML."""
        self.close_connection = True
        self.command = getattr(self, "command", "") or "GET"
        self._send(Answer(f"{message or HTTPStatus(code).phrase}\n".encode("latin-1", "replace"), TEXT, code))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
        """No access log: it would be one line per push, and the page shows more."""
