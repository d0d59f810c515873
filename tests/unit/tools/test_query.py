"""Queries return the response or raise one kind of error, and do not use a proxy for this machine."""

import http.server
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest

from tools.query import NoAnswer, UnexpectedAnswer, get_json, is_up, query_mimir, send


class Handler(http.server.BaseHTTPRequestHandler):
    """Responds by path: /json, /text, /moved, /broken; and records the requests."""

    seen: ClassVar[list[tuple[str, str, bytes]]] = []

    def do_GET(self) -> None:
        """Respond to any method."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.command, self.path, body))
        path = self.path.partition("?")[0]
        status = {"/moved": 302, "/broken": 500}.get(path, 200)
        content = {"/text": b"hello", "/broken": b"it broke"}.get(path, b'{"data": {"result": [1]}}')
        self.send_response(status)
        if path == "/moved":
            self.send_header("Location", "/text")
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def base() -> Iterator[str]:
    """Start a server with this handler and return its URL."""
    Handler.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_an_error_status_is_a_response(base: str) -> None:
    """The caller decides what it means; `get_json` raises an error that contains the response."""
    assert send(f"{base}/broken").status == 500
    with pytest.raises(UnexpectedAnswer, match="500: it broke") as caught:
        get_json(f"{base}/broken")
    assert caught.value.answer.text == "it broke"
    assert not is_up(f"{base}/broken")


def test_a_redirect_is_followed(base: str) -> None:
    """Pages redirect a browser to their start page."""
    assert send(f"{base}/moved").text == "hello"
    assert is_up(f"{base}/moved")


def test_a_body_that_is_not_json_is_an_error(base: str) -> None:
    """The message contains the body."""
    with pytest.raises(UnexpectedAnswer, match="not JSON: 'hello'"):
        get_json(f"{base}/text")


def test_query_and_body_are_sent(base: str) -> None:
    """The query is encoded; a body makes it a POST unless another method is set."""
    query_mimir(base, "up == 1")
    send(f"{base}/json", body={"a": 1})
    send(f"{base}/json", method="PUT", body=[])
    assert Handler.seen == [
        ("GET", "/prometheus/api/v1/query?query=up+%3D%3D+1", b""),
        ("POST", "/json", b'{"a": 1}'),
        ("PUT", "/json", b"[]"),
    ]


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy would respond instead of the service; it is used for other hosts."""
    monkeypatch.setenv("http_proxy", base)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(NoAnswer):
        send("http://127.0.0.1:1/json")
    assert not Handler.seen
    send("http://mimir.invalid/json")
    assert Handler.seen == [("GET", "http://mimir.invalid/json", b"")]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:80", "http://127.0.0.1:x/", "http://[::1/"])
def test_an_address_that_is_not_http_is_an_error(url: str) -> None:
    """No file is read, and no stack trace is shown."""
    with pytest.raises(NoAnswer):
        send(url)
