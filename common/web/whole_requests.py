"""Requests are read whole before the application sees them, and no thread waits for what is not there yet.

A caller that announces a body and sends it a byte now and then would hold a thread for as long as it likes; with as
many of them as there are threads, nobody else would be served. Here a request is put aside until its body has come.
One that has not come whole after five seconds is answered with 408, and its connection ends.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from wsgiref.types import WSGIApplication

from common.web.problems import answer
from common.web.wsgi_call import call

log = logging.getLogger(__name__)

PATIENCE_S = 5.0
LOOK_EVERY_S = 0.5

Headers = Sequence[tuple[str, str]]
CLOSE: Headers = (("Connection", "close"),)

# The largest body that an application takes, in bytes.
LARGEST_BODY = 16 * 1024

# What is larger the application refuses by its limit. Up to here it is read nevertheless: cut off while it still sends,
# a caller would not see the refusal. Beyond, the connection is closed after the answer.
LARGEST_READ = 64 * 1024


class WholeRequests:
    """Takes granian's requests, on granian's threads, and calls the application with each that is whole.

    A request comes as granian's RSGI scope and protocol: RSGI lets a body be waited for without a thread, which WSGI
    does not. `late` is called for each that was given up.
    """

    def __init__(
        self, app: WSGIApplication, late: Callable[[], object] = lambda: None, patience_s: float = PATIENCE_S
    ) -> None:
        self._app = app
        self._late = late
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._awaited: dict[_Body, float] = {}  # in the order in which they end
        refusal = answer(408, f"The body did not come within {patience_s:g} seconds.")
        self._headers = [*refusal.headers.to_wsgi_list(), *CLOSE]
        self._said = refusal.get_data()
        threading.Thread(target=self._watch, name="late-bodies", daemon=True).start()

    def take(self, scope: Any, protocol: Any) -> None:
        """Serve a request, now or once its body is there; raises nothing."""
        length = _announced(scope.headers)
        if length == 0:
            self._serve(scope, protocol, b"", 0)
        elif length is not None and length > LARGEST_READ:
            self._serve(scope, protocol, b"", length, CLOSE)
        else:
            self._read(_Body(self, scope, protocol, length))

    def _read(self, body: "_Body") -> None:
        with self._lock:
            self._awaited[body] = time.monotonic() + self._patience_s
        body.read_on()

    def came(self, body: "_Body") -> None:
        """Serve a request whose body has come, unless it was given up in that moment."""
        with self._lock:
            if self._awaited.pop(body, None) is None:
                return
        left = CLOSE if body.cut else ()
        length = max(len(body.content), body.length or 0)
        self._serve(body.scope, body.protocol, bytes(body.content), length, left)

    def _serve(self, scope: Any, protocol: Any, content: bytes, length: int, more: Headers = ()) -> None:
        try:
            status, headers, said = call(self._app, scope, content, length)
        except Exception:
            log.exception("an answer could not be made")
            status, headers, said = 500, [("Content-Length", "0")], b""
        protocol.response_bytes(status, [*headers, *more], said)

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            self._end_the_late()

    def _end_the_late(self) -> None:
        for body in self._overdue():
            body.protocol.response_bytes(408, self._headers, self._said)
            body.give_up()
            self._late()

    def _overdue(self) -> list["_Body"]:
        now = time.monotonic()
        with self._lock:
            late = [body for body, ends in self._awaited.items() if ends <= now]
            for body in late:
                del self._awaited[body]
        return late


def _announced(headers: Any) -> int | None:
    """Give the length of the body in bytes, 0 where there is none, None where it is not told."""
    told = headers.get("content-length", "0")
    return int(told) if told.isdecimal() and "transfer-encoding" not in headers else None


class _Body:
    """A body on its way: what came of it, and who waits for it. `length` is None for one that comes in chunks."""

    def __init__(self, requests: WholeRequests, scope: Any, protocol: Any, length: int | None) -> None:
        self.scope = scope
        self.protocol = protocol
        self.content = bytearray()
        self.length = length
        self.cut = False  # the rest of it is left unread, or never came
        self._requests = requests
        self._pieces = protocol.__aiter__()
        self._next: Any = None
        self._given_up = False

    def read_on(self) -> None:
        """Wait for the next piece, without a thread: granian calls back on one of its own."""
        self._next = self._pieces.__anext__()
        self._next.add_done_callback(self._came)
        if self._given_up:  # while the piece before was looked at
            self.give_up()

    def give_up(self) -> None:
        """Wait no more; granian ends the connection once nobody holds what is left of the body."""
        self._given_up = True
        if awaited := self._next:
            awaited.cancel()
        self._next = self._pieces = None

    def _came(self, future: Any) -> None:
        if future.cancelled():
            return
        piece = future.result()
        # It holds this object, which holds it: Python cannot see through granian's half of the circle.
        self._next = None
        self.content += piece
        if self._is_whole(piece):
            self._requests.came(self)
        else:
            self.read_on()

    def _is_whole(self, piece: bytes) -> bool:
        """Tell whether no more is to come, or none that would be taken; an empty piece is the end.

        The end may be that of the connection: then the body is shorter than its length, which the application is told.
        Of one that comes in chunks granian does not say which end it is.
        """
        if not piece:
            self.cut = len(self.content) < (self.length or 0)
            return True
        if self.length is None:
            self.cut = len(self.content) > LARGEST_READ
            return self.cut
        return len(self.content) >= self.length
