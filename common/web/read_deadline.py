"""Reading from a connection by a deadline for the whole request, for servers on the standard library's.

Its own timeout is for each piece that comes, so a byte now and then would hold a connection, and its thread, for ever.
"""

import http.server
import io
import socket
import time
from typing import TYPE_CHECKING

IDLE_S = 60.0  # of a connection that is kept, until the next request begins
REQUEST_TIMEOUT_S = 10.0  # for a request, from its first byte to its last


class DeadlineReader(io.RawIOBase):
    """The reading side of a socket, until the moment `ends`, by the monotonic clock; then TimeoutError."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.ends = 0.0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # the stub's type has no name
        """Wait for the next piece and give its length, 0 at the end."""
        left_s = self.ends - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request did not come in time")
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


if TYPE_CHECKING:
    _Base = http.server.BaseHTTPRequestHandler
else:
    _Base = object


class RequestDeadlineMixin(_Base):
    """For a class that derives from BaseHTTPRequestHandler too, before it: requests that come late are hung up on.

    A body that does not come in time raises TimeoutError where it is read.
    """

    request_timeout_s = REQUEST_TIMEOUT_S
    idle_s = IDLE_S

    def setup(self) -> None:
        """Put the deadline between the connection and whoever reads."""
        super().setup()
        self._reads = DeadlineReader(self.connection)
        self.rfile = io.BufferedReader(self._reads)

    def handle_one_request(self) -> None:
        """Wait for a request to begin, and for that long at most until it is there."""
        self._reads.ends = time.monotonic() + self.idle_s
        try:
            begun = self.rfile.peek(1)  # type: ignore[attr-defined]  # it is a BufferedReader
        except OSError:
            begun = b""
        if not begun:
            self.close_connection = True
            return
        self._reads.ends = time.monotonic() + self.request_timeout_s
        super().handle_one_request()

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin the answer; whoever does not take it is not waited for longer than an idle one."""
        self.connection.settimeout(self.idle_s)
        super().send_response(code, message)
