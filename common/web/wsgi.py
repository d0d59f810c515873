"""What the web server does not do for an application: whole bodies in both directions, a response in every case."""

import io
import logging
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from common.web.problems import INTERNAL_ERROR, problem_response

log = logging.getLogger(__name__)

# The largest body that is read, in bytes. It is above the application's own limit: a caller whose connection is closed
# while it still sends does not see the rejection.
MAX_READ_BYTES = 64 * 1024


def buffered(app: WSGIApplication) -> WSGIApplication:
    """Return `app` behind a layer that reads the request's body first and collects the response.

    A caller that sends its body slowly then holds a thread, but no place among the requests that are processed. An
    exception becomes a response with status 500 and a log line, also one that is raised while the response is made.
    """

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            _read_body(environ)
            pieces = app(environ, start_response)
            try:
                return [b"".join(pieces)]
            finally:
                if close := getattr(pieces, "close", None):
                    close()
        except Exception:
            log.exception("unhandled exception")
            return problem_response(500, INTERNAL_ERROR)(environ, start_response)

    return call


def _read_body(environ: WSGIEnvironment) -> None:
    """Replace the request's body by a buffer of known length; leave one that the application rejects by its length."""
    chunked = environ.pop("HTTP_TRANSFER_ENCODING", "")
    length = MAX_READ_BYTES + 1 if chunked else int(environ.get("CONTENT_LENGTH") or 0)
    # Not in PEP 3333: with it, Werkzeug would process a truncated body as if it were the whole.
    environ.pop("wsgi.input_terminated", None)
    if not length or (length > MAX_READ_BYTES and not chunked):
        return
    body = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(body)
    if chunked:
        environ["CONTENT_LENGTH"] = str(len(body))
