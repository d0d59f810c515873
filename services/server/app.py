"""The server's wiring: its parts, and the order in which they are closed."""

import os
import random
import threading

from flask import Flask
from opentelemetry import metrics

from common.core.env import LIBPQ_SECURITY, remove_libpq_variables
from common.faults import Faults, register_fault_telemetry
from common.faults.routes import add_fault_routes
from common.telemetry.flask import instrument_flask
from common.telemetry.setup import Telemetry, start_telemetry
from common.web.admin import create_admin_app, dispatch_by_path
from common.web.concurrency_limit import ConcurrencyLimiter
from common.web.problems import MAX_BODY_BYTES, register_error_handlers
from common.web.request_telemetry import RequestTelemetry
from common.web.server import ServiceRuntime
from services.server.config import Config
from services.server.faults import BackgroundFaults, register_label_faults
from services.server.request_telemetry import RequestTimes
from services.server.routes import add_routes
from services.server.sql_telemetry import StatementTracer, observe_pool
from services.server.store import ConnectionHealth, Store, make_pool
from services.server.table_maintenance import TableMaintenance

# The limit for closing the pool: a connection to a database that does not respond would block forever.
POOL_CLOSE_S = 0.5


def start(config: Config, stop_event: threading.Event) -> ServiceRuntime:
    """Start the server in this process; `stop_event` is set when it has to stop."""
    remove_libpq_variables(os.environ, keep=LIBPQ_SECURITY)
    telemetry = start_telemetry(config.telemetry, job=f"{config.endpoints.prefix}-server")
    faults = Faults(config.faults, random.Random())  # noqa: S311 - not for secrets
    tracer, meter = telemetry.tracers.get_tracer("mythical.server"), telemetry.meters.get_meter("mythical.server")
    register_fault_telemetry(faults, meter)
    health = ConnectionHealth()
    pool = make_pool(config.database, health)
    observe_pool(meter, pool, config.database.name)
    spans = StatementTracer(tracer, meter, config.database, config.telemetry.conventions)
    statement_s = config.database.statement_timeout_ms / 1000
    store = Store(pool, health, spans, config.endpoints.names, faults, statement_s=statement_s)
    maintenance = TableMaintenance(
        store,
        tracer,
        rows=config.table_rows,
        wipe_after_ms=config.teardown_timeout_ms,
        faults=faults,
    )
    register_label_faults(faults, meter)
    background_faults = BackgroundFaults(faults, config.database, store, pool, spans)
    api = ConcurrencyLimiter(
        create_app(config, telemetry, store, maintenance, faults, meter=meter),
        meter,
        max_concurrency=config.address.threads,
        max_queue=config.address.max_queue,
    )
    admin = create_admin_app(
        telemetry.latest_metrics,
        {"database": lambda: maintenance.problem},
        debug=config.debug,
        stop_event=stop_event,
    )
    if config.faults_control:
        add_fault_routes(admin, faults)
    pool.open(wait=False)
    maintenance.start()
    background_faults.start()
    return ServiceRuntime(
        dispatch_by_path(api, admin),
        background_faults.close,
        maintenance.close,
        lambda: pool.close(POOL_CLOSE_S),
        telemetry.close,
    )


def create_app(
    config: Config,
    telemetry: Telemetry,
    store: Store,
    maintenance: TableMaintenance,
    faults: Faults,
    *,
    meter: metrics.Meter,
) -> Flask:
    """Return the Flask application."""
    app = Flask("server", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    requests = RequestTelemetry(
        meter,
        config.endpoints,
        config.telemetry.conventions,
        RequestTimes(meter, config.endpoints.tag).record,
        spans=config.telemetry.enabled,
    )
    if config.telemetry.enabled:
        (telemetry.instrument_flask or instrument_flask)(app, requests.start_attributes)
    requests.init_app(app)
    register_error_handlers(app)
    add_routes(app, store, maintenance, config.endpoints, faults)
    return app
