"""RejectedRequests: named errors of the API and their one translation into an answer, by RFC 9457 (problem+json)."""

import contextlib
import json
import logging
from http import HTTPStatus
from wsgiref.types import WSGIEnvironment

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

log = logging.getLogger(__name__)

LONGEST_LENGTH = 5  # digits of a Content-Length: a body with more of them is cut off


class Problem(Exception):
    """A request that is not served: status, a sentence for the caller, seconds to wait where that helps.

    `title` names the kind of problem; what went wrong inside stays inside, in the log.
    """

    def __init__(self, status: HTTPStatus, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s


def answer(status: int, detail: str, *, retry_after_s: int | None = None, allow: str | None = None) -> Response:
    """Give the answer for a problem. Source: RFC 9457, "Problem Details for HTTP APIs"."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    response = Response(json.dumps(body), status=status, content_type="application/problem+json")
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    if allow:
        response.headers["Allow"] = allow
    return response


def drain_body(environ: WSGIEnvironment) -> None:
    """Read a small body that nobody wants: unread, it has the connection cut before the caller sees our answer."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length.isascii() and length.isdecimal() and len(length) < LONGEST_LENGTH:
        environ["wsgi.input"].read(int(length))


def _read_away_the_rest() -> None:
    """Read what the view has not read. Some servers wait for ever when a body is read beyond its end."""
    begun = vars(request._get_current_object()).get("stream")  # type: ignore[attr-defined]  # werkzeug's proxy
    if begun is None:
        drain_body(request.environ)
    else:
        with contextlib.suppress(HTTPException):  # longer than it may be, which the answer says already
            begun.read()


def register_error_handlers(app: Flask) -> None:
    """Answer every error of the app as a problem: ours with their sentence, Flask's own, any other as a bare 500."""

    @app.errorhandler(Problem)
    def _ours(problem: Problem) -> Response:
        _read_away_the_rest()
        return answer(problem.status, problem.detail, retry_after_s=problem.retry_after_s)

    @app.errorhandler(HTTPException)
    def _flasks(error: HTTPException) -> Response:
        _read_away_the_rest()
        allow = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return answer(error.code or 500, error.description or "", allow=allow or None)

    @app.errorhandler(Exception)
    def _unforeseen(error: Exception) -> Response:
        log.error("unforeseen error", exc_info=error)
        return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "The service made a mistake; its log says which.")
