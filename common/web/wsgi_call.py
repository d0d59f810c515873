"""One call of a WSGI application for a request that came as granian's RSGI scope. Source: PEP 3333."""

import io
import sys
from collections.abc import Callable
from typing import Any
from wsgiref.types import WSGIApplication, WSGIEnvironment

Headers = list[tuple[str, str]]
Write = Callable[[bytes], object]

ALWAYS: WSGIEnvironment = {
    "SCRIPT_NAME": "",
    "wsgi.errors": sys.stderr,
    "wsgi.input_terminated": True,  # not in PEP 3333: what Werkzeug asks for before it reads a body in chunks
    "wsgi.multiprocess": False,
    "wsgi.multithread": True,
    "wsgi.run_once": False,
    "wsgi.version": (1, 0),
}


def call(app: WSGIApplication, scope: Any, content: bytes, length: int) -> tuple[int, Headers, bytes]:
    """Give status, headers and body of the application's answer to a request with that body.

    `length` is what the request says of its body, which is more than `content` when it was too much to be read or broke
    off; Werkzeug refuses both, with 413 and 400.
    """
    begun: list[tuple[str, Headers]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: Headers, _: object = None, /) -> Write:
        begun[:] = [(status, headers)]
        return written.append

    pieces = app(environ(scope, content, length), start_response)
    try:
        said = b"".join(pieces)
    finally:
        if close := getattr(pieces, "close", None):
            close()
    status, headers = begun[0]
    return int(status[:3]), headers, b"".join(written) + said if written else said


def environ(scope: Any, content: bytes, length: int) -> WSGIEnvironment:
    """Give the environment of the request."""
    client, _, _ = scope.client.rpartition(":")
    name, _, port = scope.server.rpartition(":")
    told = ALWAYS | {
        "SERVER_PROTOCOL": "HTTP/1.1" if scope.http_version == "1.1" else "HTTP/1.0",
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "REMOTE_ADDR": client.strip("[]"),
        "REQUEST_METHOD": scope.method,
        # WSGI wants bytes, one in each character.
        "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(content),
    }
    _add_headers(told, scope)
    if length:
        told["CONTENT_LENGTH"] = str(length)
    if len(content) < length:
        del told["wsgi.input_terminated"]  # with it, Werkzeug would take whatever came for the whole
    return told


def _add_headers(told: WSGIEnvironment, scope: Any) -> None:
    for name, value in scope.headers.items():
        if "_" in name:
            continue  # would be taken for the one with a hyphen, which a proxy in front may have checked
        key = "HTTP_" + name.upper().replace("-", "_")
        told[key] = f"{told[key]}{';' if key == 'HTTP_COOKIE' else ','}{value}" if key in told else value
    told.pop("HTTP_CONTENT_LENGTH", None)
    if kind := told.pop("HTTP_CONTENT_TYPE", None):
        told["CONTENT_TYPE"] = kind
    # The body is whole by now, and has a length, however it came.
    told.pop("HTTP_TRANSFER_ENCODING", None)
    if "HTTP_HOST" not in told:
        told["HTTP_HOST"] = scope.authority or ""
