"""The WSGI layer reads whole bodies, buffers responses, and always responds."""

import io
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from flask import Flask, request
from werkzeug.test import Client, EnvironBuilder, run_wsgi_app

from common.web.problems import MAX_BODY_BYTES, register_error_handlers
from common.web.server import MAX_READ_BYTES, buffered


def app() -> Flask:
    """Return an application whose response is the length of a JSON body."""
    made = Flask("test")
    made.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    register_error_handlers(made)

    @made.post("/")
    def _length() -> Any:
        return {"length": len(request.get_data())}

    return made


def post(sent: bytes, length: int | None = None) -> tuple[str, bytes]:
    """Send a body with that announced length, or in chunks, as granian passes both to the application."""
    environ = EnvironBuilder(method="POST").get_environ()
    environ |= {"wsgi.input": io.BytesIO(sent), "wsgi.input_terminated": True}
    if length is None:
        environ.pop("CONTENT_LENGTH", None)
    environ |= {"HTTP_TRANSFER_ENCODING": "chunked"} if length is None else {"CONTENT_LENGTH": str(length)}
    pieces, status, _ = run_wsgi_app(buffered(app()), environ)
    return status, b"".join(pieces)


def test_the_body_is_read_before_the_application_is_called() -> None:
    """A client that sends slowly does not count as a request that is processed."""
    read: list[int] = []

    class Input(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            read.append(size or 0)
            return super().read(size)

    def inner(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert read == [4]
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    environ = {"CONTENT_LENGTH": "4", "wsgi.input": Input(b"body")}
    assert buffered(inner)(environ, lambda *_: lambda _: None) == [b"body"]


def test_a_body_in_chunks_is_read_to_its_end() -> None:
    """It has no length, and the application gets all of it."""
    assert post(b"eight by") == ("200 OK", b'{"length":8}\n')


def test_a_truncated_body_is_rejected() -> None:
    """It may be valid JSON up to the end of the truncated part."""
    assert post(b"{}", 2)[0] == "200 OK"
    assert post(b"{}", 8)[0] == "400 BAD REQUEST"


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, MAX_READ_BYTES + 1])
def test_a_body_that_is_too_large_is_rejected(size: int) -> None:
    """This holds with an announced length and in chunks."""
    assert post(b"x" * size, size)[0].startswith("413")
    assert post(b"x" * size)[0].startswith("413")


def test_a_body_far_above_the_limit_is_not_read() -> None:
    """Memory for it would be needed in each thread."""
    body = io.BytesIO(b"x" * (MAX_READ_BYTES + 1))
    environ = {"CONTENT_LENGTH": str(MAX_READ_BYTES + 1), "wsgi.input": body}
    buffered(lambda *_: [])(environ, lambda *_: lambda _: None)
    assert body.tell() == 0


class Response:
    """A response whose second piece raises an error."""

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield b"one "
        raise ValueError("injected")

    def close(self) -> None:
        """Record the call."""
        self.closed = True


def test_a_response_is_closed_even_if_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Resources of the request are released, and the client does not get half of a response."""
    pieces = Response()

    def fails(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return pieces

    assert Client(buffered(fails)).get("/").status_code == 500
    assert pieces.closed
    assert [record.message for record in caplog.records] == ["unhandled exception"]


def test_an_exception_of_the_application_results_in_a_problem_response(caplog: pytest.LogCaptureFixture) -> None:
    """The response does not contain the exception; the log does."""

    def fails(*_: object) -> Iterable[bytes]:
        raise ValueError("injected")

    response = Client(buffered(fails)).get("/")
    assert (response.status_code, response.content_type) == (500, "application/problem+json")
    assert "injected" not in response.text
    assert "injected" in caplog.text
