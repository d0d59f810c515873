"""The requester's wiring: its parts, and the order in which they are closed."""

import logging
import random
import threading

from flask import Flask

from common.faults import SILENT_TELEMETRY, Faults, register_fault_telemetry
from common.faults.routes import add_fault_routes
from common.messaging.publisher import Publisher
from common.telemetry.setup import start_telemetry
from common.web.admin import create_admin_app, dispatch_by_path
from common.web.problems import register_error_handlers
from common.web.server import ServiceRuntime
from services.requester.client import Client
from services.requester.config import Config
from services.requester.danger_gauge import DangerGauge
from services.requester.request_round import RequestRound
from services.requester.traffic_plan import TrafficPlan
from services.requester.workers import WorkerThreads

log = logging.getLogger(__name__)

# Shutdown timeouts: current rounds, unconfirmed messages, telemetry. Their sum must stay below five seconds, which a
# request to a server that hangs would take by itself.
ROUNDS_S, FLUSH_S, TELEMETRY_S = 1.0, 1.0, 2.5


def start(config: Config, stop_event: threading.Event) -> ServiceRuntime:
    """Start the requester in this process; `stop_event` is set when it has to stop."""
    faults = Faults(config.faults, random.Random(config.seed))  # noqa: S311 - not for secrets
    telemetry = start_telemetry(
        config.telemetry,
        job=f"{config.endpoints.prefix}-requester",
        silent=lambda: faults.strength(SILENT_TELEMETRY) > 0,
    )
    tracer, meter = telemetry.tracers.get_tracer("mythical.requester"), telemetry.meters.get_meter("mythical.requester")
    register_fault_telemetry(faults, meter)
    danger = DangerGauge()
    danger.observe(meter)
    publisher = Publisher(config.broker, tracer=tracer, meter=meter)
    client = Client(
        config.server,
        config.endpoints,
        tracer,
        meter,
        connections=config.loops,
        conventions=config.telemetry.conventions,
        faults=faults,
    )
    plan = TrafficPlan(config.endpoints, faults, seed=config.seed, rate=config.rate, error_odds=config.error_odds)
    request_round = RequestRound(
        config.endpoints, client, publisher, danger, faults, timeshift_min=config.timeshift_min
    )
    workers = WorkerThreads(plan, request_round, count=config.loops, start_s=config.start_s)
    admin = create_admin_app(
        telemetry.latest_metrics,
        {"broker": lambda: str(publisher.last_error) if publisher.last_error else None},
        debug=config.debug,
        stop_event=stop_event,
    )
    if config.faults_control:
        add_fault_routes(admin, faults)
    log.info("requests start soon", extra={"fields": {"loops": config.loops, "seed": config.seed}})
    workers.start()
    return ServiceRuntime(
        dispatch_by_path(create_app(), admin),
        lambda: workers.close(ROUNDS_S),
        client.close,
        lambda: publisher.close(FLUSH_S),
        lambda: telemetry.close(TELEMETRY_S),
    )


def create_app() -> Flask:
    """Return the Flask application: the requester has no API, so it responds with 404 to everything."""
    app = Flask("requester", static_folder=None)
    register_error_handlers(app)
    return app
