"""/api/<beast>: passes a request to the server within the same trace, and publishes the message about it."""

import logging
import re
import time
from concurrent.futures import Future
from functools import partial
from http import HTTPStatus

import urllib3
from flask import Flask, Response, g, request
from opentelemetry import context, propagate, trace
from opentelemetry.metrics import Meter
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from common.core.address import join_host_port
from common.core.endpoints import message_text
from common.faults import FAILING_FETCH, Faults
from common.messaging.publisher import Publisher
from common.telemetry.semconv import HTTP_DURATION_BUCKETS_S
from common.web.problems import Problem
from services.frontend.config import Config

log = logging.getLogger(__name__)

CONNECT_S, READ_S, READY_S = 1.0, 5.0, 1.0
FAILURE, SERVER_FAILURE = 400, 500
METHODS = ("DELETE", "GET", "POST")


class Api:
    """Passes requests to the server over kept connections, each with its CLIENT span."""

    def __init__(self, config: Config, publisher: Publisher, faults: Faults, *, tracer: Tracer, meter: Meter) -> None:
        self._host, self._port = config.server
        self._endpoints = config.endpoints
        self._conventions = config.telemetry.conventions
        self._publisher = publisher
        self._faults = faults
        self._tracer = tracer
        self._http = urllib3.HTTPConnectionPool(
            self._host,
            self._port,
            maxsize=config.address.threads,
            block=False,
            retries=False,  # a retry would be a second request, which is for the person at the browser to decide
            timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
        )
        self._duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=HTTP_DURATION_BUCKETS_S,
        )

    def add_routes(self, app: Flask) -> None:
        """Register `GET`, `POST` and `DELETE /api/<beast>`."""
        app.add_url_rule("/api/<beast>", view_func=self._respond, methods=METHODS)

    def problem(self) -> str | None:
        """Return why the server cannot serve now, None if it can."""
        try:
            answer = self._http.request("GET", "/readyz", timeout=READY_S)
        except urllib3.exceptions.HTTPError:
            return self._unreachable
        return None if answer.status == HTTPStatus.OK else f"the server is not ready ({answer.status})"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def _unreachable(self) -> str:
        return f"the server at {join_host_port(self._host, self._port)} cannot be reached"

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
        labels: dict[str, AttributeValue] = {
            "http.request.method": request.method,
            "server.address": self._host,
            "server.port": self._port,
        }
        with self._tracer.start_as_current_span(
            request.method,
            kind=SpanKind.CLIENT,
            attributes={**self._attributes(beast), **labels},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            headers = {"Content-Type": request.content_type} if request.content_type else {}
            propagate.inject(headers)
            start = time.perf_counter()
            try:
                answer = self._http.request(
                    request.method, f"/{beast}{query}", body=request.get_data(), headers=headers
                )
            except urllib3.exceptions.HTTPError as error:
                labels["error.type"] = type(error).__name__
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(StatusCode.ERROR, self._unreachable)
                g.error = self._unreachable
                raise Problem(
                    HTTPStatus.BAD_GATEWAY, "The server cannot be reached. Try again in a moment.", retry_after_s=1
                ) from error
            else:
                labels["http.response.status_code"] = answer.status
                span.set_attribute("http.response.status_code", answer.status)
                if answer.status >= FAILURE:
                    labels["error.type"] = str(answer.status)
                    span.set_attribute("error.type", str(answer.status))
                    span.set_status(StatusCode.ERROR)
                return answer
            finally:
                self._duration.record(time.perf_counter() - start, labels)

    def _attributes(self, beast: str) -> dict[str, AttributeValue]:
        url = f"http://{join_host_port(self._host, self._port)}/{beast}"
        attributes: dict[str, AttributeValue] = {self._endpoints.tag: beast, "peer.service": "mythical-server"}
        if self._conventions.old_http:
            attributes |= {"http.method": request.method, "http.target": f"/{beast}", "http.url": url}
        if self._conventions.new_http:
            attributes["url.full"] = url
        return attributes

    def _publish(self, beast: str) -> None:
        """Publish the message about the request without waiting; one that the broker never confirms is logged."""
        body = request.get_json(silent=True) if request.method != "GET" else None
        future = self._publisher.publish(message_text(request.method, beast, body))
        future.add_done_callback(partial(_log_unpublished, trace.get_current_span()))


def _log_unpublished(span: trace.Span, future: Future[None]) -> None:
    if error := future.exception():
        token = context.attach(trace.set_span_in_context(span))
        log.error("message not published", extra={"fields": {"status": "FAILURE", "error": str(error)}})
        context.detach(token)
