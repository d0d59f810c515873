"""Admin endpoints: health, readiness, metrics, and profiles, the same in each service.

They are an application separate from the service's: its instrumentation never sees them, so no health check and no
scrape makes a span.
"""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask, Response, jsonify, request
from opentelemetry.sdk.metrics.export import MetricsData

from common.telemetry.pprof import BadDuration, ProfileBusy
from common.telemetry.pprof.cpu import cpu_profile
from common.telemetry.pprof.heap import heap_profile
from common.telemetry.prometheus import render_metrics
from common.web.problems import MAX_BODY_BYTES, Problem, register_error_handlers, reject_cross_origin

# /faults and what is below are for common/faults/routes.py.
PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/debug/pprof/profile", "/debug/pprof/heap", "/faults"})
ONE_FAULT = "/faults/"

# Return what the service still waits for, None if this part of it is ready.
Check = Callable[[], str | None]


def create_admin_app(
    latest_metrics: Callable[[], MetricsData | None],
    checks: dict[str, Check],
    *,
    debug: bool,
    stop_event: threading.Event,
) -> Flask:
    """Create the application: `checks` decide on /readyz, `debug` adds the profiles.

    A profile ends early once `stop_event` is set, or it would delay the stop of the service.
    """
    app = Flask("admin", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    register_error_handlers(app)

    @app.get("/healthz")
    def _healthz() -> Response:
        """Alive: the process answers. A service whose database is down is alive, and must not be restarted."""
        return jsonify(status="alive")

    @app.get("/readyz")
    def _readyz() -> tuple[Response, int]:
        missing = {name: problem for name, check in checks.items() if (problem := check())}
        status = HTTPStatus.SERVICE_UNAVAILABLE if missing else HTTPStatus.OK
        return jsonify(status="waiting" if missing else "ready", missing=missing), status

    @app.get("/metrics")
    def _metrics() -> Response:
        page, content_type = render_metrics(latest_metrics(), request.headers.get("Accept", ""))
        return Response(page, content_type=content_type)

    @app.before_request
    def _guard() -> None:
        # An image on another site's page could start profiles, one after the other, each of which slows the service.
        if request.path.startswith("/debug/"):
            reject_cross_origin(request)

    if debug:

        @app.get("/debug/pprof/profile")
        def _cpu() -> Response:
            return _profile(partial(cpu_profile, stop=stop_event), default=10)

        @app.get("/debug/pprof/heap")
        def _heap() -> Response:
            return _profile(partial(heap_profile, stop=stop_event), default=1)

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
    text = request.args.get("seconds", str(default))
    try:
        return float(text if text.isascii() and "_" not in text else "")
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, "seconds must be a number, as in seconds=10.") from None


def dispatch_by_path(service: WSGIApplication, admin: WSGIApplication) -> WSGIApplication:
    """Return an application that passes the admin endpoints' paths to `admin` and all others to `service`."""

    def dispatch(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        return (admin if path in PATHS or path.startswith(ONE_FAULT) else service)(environ, start_response)

    return dispatch
