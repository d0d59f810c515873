"""The recorder's wiring: its parts, and the order in which they are closed."""

import random
import threading
from functools import partial

from flask import Flask

from common.faults import Faults, register_fault_telemetry
from common.faults.routes import add_fault_routes
from common.messaging.consumer import Consumer
from common.telemetry.setup import start_telemetry
from common.web.admin import create_admin_app, dispatch_by_path
from common.web.problems import register_error_handlers
from common.web.server import ServiceRuntime
from services.recorder.config import Config
from services.recorder.faults import SlowClock, SlowClockExporter
from services.recorder.message_handler import MessageHandler

# Shutdown timeouts: messages in progress, of which the slowest takes 1.55 s, then telemetry. Their sum must stay below
# five seconds; an unfinished message returns to the queue.
FINISH_S, TELEMETRY_S = 2.0, 2.5


def start(config: Config, stop_event: threading.Event) -> ServiceRuntime:
    """Start the recorder in this process; `stop_event` is set when it has to stop."""
    faults = Faults(config.faults, random.Random())  # noqa: S311 - not for secrets
    clock = SlowClock(faults)
    telemetry = start_telemetry(
        config.telemetry,
        job=f"{config.endpoints.prefix}-recorder",
        wrap_spans=partial(SlowClockExporter, clock=clock),
    )
    telemetry.handler.addFilter(clock)
    tracer, meter = telemetry.tracers.get_tracer("mythical.recorder"), telemetry.meters.get_meter("mythical.recorder")
    register_fault_telemetry(faults, meter)
    handler = MessageHandler(config.endpoints, meter, faults)
    consumer = Consumer(
        config.broker,
        handler.handle,
        tracer=tracer,
        meter=meter,
        concurrency=config.concurrency,
        attempts=config.attempts,
        retry_delay_s=config.retry_delay_s,
        clock=clock.time,
    )
    admin = create_admin_app(
        telemetry.latest_metrics,
        {"broker": lambda: None if consumer.ready else str(consumer.last_error or "connecting to the broker")},
        debug=config.debug,
        stop_event=stop_event,
    )
    if config.faults_control:
        add_fault_routes(admin, faults)
    return ServiceRuntime(
        dispatch_by_path(create_app(), admin),
        lambda: consumer.close(FINISH_S),
        lambda: telemetry.close(TELEMETRY_S),
    )


def create_app() -> Flask:
    """Return the Flask application: the recorder's input is the queue, so it responds with 404 to everything."""
    app = Flask("recorder", static_folder=None)
    register_error_handlers(app)
    return app
