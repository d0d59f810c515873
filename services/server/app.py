"""The server's wiring: what it is made of, and in which order that ends."""

import random
import threading
from collections.abc import Callable
from typing import Any

from flask import Flask

from common.faults import Faults
from common.faults.metrics import mark
from common.telemetry.semconv import pin_semconv_mode
from common.telemetry.setup import Telemetry, start_telemetry
from common.web.admin import create_admin_app, dispatch_by_path
from common.web.concurrency_limit import ConcurrencyLimiter
from common.web.problems import MAX_BODY_BYTES, register_error_handlers
from common.web.server import ServiceRuntime
from services.server.config import Config
from services.server.connection_health import Reach
from services.server.faults import Planted
from services.server.faults.labels import label_explosion, long_label
from services.server.request_spans import make_request_spans
from services.server.request_telemetry import RequestTelemetry
from services.server.routes import add_routes
from services.server.sql_telemetry import StatementTracer, observe_pool
from services.server.store import Store, make_pool
from services.server.table_maintenance import TableMaintenance

# What is not done by then hangs, as in the connection to a database that never answers.
POOL_CLOSE_S = 0.5


def start(config: Config, stop_event: threading.Event) -> ServiceRuntime:
    """Start the server in this process; `stop_event` is set when it is to end."""
    telemetry = start_telemetry(config.telemetry, job=f"{config.catalogue.prefix}-server", scope="mythical.server")
    faults = Faults(config.faults, random.Random())  # noqa: S311 - dice, not secrets
    mark(faults, telemetry.meter)
    reach = Reach()
    pool = make_pool(config.database, reach)
    observe_pool(telemetry.meter, pool, config.database.name)
    spans = StatementTracer(telemetry.tracer, telemetry.meter, config.database, config.telemetry.conventions)
    statement_s = config.database.statement_timeout_ms / 1000
    store = Store(pool, reach, spans, config.catalogue.names, faults, statement_s=statement_s)
    upkeep = TableMaintenance(
        store,
        telemetry.tracer,
        rows=config.table_rows,
        wipe_after_ms=config.teardown_timeout_ms,
        faults=faults,
    )
    label_explosion(faults, telemetry.meter)
    long_label(faults, telemetry.meter)
    planted = Planted(faults, config.database, store, pool, spans)
    service = ConcurrencyLimiter(
        create_app(config, telemetry, store, upkeep, faults),
        telemetry.meter,
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


def create_app(config: Config, telemetry: Telemetry, store: Store, upkeep: TableMaintenance, faults: Faults) -> Flask:
    """Make the Flask application."""
    app = _Synchronous("server", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    if config.telemetry.enabled:
        with pin_semconv_mode(config.telemetry.conventions):
            make_request_spans(app, telemetry.tracer_provider)
    RequestTelemetry(telemetry.meter, config.catalogue, config.telemetry.conventions).watch(app)
    register_error_handlers(app)
    add_routes(app, store, upkeep, config.catalogue, faults)
    return app


def _missing(upkeep: TableMaintenance) -> str | None:
    return None if upkeep.ready else "the tables are not there; see the log for what the database says"
