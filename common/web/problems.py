"""Named errors of the API, and their one translation into a response, by RFC 9457 (problem+json).

Also the guard against pages of other sites in a browser on this machine, which must not reach the fault switches. A
browser sends requests to 127.0.0.1 for any page. Three things identify such a request: the Host header, which is
another name if the page's own name was made to resolve to this machine (DNS rebinding), the Origin header, and
Sec-Fetch-Site. Programs such as curl send neither of the last two.
"""

import contextlib
import json
import logging
from http import HTTPStatus

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException

from common.core.address import is_trusted_host

log = logging.getLogger(__name__)

# The largest body that a service accepts, in bytes.
MAX_BODY_BYTES = 16 * 1024

# Values of Sec-Fetch-Site, "" for programs that do not send it.
OWN_SITE = frozenset({"", "same-origin", "none"})

INTERNAL_ERROR = "Internal error. See the service log for details."


class Problem(Exception):
    """A request that is rejected: status, a sentence for the caller, seconds to wait if that helps.

    `detail` must not contain internals; those belong in the log.
    """

    def __init__(self, status: HTTPStatus, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s


def problem_response(
    status: int, detail: str, *, retry_after_s: int | None = None, allow: str | None = None
) -> Response:
    """Return the response for a problem. Source: RFC 9457, "Problem Details for HTTP APIs"."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    response = Response(json.dumps(body), status=status, content_type="application/problem+json")
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    if allow:
        response.headers["Allow"] = allow
    return response


def _drain_body() -> None:
    """Drain a small unread body, or the connection is reset before the client reads the response."""
    if (request.content_length or 0) <= MAX_BODY_BYTES:
        with contextlib.suppress(HTTPException):  # too long or truncated, which the response says already
            request.stream.read()


def register_error_handlers(app: Flask) -> None:
    """Answer every error of the app as a problem: ours with their detail, Flask's own, any other as a bare 500."""

    @app.errorhandler(Problem)
    def _problem(problem: Problem) -> Response:
        _drain_body()
        return problem_response(problem.status, problem.detail, retry_after_s=problem.retry_after_s)

    @app.errorhandler(HTTPException)
    def _http_exception(error: HTTPException) -> Response:
        _drain_body()
        allow = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return problem_response(error.code or 500, error.description or "", allow=allow or None)

    @app.errorhandler(Exception)
    def _unhandled(error: Exception) -> Response:
        log.error("unhandled exception", exc_info=error)
        return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL_ERROR)


def reject_cross_site(incoming: Request) -> None:
    """Raise Problem 403 for a request from a page of another site. Source: W3C, "Fetch Metadata"."""
    if not is_trusted_host(incoming.headers.get("Host", "")):
        detail = "Use localhost, an IP address or this machine's host name to reach this endpoint."
        raise Problem(HTTPStatus.FORBIDDEN, detail)
    reject_cross_origin(incoming)


def reject_cross_origin(incoming: Request) -> None:
    """Raise Problem 403 for a request from a page of another origin, under any host name.

    For endpoints that programs reach under any name, such as a scrape.
    """
    host, origin = incoming.headers.get("Host", ""), incoming.headers.get("Origin")
    # An origin is a scheme and a host, or "null".
    same = origin is None or origin.partition("://")[2] == host
    if not same or incoming.headers.get("Sec-Fetch-Site", "") not in OWN_SITE:
        raise Problem(HTTPStatus.FORBIDDEN, "Cross-site requests aren't allowed.")
