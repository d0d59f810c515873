"""The server's wiring: what it is made of, and in which order that ends."""

import random
import threading
from collections.abc import Callable
from typing import Any

from flask import Flask
from opentelemetry import metrics, trace

from common.faults import Faults
from common.faults.metrics import mark
from common.telemetry.setup import Telemetry, start_telemetry
from common.web.admin import create_admin_app, dispatch_by_path
from common.web.concurrency_limit import ConcurrencyLimiter
from common.web.problems import MAX_BODY_BYTES, register_error_handlers
from common.web.server import ServiceRuntime
from services.server.config import Config
from services.server.connection_health import Reach
from services.server.faults import Planted
from services.server.faults.labels import label_explosion, long_label
from services.server.request_telemetry import RequestTelemetry
from services.server.routes import add_routes
from services.server.sql_telemetry import StatementTracer, observe_pool
from services.server.store import Store, make_pool
from services.server.table_maintenance import TableMaintenance

# What is not done by then hangs, as in the connection to a database that never answers.
POOL_CLOSE_S = 0.5


def start(config: Config, stop_event: threading.Event) -> ServiceRuntime:
    """Start the server in this process; `stop_event` is set when it is to end."""
    telemetry = start_telemetry(
        config.telemetry,
        job=f"{config.catalogue.prefix}-server",
    )
    tracer, meter = trace.get_tracer("mythical.server"), metrics.get_meter("mythical.server")
    faults = Faults(config.faults, random.Random())  # noqa: S311 - dice, not secrets
    mark(faults, meter)
    reach = Reach()
    pool = make_pool(config.database, reach)
    observe_pool(meter, pool, config.database.name)
    spans = StatementTracer(tracer, meter, config.database, config.telemetry.conventions)
    statement_s = config.database.statement_timeout_ms / 1000
    store = Store(pool, reach, spans, config.catalogue.names, faults, statement_s=statement_s)
    upkeep = TableMaintenance(
        store,
        tracer,
        rows=config.table_rows,
        wipe_after_ms=config.teardown_timeout_ms,
        faults=faults,
    )
    label_explosion(faults, meter)
    long_label(faults, meter)
    planted = Planted(faults, config.database, store, pool, spans)
    service = ConcurrencyLimiter(
        create_app(config, telemetry, store, upkeep, faults, meter=meter),
        meter,
        max_concurrency=config.address.threads,
        max_queue=config.address.max_queue,
    )
    admin = create_admin_app(
        telemetry,
        {"database": lambda: _missing(upkeep)},
        debug=config.debug,
        stop_event=stop_event,
        faults=faults if config.faults_control else None,
    )
    pool.open(wait=False)
    upkeep.start()
    planted.start()
    return ServiceRuntime(
        dispatch_by_path(service, admin),
        planted.close,
        upkeep.close,
        lambda: pool.close(POOL_CLOSE_S),
        telemetry.close,
    )


class _Synchronous(Flask):
    """A Flask application without coroutines, so that nothing it calls for a request need be tested for being one."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(
    config: Config,
    telemetry: Telemetry,
    store: Store,
    upkeep: TableMaintenance,
    faults: Faults,
    *,
    meter: metrics.Meter,
) -> Flask:
    """Make the Flask application."""
    app = _Synchronous("server", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    requests = RequestTelemetry(meter, config.catalogue, config.telemetry.conventions)
    if config.telemetry.enabled:
        telemetry.instrument_flask(app, requests.start_attributes)
    requests.init_app(app)
    register_error_handlers(app)
    add_routes(app, store, upkeep, config.catalogue, faults)
    return app


def _missing(upkeep: TableMaintenance) -> str | None:
    return None if upkeep.ready else "the tables are not there; see the log for what the database says"
