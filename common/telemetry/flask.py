"""Spans of a Flask application by the stock instrumentation, opentelemetry-instrumentation-flask."""

from collections.abc import Callable, Mapping
from wsgiref.types import WSGIEnvironment

from flask import Flask, request
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import TracerProvider
from opentelemetry.util.types import AttributeValue

from common.telemetry.semconv import HTTP_METHODS

StartAttributes = Callable[[WSGIEnvironment], Mapping[str, AttributeValue]]


def instrument_flask(
    app: Flask, start_attributes: StartAttributes, tracer_provider: TracerProvider | None = None
) -> None:
    """Add a SERVER span to each request of `app`, a child of the span that the request's headers name.

    `start_attributes` maps the WSGI environment to attributes of the span; the caller's baggage is in the current
    context. It is called within Flask's request context, once per request, before the view. Call this before other
    `before_request` functions are registered, so that they run inside the span. The default of `tracer_provider` is
    the global one.
    """
    # Imported here, since the fast layer uses the rest of this module only, and the import costs 4 MB.
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
        app,
        tracer_provider=tracer_provider,
        # It would emit http.server.request.duration a second time, without our labels.
        meter_provider=NoOpMeterProvider(),
        enable_commenter=False,
    )

    # Not as its request_hook: the instrumentation sets its own attributes after that, among them the raw http.target.
    @app.before_request
    def _set_attributes() -> None:
        span = trace.get_current_span()
        span.set_attributes(start_attributes(request.environ))
        if request.url_rule is None:
            span.update_name(span_name(request.method, None))  # the instrumentation's name has the raw path


def span_name(method: str, route: str | None) -> str:
    """Return the name of a request's span: `GET /<beast>`, or the method alone if no route matched.

    Source: semantic conventions, HTTP spans, "Name". An unknown method is `HTTP`.
    """
    known = method if method in HTTP_METHODS else "HTTP"
    return f"{known} {route}" if route else known
