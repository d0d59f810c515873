"""The pages for machines: health, readiness, metrics and profiles, the same in each service.

They are an application of their own beside the service's: its instrumentation never sees them, so that no health
check and no scrape makes a span.
"""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask, Response, jsonify, request

from common.faults import Faults
from common.faults.http_api import PATH as FAULTS
from common.faults.http_api import add_fault_routes
from common.telemetry.pprof import BadDuration, ProfileBusy, cpu_profile, heap_profile
from common.telemetry.prometheus import expose
from common.telemetry.setup import Telemetry
from common.web.cross_site import reject_cross_origin
from common.web.problems import Problem, register_error_handlers
from common.web.whole_requests import LARGEST_BODY

PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/debug/pprof/profile", "/debug/pprof/heap", FAULTS})

ONE_FAULT = f"{FAULTS}/"

# A part of the service that has to be there, and what to say when it is not; None means ready.
Check = Callable[[], str | None]


def operations(
    telemetry: Telemetry,
    checks: dict[str, Check],
    *,
    debug: bool,
    stop_event: threading.Event,
    faults: Faults | None = None,
) -> Flask:
    """Make the application; `checks` decide on /readyz, `debug` opens the profile pages, `faults` their switch.

    A profile ends early once `stop_event` is set: the service would otherwise wait for it, and be killed.
    """
    app = Flask("operations", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    register_error_handlers(app)

    @app.get("/healthz")
    def _healthz() -> Response:
        """Alive: the process answers. A service whose database is away is alive, and must not be restarted."""
        return jsonify(status="alive")

    @app.get("/readyz")
    def _readyz() -> tuple[Response, int]:
        missing = {name: said for name, check in checks.items() if (said := check())}
        status = HTTPStatus.SERVICE_UNAVAILABLE if missing else HTTPStatus.OK
        return jsonify(status="waiting" if missing else "ready", missing=missing), status

    @app.get("/metrics")
    def _metrics() -> Response:
        page, content_type = expose(telemetry.snapshot(), request.headers.get("Accept", ""))
        return Response(page, content_type=content_type)

    @app.before_request
    def _guard() -> None:
        # A picture on a page elsewhere could have a profile taken, again and again: each slows the service down.
        if request.path.startswith("/debug/"):
            reject_cross_origin(request)

    if debug:

        @app.get("/debug/pprof/profile")
        def _cpu() -> Response:
            return _profile(partial(cpu_profile, stop=stop_event), default=10)

        @app.get("/debug/pprof/heap")
        def _heap() -> Response:
            return _profile(partial(heap_profile, stop=stop_event), default=1)

    if faults:
        add_fault_routes(app, faults)

    return app


def _profile(take: Callable[[float], bytes], default: float) -> Response:
    try:
        profile = take(_seconds(default))
    except ProfileBusy as busy:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(busy), retry_after_s=10) from busy
    except BadDuration as wrong:
        raise Problem(HTTPStatus.BAD_REQUEST, str(wrong)) from wrong
    return Response(profile, content_type="application/octet-stream")


def _seconds(default: float) -> float:
    told = request.args.get("seconds", str(default))
    try:
        return float(told if told.isascii() and "_" not in told else "")
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, "seconds must be a number, as in seconds=10.") from None


def beside(service: WSGIApplication, operation: WSGIApplication) -> WSGIApplication:
    """Join the two applications: the pages for machines by their paths, the rest is the service's."""

    def choose(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        return (operation if path in PATHS or path.startswith(ONE_FAULT) else service)(environ, start_response)

    return choose
