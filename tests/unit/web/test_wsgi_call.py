"""A request that came by RSGI, as a WSGI application sees it."""

from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.validate import validator

import pytest
from flask import Flask, request

from common.web.wsgi_call import call, environ


def scope(*headers: tuple[str, str], **changes: str) -> Any:
    """A request's scope, as granian gives it."""
    usual = {
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": "/unicorn",
        "query_string": "limit=1",
        "client": "127.0.0.1:5001",
        "server": "127.0.0.1:4000",
        "authority": "",
    }
    return SimpleNamespace(headers=dict_of(headers), **(usual | changes))


def dict_of(headers: tuple[tuple[str, str], ...]) -> Any:
    """Headers, of which one may come twice."""
    return SimpleNamespace(items=lambda: list(headers))


def echo(given: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the body."""
    start_response("201 Created", [("Content-Type", "text/plain")])
    return [given["wsgi.input"].read(int(given["CONTENT_LENGTH"]))]


def test_a_call_is_one_by_the_standard() -> None:
    """The standard library's validator finds nothing wrong with the environment."""
    told = scope(("host", "here"), ("content-type", "text/plain"), ("content-length", "4"))
    assert call(validator(echo), told, b"body", 4) == (201, [("Content-Type", "text/plain")], b"body")


def test_the_environment_says_what_the_request_said() -> None:
    """Each header under its name, several of one name joined, and what is no header beside them."""
    given = environ(
        scope(
            ("host", "here"),
            ("content-type", "text/plain"),
            ("accept", "a"),
            ("accept", "b"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ),
        b"body",
        4,
    )
    assert (given["HTTP_HOST"], given["CONTENT_TYPE"], given["CONTENT_LENGTH"]) == ("here", "text/plain", "4")
    assert (given["HTTP_ACCEPT"], given["HTTP_COOKIE"]) == ("a,b", "a=1;b=2")
    assert (given["REQUEST_METHOD"], given["PATH_INFO"], given["QUERY_STRING"]) == ("POST", "/unicorn", "limit=1")
    assert (given["REMOTE_ADDR"], given["SERVER_NAME"], given["SERVER_PORT"]) == ("127.0.0.1", "127.0.0.1", "4000")
    assert {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"}.isdisjoint(given)


def test_a_header_with_an_underscore_does_not_pass_for_one_with_a_hyphen() -> None:
    """A proxy that checks `Sec-Fetch-Site` lets `Sec_Fetch_Site` pass."""
    given = environ(scope(("sec_fetch_site", "none"), ("sec-fetch-site", "cross-site")), b"", 0)
    assert given["HTTP_SEC_FETCH_SITE"] == "cross-site"


def test_a_body_that_came_in_chunks_has_a_length_by_now() -> None:
    """It is whole; only how it was sent said otherwise."""
    given = environ(scope(("transfer-encoding", "chunked")), b"body", 4)
    assert given["CONTENT_LENGTH"] == "4"
    assert "HTTP_TRANSFER_ENCODING" not in given


@pytest.mark.parametrize(("length", "status"), [(2, 200), (8, 400)])
def test_flask_refuses_a_body_that_broke_off(length: int, status: int) -> None:
    """It may be good JSON as far as it came, and yet it is not what the caller meant to send."""
    app = Flask("test")
    app.config["MAX_CONTENT_LENGTH"] = 100

    @app.post("/unicorn")
    def _add() -> Any:
        return request.get_json()

    assert call(app, scope(("content-type", "application/json")), b"{}", length)[0] == status


def test_an_address_of_version_6_is_written_without_brackets() -> None:
    """As everywhere but before a port."""
    assert environ(scope(client="[::1]:5001"), b"", 0)["REMOTE_ADDR"] == "::1"


def test_a_path_is_bytes_in_the_clothes_of_characters() -> None:
    """By PEP 3333; frameworks read them as UTF-8."""
    assert environ(scope(path="/ü"), b"", 0)["PATH_INFO"].encode("latin-1").decode() == "/ü"


class Closing:
    """Pieces of an answer that want to be closed."""

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield b"one "
        raise ValueError("planted")

    def close(self) -> None:
        """Note it."""
        self.closed = True


def test_an_answer_is_closed_even_when_it_fails() -> None:
    """What the framework opened for the request ends with it."""
    pieces = Closing()

    def fails(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return pieces

    with pytest.raises(ValueError, match="planted"):
        call(fails, scope(), b"", 0)
    assert pieces.closed


def test_what_is_written_the_old_way_comes_first() -> None:
    """The function that start_response gives is part of the standard, though nobody should use it."""

    def writes(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        write(b"first, ")
        return [b"second"]

    assert call(writes, scope(), b"", 0)[2] == b"first, second"
