"""The recorder's wiring: what it is made of, and in which order that ends."""

import random
import threading

from flask import Flask

from common.faults import CLOCK_SHIFT, Faults
from common.faults.marks import mark
from common.faults.slow_clock import slow_time
from common.messaging import Consumer
from common.operations import beside, operations
from common.problems import translate_problems
from common.refusals import Refusals
from common.serving import Running
from common.telemetry import start_telemetry
from services.recorder.config import Config
from services.recorder.recording import Recording

# What a stop waits for: messages in hand, of which the slowest takes 1.55 s, then telemetry that nobody takes. Together
# it has to stay below five seconds; a message that is not finished goes back to the queue.
FINISH_S, TELL_S = 2.0, 2.5


def start(config: Config, told_to_stop: threading.Event) -> Running:
    """Start the recorder in this process; `told_to_stop` is set when it is to end."""
    faults = Faults(config.faults, random.Random())  # noqa: S311 - dice, not secrets

    def slow_by() -> float:
        return faults.strength(CLOCK_SHIFT)

    telemetry = start_telemetry(
        config.telemetry, job=f"{config.catalogue.prefix}-recorder", scope="mythical.recorder", slow_by=slow_by
    )
    mark(faults, telemetry.meter)
    recording = Recording(config.catalogue, telemetry.meter, faults)
    consumer = Consumer(
        config.broker,
        recording.record,
        tracer=telemetry.tracer,
        meter=telemetry.meter,
        concurrency=config.concurrency,
        attempts=config.attempts,
        retry_delay_s=config.retry_delay_s,
        clock=slow_time(slow_by),
    )
    machines = operations(
        telemetry,
        {"broker": lambda: _missing(consumer)},
        debug=config.debug,
        told_to_stop=told_to_stop,
        faults=faults if config.faults_control else None,
    )
    return Running(
        beside(create_app(), machines),
        lambda: consumer.close(FINISH_S),
        lambda: telemetry.close(TELL_S),
        late=Refusals(telemetry.meter).slow,
    )


def create_app() -> Flask:
    """Make the Flask application: the recorder is reached through the queue, so it answers 404 to everything."""
    app = Flask("recorder", static_folder=None)
    translate_problems(app)
    return app


def _missing(consumer: Consumer) -> str | None:
    return None if consumer.ready else str(consumer.trouble or "the broker is being asked")
