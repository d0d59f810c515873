"""/api/<beast>: passes a request to the server within the same trace, and publishes the message about it."""

import logging
import re
from concurrent.futures import Future
from http import HTTPStatus

import urllib3
from flask import Flask, Response, g, request
from opentelemetry import propagate
from opentelemetry.metrics import Meter
from opentelemetry.trace import SpanKind, Tracer

from common.core.endpoints import message_text
from common.faults import FAILING_FETCH, Faults
from common.messaging.publisher import Publisher
from common.web.client import FAILURE, HttpClient
from common.web.problems import Problem
from services.frontend.config import Config

log = logging.getLogger(__name__)

READY_S = 1.0
SERVER_FAILURE = 500
METHODS = ("DELETE", "GET", "POST")


class Api:
    """Passes requests to the server, each with its CLIENT span."""

    def __init__(self, config: Config, publisher: Publisher, faults: Faults, *, tracer: Tracer, meter: Meter) -> None:
        self._endpoints = config.endpoints
        self._publisher = publisher
        self._faults = faults
        self._tracer = tracer
        self._http = HttpClient(
            config.server, meter, connections=config.address.threads, conventions=config.telemetry.conventions
        )

    def add_routes(self, app: Flask) -> None:
        """Register `GET`, `POST` and `DELETE /api/<beast>`."""
        app.add_url_rule("/api/<beast>", view_func=self._respond, methods=METHODS)

    def problem(self) -> str | None:
        """Return why the server cannot serve now, None if it can."""
        try:
            answer = self._http.pool.request("GET", "/readyz", timeout=READY_S)
        except urllib3.exceptions.HTTPError:
            return self._http.unreachable
        return None if answer.status == HTTPStatus.OK else f"the server is not ready ({answer.status})"

    def close(self) -> None:
        """Close the connections."""
        self._http.pool.close()

    def _respond(self, beast: str) -> Response:
        if beast not in self._endpoints.danger:
            names = ", ".join(self._endpoints.names)
            raise Problem(HTTPStatus.NOT_FOUND, f"Unknown {self._endpoints.tag}. Use one of {names}.")
        if self._faults.should_trigger(FAILING_FETCH):
            g.error = "the request was not passed to the server"
            raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The request failed. Try again.")
        answer = self._forward(beast)
        if answer.status < FAILURE:
            self._publish(beast)
        elif answer.status >= SERVER_FAILURE or answer.headers.get("Content-Type") == "application/problem+json":
            g.error = f"the server responded with {answer.status}"
        response = Response(answer.data, status=answer.status)
        for name in ("Content-Type", "Retry-After"):
            if value := answer.headers.get(name):
                response.headers[name] = value
        if link := answer.headers.get("Link"):
            response.headers["Link"] = re.sub(r"^</", "</api/", link)
        return response

    def _forward(self, beast: str) -> urllib3.BaseHTTPResponse:
        """Send the current request to the server; raise Problem 502 if it does not answer."""
        query = f"?{request.query_string.decode('ascii', 'replace')}" if request.query_string else ""
        with self._tracer.start_as_current_span(
            request.method,
            kind=SpanKind.CLIENT,
            attributes={
                self._endpoints.tag: beast,
                "peer.service": "mythical-server",
                **self._http.attributes(request.method, f"/{beast}"),
            },
            record_exception=False,
            set_status_on_exception=False,
        ):
            headers = {"Content-Type": request.content_type} if request.content_type else {}
            propagate.inject(headers)
            try:
                return self._http.send(request.method, f"/{beast}{query}", request.get_data(), headers)
            except urllib3.exceptions.HTTPError as error:
                g.error = self._http.unreachable
                raise Problem(
                    HTTPStatus.BAD_GATEWAY, "The server cannot be reached. Try again in a moment.", retry_after_s=1
                ) from error

    def _publish(self, beast: str) -> None:
        """Publish the message about the request without waiting; one that the broker never confirms is logged."""
        body = request.get_json(silent=True) if request.method != "GET" else None
        future = self._publisher.publish(message_text(request.method, beast, body))
        future.add_done_callback(_log_unpublished)


def _log_unpublished(future: Future[None]) -> None:
    if error := future.exception():
        log.error("message not published", extra={"fields": {"status": "FAILURE", "error": str(error)}})
