"""A deadline for reading a whole request, for servers based on the standard library's.

The stdlib timeout is per recv(): a client that sends one byte now and then would hold a connection, and its thread,
forever.
"""

import http.server
import io
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

IDLE_S = 60.0  # until the next request on a connection that is kept open
REQUEST_TIMEOUT_S = 10.0  # from the first byte of a request to its last
LINGER_S = 5.0  # from the last response on a connection to its end; the default of nginx, lingering_timeout


class DeadlineReader(io.RawIOBase):
    """Reads from a socket until the monotonic clock reaches `ends`; then raises TimeoutError."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.ends = 0.0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # the stub's type has no name
        """Wait for the next piece and return its length in bytes, 0 at the end."""
        left_s = self.ends - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request was not complete in time")
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


if TYPE_CHECKING:
    _Base = http.server.BaseHTTPRequestHandler
else:
    _Base = object


class RequestDeadlineMixin(_Base):
    """Mixin to put before BaseHTTPRequestHandler: closes the connection of a request that is not complete in time.

    Where the handler reads a body that is late, TimeoutError is raised.
    """

    request_timeout_s = REQUEST_TIMEOUT_S
    idle_s = IDLE_S

    def setup(self) -> None:
        """Wrap the connection in the reader with the deadline."""
        super().setup()
        self._reads = DeadlineReader(self.connection)
        self.rfile = io.BufferedReader(self._reads)

    def handle_one_request(self) -> None:
        """Wait for a request, and read it before its deadline."""
        self._reads.ends = time.monotonic() + self.idle_s
        try:
            # Some clients send an empty line after a body: RFC 9112, section 2.2.
            while (first := self.rfile.peek(1)[:1]) in (b"\r", b"\n"):  # type: ignore[attr-defined]  # a BufferedReader
                self.rfile.read(1)
        except OSError:
            first = b""
        if not first:
            self.close_connection = True
            return
        self._reads.ends = time.monotonic() + self.request_timeout_s
        super().handle_one_request()

    def send_response(self, code: int, message: str | None = None) -> None:
        """Start the response; a client that does not read it is treated like an idle one."""
        self.connection.settimeout(self.idle_s)
        super().send_response(code, message)

    def finish(self) -> None:
        """Send the rest of the response, and read what the client still sends, for at most LINGER_S.

        A connection that is closed with unread bytes is reset, so the client may lose the response: RFC 9112, section
        9.6.
        """
        with suppress(OSError):  # the client has closed the connection, or sends for longer
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self._reads.ends = time.monotonic() + LINGER_S
            while self.rfile.read1(65536):
                pass
        super().finish()
