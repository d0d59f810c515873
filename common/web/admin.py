"""Admin endpoints: health, readiness, metrics, profiles and faults, the same in each service.

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

from common.faults import Fault, Faults, InvalidFaultSetting, UnknownFault, finite
from common.telemetry.pprof import BadDuration, ProfileBusy
from common.telemetry.pprof.cpu import cpu_profile
from common.telemetry.pprof.heap import heap_profile
from common.telemetry.prometheus import render_metrics
from common.web.problems import (
    MAX_BODY_BYTES,
    Problem,
    problem_response,
    register_error_handlers,
    reject_cross_origin,
    reject_cross_site,
)

FAULTS = "/faults"

PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/debug/pprof/profile", "/debug/pprof/heap", FAULTS})

ONE_FAULT = f"{FAULTS}/"

DEFAULT_LEASE_S = 600.0

# Return what the service still waits for, None if this part of it is ready.
Check = Callable[[], str | None]


def create_admin_app(
    latest_metrics: Callable[[], MetricsData | None],
    checks: dict[str, Check],
    *,
    debug: bool,
    stop_event: threading.Event,
    faults: Faults | None = None,
) -> Flask:
    """Create the application: `checks` decide on /readyz, `debug` adds the profiles, `faults` their switches.

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


def add_fault_routes(app: Flask, faults: Faults) -> None:
    """Register `GET /faults`, `PUT /faults/<name>`, `DELETE /faults/<name>` and `DELETE /faults`."""

    @app.get(FAULTS)
    def _list() -> Response:
        reject_cross_site(request)
        return jsonify(faults=[_described(faults, fault) for fault in faults.supported])

    @app.put(f"{FAULTS}/<name>")
    def _set(name: str) -> Response:
        reject_cross_site(request)
        strength, seconds, blind = _parse_fault()
        faults.set(name, strength, seconds, blind=blind)
        return jsonify(_described(faults, faults.get(name)))

    @app.delete(FAULTS, defaults={"name": None})
    @app.delete(f"{FAULTS}/<name>")
    def _clear(name: str | None) -> Response:
        reject_cross_site(request)
        faults.clear(name)
        return Response(status=HTTPStatus.NO_CONTENT)

    @app.errorhandler(InvalidFaultSetting)
    def _invalid(error: InvalidFaultSetting) -> Response:
        status = HTTPStatus.NOT_FOUND if isinstance(error, UnknownFault) else HTTPStatus.BAD_REQUEST
        return problem_response(status, f"{str(error)[:1].upper()}{str(error)[1:]}.")


def _described(faults: Faults, fault: Fault) -> dict[str, object]:
    """Return the JSON form of a fault; one that is set blind looks as if it were not set."""
    lease = faults.lease(fault)
    open_lease = lease if lease and not lease.blind else None
    return {
        "name": fault.name,
        "sentence": fault.sentence,
        "strength": open_lease.strength if open_lease else faults.configured_strength(fault),
        "at_start": faults.configured_strength(fault),
        "default": fault.default,
        "most": fault.max_strength,
        "seconds_left": round(faults.seconds_left(open_lease), 1) if open_lease else None,
    }


def _parse_fault() -> tuple[float, float, bool]:
    """Return strength, seconds and blind from the body; raise Problem."""
    if not request.is_json:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, 'Send {"strength": 1}, with Content-Type: application/json.')
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or set(body) - {"strength", "seconds", "blind"}:
        raise Problem(HTTPStatus.BAD_REQUEST, 'Send {"strength": 1, "seconds": 600}, without any other field.')
    blind = body.get("blind", False)
    if not isinstance(blind, bool):
        raise Problem(HTTPStatus.BAD_REQUEST, "blind must be true or false.")
    return _number(body, "strength", None), _number(body, "seconds", DEFAULT_LEASE_S), blind


def _number(body: dict[str, object], name: str, default: float | None) -> float:
    number = finite(body.get(name, default))
    if number is None:
        raise Problem(HTTPStatus.BAD_REQUEST, f"{name} must be a number.")
    return number
