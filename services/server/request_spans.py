"""The span of a request: the Flask instrumentation starts it, makes it current and ends it, and does nothing besides.

As it comes, the instrumentation collects attributes twice per request, looks for headers to capture, and counts, all
through Flask's proxies: half of what telemetry costs a request. RequestTelemetry sets
the attributes, at once for both generations of names.
"""

import os
from types import SimpleNamespace

from flask import Flask
from opentelemetry.instrumentation import flask as instrumentation
from opentelemetry.instrumentation import wsgi
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import TracerProvider

# Whoever sets one of these to names of headers has them on the span, at the price of looking for them.
CAPTURED = (
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
)


def make_request_spans(app: Flask, tracer_provider: TracerProvider) -> None:
    """Have each request of the app make a SERVER span, below the one that its headers name."""
    lean = not any(os.environ.get(name) for name in CAPTURED)
    if lean:
        nothing = dict.fromkeys(("collect_request_attributes", "collect_custom_request_headers_attributes"), _nothing)
        vars(instrumentation)["otel_wsgi"] = SimpleNamespace(**vars(wsgi) | nothing)
    _skip_idle_exclusions()
    FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
        app,
        tracer_provider=tracer_provider,
        meter_provider=NoOpMeterProvider(),  # its labels have the Host header, with which anyone could create series
        enable_commenter=False,
    )
    if lean:
        # The wrapper around the application counts, and adds the response's attributes: RequestTelemetry does both.
        app.wsgi_app = vars(app)["_original_wsgi_app"]  # type: ignore[method-assign]


def _nothing(*_: object, **__: object) -> dict[str, str]:
    return {}


def _skip_idle_exclusions() -> None:
    """Keep the instrumentation from comparing each request's address with a list of exclusions that is empty.

    It builds the whole URL for that, for every request. Where there are exclusions, they are compared.
    """
    exclusions = vars(instrumentation).get("_excluded_urls_from_env")
    if exclusions is not None and not vars(exclusions).get("_excluded_urls"):
        vars(instrumentation)["_excluded_urls_from_env"] = None
