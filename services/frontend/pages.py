"""The page and its files, and what the page knows when it starts."""

import json
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Response, abort, send_from_directory
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from common.faults import SCRIPT_ERROR, SLOW_PAGE, Faults
from common.telemetry.process import resource
from services.frontend.config import Config

W3C = TraceContextTextMapPropagator()
WEB = Path(__file__).parent / "web"
FILES = ("page.css", "page.js", "telemetry.js", "icon.svg")
# Grafana's ready-made bundles, from the npm packages of the same names.
BUNDLES = {
    name: f"node_modules/@grafana/{name.removesuffix('.iife.js')}/dist/bundle/{name}"
    for name in ("faro-web-sdk.iife.js", "faro-web-tracing.iife.js")
}
# The browser is a service of its own: with the frontend's name, the service graph could not tell them apart.
BROWSER = "mythical-browser"


def add_pages(app: Flask, config: Config, faults: Faults) -> None:
    """Register `GET /` and the page's files."""
    described = resource(BROWSER, config.telemetry.namespace).attributes
    about = {
        "name": BROWSER,
        "namespace": described["service.namespace"],
        "version": described["service.version"],
        "environment": described["deployment.environment.name"],
    }
    headers = _headers(config.faro_url)
    bundles = bool(config.faro_url) and all((WEB / path).is_file() for path in BUNDLES.values())
    scripts = "".join(f'<script defer src="/static/{name}"></script>\n' for name in BUNDLES if bundles)
    index = (WEB / "index.html").read_text(encoding="utf-8").replace("<!-- scripts -->\n", scripts)

    @app.get("/")
    def _index() -> Response:
        known = {
            "endpoints": config.endpoints.names,
            "kind": config.endpoints.tag,
            "faro": {"url": config.faro_url, "app": about} if config.faro_url else None,
            # Injected faults of this load of the page: they act in the browser, where no server sees them.
            "busy_ms": round(1000 * faults.random_delay(SLOW_PAGE, 2, 3)),
            "breaks": faults.should_trigger(SCRIPT_ERROR),
        }
        # In JSON a "<" occurs in strings only; escaped, it cannot end the element.
        page = index.replace("{}", json.dumps(known).replace("<", "\\u003c"), 1)
        response = Response(page, content_type="text/html; charset=utf-8", headers=headers)
        # Faro reads it, and connects the load of the page with this span. Source: W3C, "Server Timing".
        W3C.inject(carrier := dict[str, str]())
        if parent := carrier.get("traceparent"):
            response.headers["Server-Timing"] = f'traceparent;desc="{parent}"'
        return response

    @app.get("/static/<name>")
    def _file(name: str) -> Response:
        path = BUNDLES.get(name) or (name if name in FILES else None) or abort(404)
        response = send_from_directory(WEB, path, max_age=3600 if name in BUNDLES else None)
        response.headers.extend({key: value for key, value in headers.items() if key != "Cache-Control"})
        return response


def _headers(faro_url: str) -> dict[str, str]:
    parts = urlsplit(faro_url)
    telemetry = f" {parts.scheme}://{parts.netloc}" if faro_url else ""
    return {
        # Nothing inline and nothing from other sites: a hostile name could not run, even if it got into the page.
        "Content-Security-Policy": (
            f"default-src 'self'; connect-src 'self'{telemetry};"
            " frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
