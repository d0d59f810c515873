"""The frontend's wiring: its parts, and the order in which they are closed."""

import logging
import random
import threading
from functools import partial

from flask import Flask, Response
from opentelemetry import metrics

from common.faults import Faults, register_fault_telemetry
from common.faults.routes import add_fault_routes
from common.messaging.publisher import Publisher
from common.telemetry.flask import instrument_flask
from common.telemetry.setup import Telemetry, start_telemetry
from common.web.admin import create_admin_app, dispatch_by_path
from common.web.concurrency_limit import ConcurrencyLimiter
from common.web.problems import MAX_BODY_BYTES, register_error_handlers
from common.web.request_telemetry import UNKNOWN, RequestState, RequestTelemetry, log_level, outcome
from common.web.server import ServiceRuntime
from services.frontend.api import Api
from services.frontend.config import Config
from services.frontend.pages import add_pages

log = logging.getLogger(__name__)

# Shutdown timeouts: unconfirmed messages, telemetry. With the requests in progress they stay below ten seconds.
FLUSH_S, TELEMETRY_S = 1.0, 2.5


def start(config: Config, stop_event: threading.Event) -> ServiceRuntime:
    """Start the frontend in this process; `stop_event` is set when it has to stop."""
    telemetry = start_telemetry(config.telemetry, job=f"{config.endpoints.prefix}-frontend")
    faults = Faults(config.faults, random.Random())  # noqa: S311 - not for secrets
    tracer, meter = telemetry.tracers.get_tracer("mythical.frontend"), telemetry.meters.get_meter("mythical.frontend")
    register_fault_telemetry(faults, meter)
    publisher = Publisher(config.broker, tracer=tracer, meter=meter)
    api = Api(config, publisher, faults, tracer=tracer, meter=meter)
    admin = create_admin_app(
        telemetry.latest_metrics,
        # The page is of use without the broker: only the messages about its requests would wait.
        {"server": api.problem},
        debug=config.debug,
        stop_event=stop_event,
    )
    if config.faults_control:
        add_fault_routes(admin, faults)
    pages = ConcurrencyLimiter(
        create_app(config, telemetry, api, faults, meter=meter),
        meter,
        max_concurrency=config.address.threads,
        max_queue=config.address.max_queue,
    )
    return ServiceRuntime(
        dispatch_by_path(pages, admin),
        api.close,
        lambda: publisher.close(FLUSH_S),
        lambda: telemetry.close(TELEMETRY_S),
    )


def create_app(config: Config, telemetry: Telemetry, api: Api, faults: Faults, *, meter: metrics.Meter) -> Flask:
    """Return the Flask application: the page, its files, and /api/<beast>."""
    app = Flask("frontend", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    requests = RequestTelemetry(
        meter,
        config.endpoints,
        config.telemetry.conventions,
        partial(_log_request, config.endpoints.tag),
        spans=config.telemetry.enabled,
    )
    if config.telemetry.enabled:
        (telemetry.instrument_flask or instrument_flask)(app, requests.start_attributes)
    requests.init_app(app)
    register_error_handlers(app)
    add_pages(app, config, faults)
    api.add_routes(app)
    return app


def _log_request(tag: str, state: RequestState, response: Response, _duration_s: float) -> None:
    fields = {"http.method": state.method, "route": state.route, **outcome(state, response)}
    tags = {} if state.beast == UNKNOWN else {tag: state.beast}
    log.log(log_level(response), "page request served", extra={"fields": fields, "tags": tags})
