"""The server's settings."""

from dataclasses import dataclass, field, replace
from typing import Any

from common.core.env import Env, SettingsError
from common.faults import NULL_NAME
from common.telemetry.settings import MANUAL
from services.config import ServiceConfig, load_shared

SERVICE = "mythical-server"
PORT = 4000
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Database:
    """Where Postgres listens, how to log in, and how many connections to keep; the timeout is in milliseconds.

    `pooler` means that a pooler such as PgBouncer may run each transaction in another session, `comments` that each
    statement names its trace in a comment.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    name: str
    connections: int
    statement_timeout_ms: int
    pooler: bool = False
    comments: bool = False

    @property
    def address(self) -> dict[str, Any]:
        """The connection parameters under psycopg's names."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.name,
            "client_encoding": "UTF8",  # the default is that of the database: with SQL_ASCII, texts would be bytes
        }


@dataclass(frozen=True)
class Config(ServiceConfig):
    """The shared settings, the database, the period after which tables are recreated, and the rows each may hold."""

    database: Database
    teardown_timeout_ms: float
    table_rows: int


def load(env: Env) -> Config:
    """Read the settings; raise SettingsError for a value that is not allowed."""
    shared = load_shared(env, SERVICE, PORT)
    if env.flag("ALWAYS_SUCCEED", default=False):
        shared.faults[NULL_NAME.name] = 0.0
    shared = replace(shared, address=replace(shared.address, max_queue=env.integer("HTTP_QUEUE", 128, 1, 1024)))
    return Config(
        **vars(shared),
        database=Database(
            host=env.host("MYTHICAL_DATABASE_HOST", "mythical-database"),
            port=env.port("MYTHICAL_DATABASE_HOST_PORT", 5432),
            user=env.text("MYTHICAL_DATABASE_USER", "postgres"),
            password=env.secret("MYTHICAL_DATABASE_PASSWORD", "mythical"),
            name=env.text("MYTHICAL_DATABASE_NAME", "postgres"),
            connections=env.integer("MYTHICAL_DATABASE_CONNECTIONS", shared.address.threads, 1, 256),
            statement_timeout_ms=env.integer("MYTHICAL_DATABASE_STATEMENT_TIMEOUT", 2000, 10, 60_000),
            pooler=env.flag("MYTHICAL_DATABASE_POOLER", default=False),
            # Our own code makes them; the automatic instrumentation would take them for a part of the statement.
            comments=env.flag("MYTHICAL_SQL_COMMENTS", default=False) and shared.telemetry.instrumentation in MANUAL,
        ),
        teardown_timeout_ms=_teardown_timeout(env),
        table_rows=env.integer("MYTHICAL_SERVER_TABLE_ROWS", 10_000, 1, 10_000_000),
    )


def _teardown_timeout(env: Env) -> float:
    name = "MYTHICAL_SERVER_DATABASE_TEARDOWN_TIMEOUT"
    timeout_ms = env.number(name, DAY_MS, 1, DAY_MS)
    if timeout_ms == 1:
        raise SettingsError(f"{name}=1 is out of range; use milliseconds above 1, at most {DAY_MS}")
    return timeout_ms
