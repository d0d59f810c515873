"""The server's wiring: its parts, and the order in which they are closed."""

import random
import threading

from flask import Flask

from common.faults import Faults
from common.faults.metrics import register_fault_telemetry
from common.telemetry.semconv import pin_semconv_mode
from common.telemetry.setup import Telemetry, start_telemetry
from common.web.admin import beside, operations
from common.web.concurrency_limit import ConcurrencyLimiter
from common.web.problems import register_error_handlers
from common.web.refusals import RejectedRequests
from common.web.server import Running
from common.web.whole_requests import LARGEST_BODY
from services.server.config import Config
from services.server.faults import BackgroundFaults, register_label_faults
from services.server.request_spans import make_request_spans
from services.server.request_telemetry import RequestTelemetry
from services.server.routes import add_routes
from services.server.sql_telemetry import StatementTracer, observe_pool
from services.server.store import ConnectionHealth, Store, make_pool
from services.server.table_maintenance import TableMaintenance

# The limit for closing the pool: a connection to a database that does not respond would block forever.
POOL_CLOSE_S = 0.5


def start(config: Config, stop_event: threading.Event) -> Running:
    """Start the server in this process; `stop_event` is set when it has to stop."""
    telemetry = start_telemetry(config.telemetry, job=f"{config.endpoints.prefix}-server", scope="mythical.server")
    faults = Faults(config.faults, random.Random())  # noqa: S311 - not for secrets
    register_fault_telemetry(faults, telemetry.meter)
    health = ConnectionHealth()
    pool = make_pool(config.database, health)
    observe_pool(telemetry.meter, pool, config.database.name)
    spans = StatementTracer(telemetry.tracer, telemetry.meter, config.database, config.telemetry.conventions)
    statement_s = config.database.statement_timeout_ms / 1000
    store = Store(pool, health, spans, config.endpoints.names, faults, statement_s=statement_s)
    maintenance = TableMaintenance(
        store,
        telemetry.tracer,
        rows=config.table_rows,
        wipe_after_ms=config.teardown_timeout_ms,
        faults=faults,
    )
    register_label_faults(faults, telemetry.meter)
    background_faults = BackgroundFaults(faults, config.database, store, pool, spans)
    rejected = RejectedRequests(telemetry.meter)
    api = ConcurrencyLimiter(
        create_app(config, telemetry, store, maintenance, faults),
        rejected,
        working=config.address.threads,
        waiting=config.address.waiting,
    )
    admin = operations(
        telemetry,
        {"database": lambda: _readiness_problem(maintenance)},
        debug=config.debug,
        stop_event=stop_event,
        faults=faults if config.faults_control else None,
    )
    pool.open(wait=False)
    maintenance.start()
    background_faults.start()
    return Running(
        beside(api, admin),
        background_faults.close,
        maintenance.close,
        lambda: pool.close(POOL_CLOSE_S),
        telemetry.close,
        late=rejected.slow,
    )


def create_app(
    config: Config, telemetry: Telemetry, store: Store, maintenance: TableMaintenance, faults: Faults
) -> Flask:
    """Return the Flask application."""
    app = Flask("server", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    if config.telemetry.enabled:
        with pin_semconv_mode(config.telemetry.conventions):
            make_request_spans(app, telemetry.tracer_provider)
    RequestTelemetry(telemetry.meter, config.endpoints, config.telemetry.conventions).watch(app)
    register_error_handlers(app)
    add_routes(app, store, maintenance, config.endpoints, faults)
    return app


def _readiness_problem(maintenance: TableMaintenance) -> str | None:
    return None if maintenance.ready else "the database is unavailable or has no tables yet; see the log"
