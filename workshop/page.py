"""The fault page and its HTTP API.

The API forwards to the services, because they reject cross-site requests from a browser.
"""

import errno
import logging
import signal
import socket
import threading
from http import HTTPStatus
from pathlib import Path

from flask import Flask, Response, jsonify, request, send_from_directory
from werkzeug.serving import WSGIRequestHandler, make_server

from common.core.address import join_host_port
from common.faults import InvalidFaultSetting, check_strength, finite
from common.web.problems import Problem, problem_response, register_error_handlers, reject_cross_site
from common.web.read_deadline import RequestDeadlineMixin
from workshop import WorkshopError
from workshop.fault_client import FaultClient, FaultState, find_fault
from workshop.settings import Settings

WEB = Path(__file__).parent / "web"
FILES = ("page.js", "page.css", "icon.svg")
LEASE_S = 600.0
MAX_BODY_BYTES = 1024
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def create_app(client: FaultClient) -> Flask:
    """Return the Flask application of the page."""
    app = Flask("workshop", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    register_error_handlers(app)

    @app.errorhandler(WorkshopError)
    def _service_unavailable(error: WorkshopError) -> Response:
        # Returned, because a Problem raised in an error handler would become a 500.
        return problem_response(HTTPStatus.BAD_GATEWAY, str(error))

    @app.before_request
    def _guard() -> None:
        reject_cross_site(request)

    @app.after_request
    def _add_security_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.get("/")
    def _index() -> Response:
        return send_from_directory(WEB, "index.html")

    @app.get("/readyz")
    def _ready() -> Response:
        return jsonify(status="ready")

    for name in FILES:
        app.add_url_rule(f"/{name}", name, lambda name=name: send_from_directory(WEB, name))

    @app.get("/api/faults")
    def _list() -> Response:
        return jsonify([_as_json(state) for state in client.states()])

    @app.put("/api/faults/<name>")
    def _set(name: str) -> Response:
        try:
            fault = find_fault(name)
            strength = _strength()
            check_strength(fault, strength)
        except (WorkshopError, InvalidFaultSetting) as wrong:
            raise Problem(HTTPStatus.BAD_REQUEST, str(wrong)) from wrong
        client.set(fault, strength, LEASE_S)
        return Response(status=HTTPStatus.NO_CONTENT)

    @app.delete("/api/faults", defaults={"name": None})
    @app.delete("/api/faults/<name>")
    def _clear(name: str | None) -> Response:
        try:
            fault = find_fault(name) if name else None
        except WorkshopError as wrong:
            raise Problem(HTTPStatus.BAD_REQUEST, str(wrong)) from wrong
        client.clear(fault)
        return Response(status=HTTPStatus.NO_CONTENT)

    return app


class _Handler(RequestDeadlineMixin, WSGIRequestHandler):
    """Werkzeug's handler, which has a thread for each connection, with a deadline for each request."""


def serve(settings: Settings, client: FaultClient) -> None:
    """Serve the page until SIGTERM or Ctrl-C. Raises WorkshopError if the port is in use."""
    # Threaded, because a browser keeps idle connections open.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    app = create_app(client)
    with _listening(settings.page_host, settings.page_port) as listener:
        # Werkzeug would print a paragraph and exit for a port that is in use; it duplicates this socket instead.
        server = make_server(
            settings.page_host,
            settings.page_port,
            app,
            threaded=True,
            request_handler=_Handler,
            fd=listener.fileno(),
        )
    print(f"fault page: {settings.page}", flush=True)  # noqa: T201
    if threading.current_thread() is threading.main_thread():
        _exit_on_sigterm()
    server.serve_forever()


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as fault:
        if fault.errno != errno.EADDRINUSE:
            raise WorkshopError(f"the page cannot listen at {join_host_port(host, port)}: {fault.strerror}") from fault
        raise WorkshopError(
            f"port {port} is in use, perhaps by make demo's fault page; choose another: DEMO_WORKSHOP_PORT=4013"
        ) from fault


def _exit_on_sigterm() -> None:
    def exit_(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, exit_)


def _strength() -> float:
    body = request.get_json(silent=True) if request.is_json else None
    strength = finite(body.get("strength")) if isinstance(body, dict) else None
    if strength is None:
        raise Problem(HTTPStatus.BAD_REQUEST, 'Send {"strength": 1}, with Content-Type: application/json.')
    return strength


def _as_json(state: FaultState) -> dict[str, object]:
    fault = state.fault
    return {
        "name": fault.name,
        "service": fault.service,
        "sentence": fault.sentence,
        "strength": state.strength,
        "at_start": state.at_start,
        "default": fault.default,
        "most": fault.max_strength,
        "seconds_left": state.seconds_left,
    }
