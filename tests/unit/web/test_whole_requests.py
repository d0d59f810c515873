"""Requests reach the application whole, or not at all; granian is played by the test."""

import gc
import weakref
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from common.web.whole_requests import LARGEST_BODY, LARGEST_READ, WholeRequests
from tests.unit.waiting import eventually


class Piece:
    """A piece of a body that will come, as granian's awaitable is: it calls back on any thread."""

    def __init__(self) -> None:
        self._callback: Callable[[Piece], None] = lambda _: None
        self._content = b""
        self._cancelled = False

    def add_done_callback(self, callback: Callable[["Piece"], None]) -> None:
        """Have it called."""
        self._callback = callback

    def come(self, content: bytes) -> None:
        """Be there."""
        self._content = content
        self._callback(self)

    def cancel(self) -> None:
        """Never come."""
        self._cancelled = True
        self._callback(self)

    def cancelled(self) -> bool:
        """Whether it never comes."""
        return self._cancelled

    def result(self) -> bytes:
        """What came."""
        return self._content


class Protocol:
    """One request's half of granian: gives pieces, and takes the answer."""

    def __init__(self) -> None:
        self._piece: Callable[[], Piece | None] = lambda: None
        self.answers: list[tuple[int, list[tuple[str, str]], bytes]] = []

    def __aiter__(self) -> "Protocol":
        return self

    def __anext__(self) -> Piece:
        piece = Piece()
        self._piece = weakref.ref(piece)  # whoever waits for it holds it
        return piece

    @property
    def piece(self) -> Piece | None:
        """The piece that is waited for."""
        return self._piece()

    def come(self, content: bytes) -> None:
        """Have the next piece come; an empty one is the end."""
        assert self.piece, "nobody waits for a piece"
        self.piece.come(content)

    def response_bytes(self, status: int, headers: list[tuple[str, str]], said: bytes) -> None:
        """Take an answer; granian takes the first only."""
        self.answers.append((status, headers, said))


class Seen:
    """An application that notes the bodies it is called with."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.lengths: list[str] = []

    def __call__(self, given: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with 200."""
        self.bodies.append(given["wsgi.input"].read())
        self.lengths.append(given.get("CONTENT_LENGTH", ""))
        start_response("200 OK", [])
        return [b"ok"]


def scope(**headers: str) -> Any:
    """A request with these headers."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(
        headers=told, http_version="1.1", scheme="http", method="POST", path="/", query_string="",
        client="127.0.0.1:1", server="127.0.0.1:2", authority="",
    )  # fmt: skip


@pytest.mark.parametrize("headers", [{}, {"content_length": "0"}])
def test_a_request_without_a_body_is_served_at_once(headers: dict[str, str]) -> None:
    """On the thread that it came on; nothing is waited for."""
    app, protocol = Seen(), Protocol()
    WholeRequests(app).take(scope(**headers), protocol)
    assert protocol.answers == [(200, [], b"ok")]
    assert protocol.piece is None


def test_a_body_is_served_once_it_is_whole() -> None:
    """Not before, and without a look for its end where its length is known."""
    app, protocol = Seen(), Protocol()
    WholeRequests(app).take(scope(content_length="8"), protocol)
    protocol.come(b"half")
    assert app.bodies == []
    protocol.come(b"half")
    assert (app.bodies, app.lengths, len(protocol.answers)) == ([b"halfhalf"], ["8"], 1)


def test_a_body_in_chunks_ends_with_an_empty_one() -> None:
    """And has a length for the application."""
    app, protocol = Seen(), Protocol()
    WholeRequests(app).take(scope(transfer_encoding="chunked"), protocol)
    for piece in (b"a", b"b", b""):
        protocol.come(piece)
    assert (app.bodies, app.lengths) == ([b"ab"], ["2"])


def test_of_what_is_too_large_no_more_is_read_than_keeps_the_caller_listening() -> None:
    """The application is told its length, and refuses it; what is left unread ends the connection."""
    app, announced, chunked = Seen(), Protocol(), Protocol()
    whole = WholeRequests(app)
    whole.take(scope(content_length=str(LARGEST_READ + 1)), announced)
    whole.take(scope(transfer_encoding="chunked"), chunked)
    chunked.come(b"x" * LARGEST_READ)
    assert app.bodies == [b""]
    chunked.come(b"xy")
    assert app.lengths == [str(LARGEST_READ + 1), str(LARGEST_READ + 2)]
    assert (announced.piece, chunked.piece) == (None, None)
    for protocol in (announced, chunked):
        ((_, headers, _),) = protocol.answers
        assert headers == [("Connection", "close")]


def test_a_body_that_was_read_whole_leaves_the_connection_as_it_is() -> None:
    """Also one that is refused: the next request may come."""
    app, protocol = Seen(), Protocol()
    WholeRequests(app).take(scope(content_length=str(LARGEST_BODY + 1)), protocol)
    protocol.come(b"x" * (LARGEST_BODY + 1))
    assert (app.lengths, protocol.answers[0][1]) == ([str(LARGEST_BODY + 1)], [])


def test_a_body_that_breaks_off_is_not_taken_for_whole() -> None:
    """The caller is gone, or closed its half: the application is told how long it should be, the connection ends."""
    app, protocol = Seen(), Protocol()
    WholeRequests(app).take(scope(content_length="8"), protocol)
    for piece in (b"half", b""):
        protocol.come(piece)
    assert (app.bodies, app.lengths) == ([b"half"], ["8"])
    assert protocol.answers[0][1] == [("Connection", "close")]


def test_a_body_that_does_not_come_in_time_is_given_up() -> None:
    """The caller gets 408, the connection ends, the application hears nothing, and it is counted once."""
    app, protocol, late = Seen(), Protocol(), list[int]()
    WholeRequests(app, lambda: late.append(1), patience_s=0.05).take(scope(content_length="8"), protocol)
    protocol.come(b"half")
    piece = protocol.piece
    eventually(lambda: late, "a body given up")
    ((status, headers, said),) = protocol.answers
    assert status == 408
    assert ("Connection", "close") in headers
    assert b'"status": 408' in said
    assert piece is not None
    assert piece.cancelled()
    assert (app.bodies, late) == ([], [1])


def test_an_application_that_fails_is_answered_for(caplog: pytest.LogCaptureFixture) -> None:
    """Granian must not be raised at, and the caller must not wait for nothing."""

    def fails(*_: object) -> Iterable[bytes]:
        raise ValueError("planted")

    protocol = Protocol()
    WholeRequests(fails).take(scope(), protocol)
    assert [status for status, _, _ in protocol.answers] == [500]
    assert "planted" not in str(protocol.answers)
    assert "planted" in caplog.text


@pytest.mark.parametrize("patience_s", [60, 0.05])
def test_nothing_of_a_request_stays(patience_s: float) -> None:
    """Served or given up: what is left of a body ends the connection, and circles through granian are for ever."""
    app, protocol, late = Seen(), Protocol(), list[int]()
    WholeRequests(app, lambda: late.append(1), patience_s=patience_s).take(scope(content_length="8"), protocol)
    gone = weakref.ref(protocol)
    if patience_s > 1:
        protocol.come(b"complete")
    else:
        eventually(lambda: late, "a body given up")
    gc.disable()
    try:
        del protocol
        eventually(lambda: gone() is None, "an end of the request")
    finally:
        gc.enable()
