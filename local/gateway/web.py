"""A small HTTP server based on the standard library's: routes, bounded bodies, errors as one line of text."""

import http.server
import json
import logging
import socket
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from email.message import Message
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from common.web.read_deadline import RequestDeadlineMixin
from local.gateway.chunked import read_chunks
from local.gateway.compression import decompress
from local.gateway.http_error import HttpError

# Each connection occupies a thread. Further connections are closed immediately.
MOST_CONNECTIONS = 1024
# Of a body that is rejected, this many times the limit is read before the response.
DISCARDED = 8
LONGEST_NUMBER = 18
TEXT = "text/plain; charset=utf-8"
HEAD_DEFECTS = (FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as its handler sees it: `body` is decompressed, `captured` holds the {parts} of the path."""

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
    """The response of a handler."""

    body: bytes = b""
    content_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def content_coding(headers: Message) -> str:
    """Return how a body was compressed, in lower case; empty if it was not."""
    coding: str = headers.get("Content-Encoding", "").strip().lower()
    return "" if coding == "identity" else coding


def json_answer(value: Any) -> Answer:
    """Return `value` as a JSON response."""
    return Answer(json.dumps(value, separators=(",", ":")).encode())


def parse_json(body: bytes) -> Any:
    """Return the value of a body in JSON. Raises HttpError 400 if it is not JSON.

    Programs log anything: bytes that are not UTF-8 and half surrogate pairs, which no protobuf accepts, are replaced.
    """
    try:
        value = json.loads(body.decode("utf-8-sig", "replace"))
        if b"\\ud" in body or b"\\uD" in body:
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise HttpError(400, "the body is not JSON") from None
    return value


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path, of which `{…}` parts match anything but a slash."""

    method: str
    path: str
    handler: Callable[[Request], Answer]

    def match(self, path: str) -> tuple[str, ...] | None:
        """Return the captured parts if `path` matches this route, else None."""
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


# For clients and scripts that wait for the port.
READY = Route("GET", "/ready", lambda _: Answer(b"ready\n", TEXT))


class HttpPort(socketserver.ThreadingTCPServer):
    """One listening port with its routes; call `start`, later `stop`. `rejected` counts rejections by status."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], routes: list[Route], limit: int, guard: Callable[[str], None] | None = None
    ) -> None:
        """Listen on `address`. Reject bodies above `limit` bytes; `guard` may raise HttpError for a Host header."""
        self.routes = routes
        self.limit = limit
        self.guard = guard
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.rejected: Counter[int] = Counter()
        self._counting = threading.Lock()
        self._slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, _Handler)

    @property
    def port(self) -> int:
        """The port listened on, also if 0 asked for any free one."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Serve in a new thread."""
        threading.Thread(target=self.serve_forever, args=(0.25,), name=f"http-{self.port}", daemon=True).start()

    def stop(self) -> None:
        """Stop serving and close the port."""
        self.shutdown()
        self.server_close()

    def count_rejection(self, status: int) -> None:
        """Count a request that is rejected with this status."""
        with self._counting:
            self.rejected[status] += 1

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the base class's signature
        """Return whether another connection may be served."""
        return self._slots.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, then release its slot."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        """Ignore a connection that its peer closed; log anything else with its stack trace."""
        if not isinstance(sys.exc_info()[1], OSError):
            logging.getLogger(__name__).exception("fault on the connection from %s", client_address)


class _Handler(RequestDeadlineMixin, http.server.BaseHTTPRequestHandler):
    """Answers the requests of one connection; each occupies a thread, so requests have a deadline."""

    server: HttpPort
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # of a first line that is not HTTP: its response has a status, too
    server_version = "mythical-gateway"
    sys_version = ""
    # Send head and body in one packet; otherwise Nagle's algorithm delays each response by 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True

    def _respond(self) -> None:
        try:
            answer = self._route()
        except HttpError as error:
            self.server.count_rejection(error.status)
            answer = Answer(f"{error.message}\n".encode(), TEXT, error.status)
        except ConnectionError:
            raise  # the peer is gone; see handle_error
        except Exception:
            logging.getLogger(__name__).exception("fault while answering %s", self.path)
            answer = Answer(b"internal error; see the log of the gateway\n", TEXT, HTTPStatus.INTERNAL_SERVER_ERROR)
        self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _respond  # noqa: N815 - the names looked up

    def _route(self) -> Answer:
        if self.server.guard:
            self.server.guard(self.headers.get("Host", ""))
        body = self._body()
        try:
            split = urlsplit(self.path)
        except ValueError:
            raise HttpError(400, "the request target is not a valid URL") from None
        method = "GET" if self.command == "HEAD" else self.command
        allowed = set()
        for route in self.server.routes:
            captured = route.match(split.path)
            if captured is not None and route.method == method:
                return route.handler(Request(self.headers, dict(parse_qsl(split.query)), captured, body))
            if captured is not None:
                allowed.add(route.method)
        if allowed:
            raise HttpError(405, f"{split.path} accepts {', '.join(sorted(allowed))}")
        served = ", ".join(f"{route.method} {route.path}" for route in self.server.routes)
        raise HttpError(404, f"nothing at this path; served here: {served}")

    def _body(self) -> bytes:
        """Return the decompressed body; read it also for an unknown path, or it would be parsed as the next request."""
        # After such a line the rest of the head, which may have the length of the body, was not parsed. The other
        # defects are about parts of a body, which Python's parser of mail looks for in the head.
        if any(isinstance(defect, HEAD_DEFECTS) for defect in self.headers.defects):
            self._fail(400, "a line of the head is not a header field")
        body = self._read_chunked() if "Transfer-Encoding" in self.headers else self._read_counted()
        coding = content_coding(self.headers)
        return decompress(coding, body, self.server.limit) if coding else body

    def _read_counted(self) -> bytes:
        """Return a body whose length the head names."""
        named = {value.strip() for value in self.headers.get_all("Content-Length", ["0"])}
        length = named.pop()
        # Not int() alone, which accepts "+1" and "1_0": a proxy that reads them differently sees other requests.
        if named or not (length.isascii() and length.isdigit() and len(length) <= LONGEST_NUMBER):
            self._fail(400, "Content-Length is not a number of bytes")
        size = int(length)
        if size > self.server.limit:
            self._discard(size)
            raise HttpError(413, self._too_large())
        body = self._read(size)
        if len(body) < size:
            self._fail(400, "the body ends before its Content-Length")
        return body

    def _read_chunked(self) -> bytes:
        """Return a body in chunks. Any fault closes the connection: where the next request begins is unknown then.

        Source of the rules for the head: RFC 9112, sections 6.1 and 6.3.
        """
        codings = ",".join(self.headers.get_all("Transfer-Encoding", []))
        if [coding.strip().lower() for coding in codings.split(",")] != ["chunked"]:
            self._fail(501, "this Transfer-Encoding is not supported; send chunked, or Content-Length")
        if "Content-Length" in self.headers or self.request_version == "HTTP/1.0":
            self._fail(400, "a chunked body has no Content-Length, and is not for HTTP 1.0")
        pieces: list[bytes] = []
        received = 0
        try:
            for piece in read_chunks(self.rfile):
                received += len(piece)
                if received <= self.server.limit:
                    pieces.append(piece)
                elif received > DISCARDED * self.server.limit:
                    break
        except HttpError as error:
            self._fail(error.status, error.message)
        except TimeoutError:
            self._fail(408, self._too_late())
        if received > self.server.limit:
            self._fail(413, self._too_large())
        return b"".join(pieces)

    def _read(self, length: int) -> bytes:
        try:
            return self.rfile.read(length)
        except TimeoutError:
            self._fail(408, self._too_late())

    def _discard(self, length: int) -> None:
        """Read a part of a body that is rejected: most clients read the response only after sending everything."""
        self.close_connection = True
        left = min(length, DISCARDED * self.server.limit)
        while left > 0 and (piece := self._read(min(left, 65536))):
            left -= len(piece)

    def _fail(self, status: int, message: str) -> NoReturn:
        """Reject a request of which bytes may be left on the connection, which cannot be used any more."""
        self.close_connection = True
        raise HttpError(status, message) from None

    def _too_large(self) -> str:
        return f"the body has more than {self.server.limit} bytes; send smaller batches"

    def _too_late(self) -> str:
        return f"the body did not arrive within {self.request_timeout_s:g} seconds"

    def handle_expect_100(self) -> bool:
        """Answer `Expect: 100-continue` at once: the response is buffered, and the client waits for it."""
        accepted = super().handle_expect_100()
        self.wfile.flush()
        return accepted

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
        """Answer a request that is not HTTP, in plain text instead of the standard library's HTML."""
        self.close_connection = True
        self.command = getattr(self, "command", "") or "GET"
        self._send(Answer(f"{message or HTTPStatus(code).phrase}\n".encode("latin-1", "replace"), TEXT, code))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
        """Write no access log: it would be one line per push."""
