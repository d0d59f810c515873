"""The requester's wiring: what it is made of, and in which order that ends."""

import logging
import random
import threading

from flask import Flask
from opentelemetry import metrics, trace

from common.faults import SILENT_TELEMETRY, Faults
from common.faults.metrics import mark
from common.messaging import Publisher
from common.telemetry.setup import start_telemetry
from common.web.admin import create_admin_app, dispatch_by_path
from common.web.problems import register_error_handlers
from common.web.server import ServiceRuntime
from services.requester.client import Client
from services.requester.config import Config
from services.requester.danger_gauge import Danger
from services.requester.request_round import RequestRound
from services.requester.traffic_plan import Plan
from services.requester.workers import WorkerThreads

log = logging.getLogger(__name__)

# What a stop waits for when nobody answers: rounds under way, messages without a confirm, telemetry. Together it has to
# stay below five seconds; a server that hangs is given up, though a request to it may take that long by itself.
ROUNDS_S, FLUSH_S, TELL_S = 1.0, 1.0, 2.5


def start(config: Config, stop_event: threading.Event) -> ServiceRuntime:
    """Start the requester in this process; `stop_event` is set when it is to end."""
    faults = Faults(config.faults, random.Random(config.seed))  # noqa: S311 - dice, not secrets
    telemetry = start_telemetry(
        config.telemetry,
        job=f"{config.catalogue.prefix}-requester",
        silent=lambda: faults.strength(SILENT_TELEMETRY) > 0,
    )
    tracer, meter = trace.get_tracer("mythical.requester"), metrics.get_meter("mythical.requester")
    mark(faults, meter)
    danger = Danger()
    danger.observe(meter)
    publisher = Publisher(config.broker, tracer=tracer, meter=meter)
    client = Client(
        config.server,
        config.catalogue,
        tracer,
        meter,
        connections=config.loops,
        conventions=config.telemetry.conventions,
        faults=faults,
    )
    plan = Plan(config.catalogue, faults, seed=config.seed, rate=config.rate, error_odds=config.error_odds)
    journey = RequestRound(config.catalogue, client, publisher, danger, faults, timeshift_min=config.timeshift_min)
    loops = WorkerThreads(plan, journey, count=config.loops, start_s=config.start_s)
    admin = create_admin_app(
        telemetry,
        {"broker": lambda: _missing(publisher)},
        debug=config.debug,
        stop_event=stop_event,
        faults=faults if config.faults_control else None,
    )
    log.info("requests start soon", extra={"fields": {"loops": config.loops, "seed": config.seed}})
    loops.start()
    return ServiceRuntime(
        dispatch_by_path(create_app(), admin),
        lambda: loops.close(ROUNDS_S),
        client.close,
        lambda: publisher.close(FLUSH_S),
        lambda: telemetry.close(TELL_S),
    )


def create_app() -> Flask:
    """Make the Flask application: the requester asks and is not asked, so it answers 404 to everything."""
    app = Flask("requester", static_folder=None)
    register_error_handlers(app)
    return app


def _missing(publisher: Publisher) -> str | None:
    return str(publisher.last_error) if publisher.last_error else None
