"""Flask applications have the same spans with the stock and the fast instrumentation."""

from collections.abc import Iterator
from wsgiref.types import WSGIEnvironment

import pytest
from flask import Flask, request
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from common.fast import flask as fast_flask
from common.telemetry import flask as stock_flask

PARENT = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "baggage": "tenant=7"}


class Rig:
    """An application with one route per case, and its spans."""

    def __init__(self, layer: str) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.app = Flask("test", static_folder=None)
        instrument = fast_flask.instrument_flask if layer == "fast" else stock_flask.instrument_flask
        instrument(self.app, self._attributes, provider)
        self.calls = 0
        self.baggage: list[object] = []
        self.app.add_url_rule("/items/<item>", view_func=self._item)
        self.app.add_url_rule("/broken", view_func=self._broken)
        self.client = self.app.test_client()

    def _attributes(self, environ: WSGIEnvironment) -> dict[str, str]:
        self.calls += 1
        self.baggage.append(baggage.get_baggage("tenant"))
        return {"http.target": "/items", "method": environ["REQUEST_METHOD"], "endpoint": str(request.endpoint)}

    def _item(self, item: str) -> str:
        assert trace.get_current_span().is_recording()
        self.baggage.append(baggage.get_baggage("tenant"))
        return item

    def _broken(self) -> str:
        raise LookupError("not there")

    @property
    def span(self) -> ReadableSpan:
        """Return the only span."""
        (span,) = self._exporter.get_finished_spans()
        return span


@pytest.fixture(params=["fast", "stock"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Return an application of each layer, and check that no context is left on the thread."""
    yield Rig(request.param)
    assert context.get_current() == {}


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/items/1", "GET /items/<item>"),
        ("HEAD", "/items/1", "HEAD /items/<item>"),
        ("OPTIONS", "/items/1", "OPTIONS /items/<item>"),
        ("POST", "/items/1", "POST"),
        ("GET", "/secret/8472", "GET"),
        ("BREW", "/secret/8472", "HTTP"),
    ],
)
def test_a_request_is_one_server_span_named_by_method_and_route(rig: Rig, method: str, path: str, name: str) -> None:
    """Without a matching route, only the method is in the name, because raw paths are unbounded."""
    rig.client.open(path, method=method)
    assert (rig.span.name, rig.span.kind, rig.span.parent) == (name, SpanKind.SERVER, None)
    assert rig.calls == 1


def test_the_attributes_of_the_service_take_precedence(rig: Rig) -> None:
    """The instrumentation's attributes have the raw target."""
    rig.client.get("/items/1?a=b")
    assert {"http.target": "/items", "method": "GET", "endpoint": "_item"}.items() <= dict(
        rig.span.attributes or {}
    ).items()


def test_the_trace_and_the_baggage_of_the_client_are_used(rig: Rig) -> None:
    """They are available for the attributes and in the view."""
    rig.client.get("/items/1", headers=PARENT)
    parent = rig.span.parent
    assert parent
    assert (f"{parent.trace_id:x}", f"{parent.span_id:x}", parent.is_remote) == ("a" * 32, "b" * 16, True)
    assert rig.baggage == ["7", "7"]


def test_the_propagator_is_the_global_one(rig: Rig) -> None:
    """OTEL_PROPAGATORS sets it; with `baggage` only, no trace context is read."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(W3CBaggagePropagator())
    try:
        rig.client.get("/items/1", headers=PARENT)
    finally:
        propagate.set_global_textmap(before)
    assert rig.span.parent is None
    assert rig.baggage == ["7", "7"]


def test_an_unhandled_error_is_on_the_span(rig: Rig) -> None:
    """It is an event and the status of the span; the response is a 500."""
    assert rig.client.get("/broken").status_code == 500
    (event,) = rig.span.events
    assert event.name == "exception"
    assert rig.span.status.status_code is StatusCode.ERROR


def test_an_error_that_propagates_out_of_the_application_ends_the_span(rig: Rig) -> None:
    """Flask propagates errors in a debugger or a test."""
    rig.app.testing = True
    with pytest.raises(LookupError):
        rig.client.get("/broken")
    assert rig.span.status.status_code is StatusCode.ERROR


def test_a_request_context_without_a_request_makes_no_span(rig: Rig) -> None:
    """It must not end the span of the request either if it is inside a view."""

    def nested() -> str:
        with rig.app.test_request_context("/items/2"):
            pass
        assert trace.get_current_span().is_recording()
        return ""

    rig.app.add_url_rule("/nested", view_func=nested)
    rig.client.get("/nested")
    assert rig.span.name == "GET /nested"


def test_the_fast_layer_uses_the_stock_one_for_its_other_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, the variable for headers to capture works in both layers."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "x-room")
    rig = Rig("fast")
    rig.client.get("/items/1", headers={"X-Room": "blue"})
    assert dict(rig.span.attributes or {})["http.request.header.x_room"] == ("blue",)


def test_a_service_whose_attributes_fail_leaves_no_context() -> None:
    """Otherwise, the next request on the thread would be in the wrong trace."""

    def fail(_: WSGIEnvironment) -> dict[str, str]:
        raise LookupError

    app = Flask("test", static_folder=None)
    fast_flask.instrument_flask(app, fail, TracerProvider(shutdown_on_exit=False))
    assert app.test_client().get("/", headers=PARENT).status_code == 500
    assert context.get_current() == {}
