"""The server's settings."""

from dataclasses import dataclass, field, replace
from typing import Any

from common import faults
from common.core.endpoints import EndpointSet, endpoints_for
from common.core.env import Env, SettingsError
from common.telemetry.settings import TelemetrySettings, telemetry_settings
from common.web.server import Address, address, loopback

SERVICE = "mythical-server"
PORT = 4000
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Database:
    """How to reach Postgres, how many connections to hold, and how long anything may take there (milliseconds)."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    name: str
    connections: int
    statement_timeout_ms: int

    @property
    def address(self) -> dict[str, Any]:
        """Where it is and who asks, in the words of the driver."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.name,
        }


@dataclass(frozen=True)
class Config:
    """All that the server is told."""

    address: Address
    telemetry: TelemetrySettings
    endpoints: EndpointSet
    database: Database
    teardown_timeout_ms: float
    table_rows: int
    faults: dict[str, float]
    faults_control: bool
    debug: bool


def load(env: Env) -> Config:
    """Read the settings; raises SettingsError."""
    where = replace(address(env, PORT), waiting=env.integer("HTTP_QUEUE", 128, 1, 1024))
    strengths = faults.configured_strengths(env, *faults.faults_of("server"))
    if env.flag("ALWAYS_SUCCEED", default=False):
        strengths[faults.NULL_NAME.name] = 0.0
    return Config(
        address=where,
        telemetry=telemetry_settings(env, SERVICE),
        endpoints=endpoints_for(env.choice("ENDPOINT_TYPE", "MYTHICAL", ("MYTHICAL", "BORING"))),
        database=Database(
            host=env.text("MYTHICAL_DATABASE_HOST", "mythical-database"),
            port=env.port("MYTHICAL_DATABASE_HOST_PORT", 5432),
            user=env.text("MYTHICAL_DATABASE_USER", "postgres"),
            password=env.secret("MYTHICAL_DATABASE_PASSWORD", "mythical"),
            name=env.text("MYTHICAL_DATABASE_NAME", "postgres"),
            connections=env.integer("MYTHICAL_DATABASE_CONNECTIONS", where.threads, 1, 256),
            statement_timeout_ms=env.integer("MYTHICAL_DATABASE_STATEMENT_TIMEOUT", 2000, 10, 60_000),
        ),
        teardown_timeout_ms=_teardown_timeout(env),
        table_rows=env.integer("MYTHICAL_SERVER_TABLE_ROWS", 10_000, 1, 10_000_000),
        faults=strengths,
        faults_control=env.flag("FAULTS_CONTROL", default=loopback(where)),
        debug=env.flag("DEBUG_ENDPOINTS", default=loopback(where)),
    )


def _teardown_timeout(env: Env) -> float:
    name = "MYTHICAL_SERVER_DATABASE_TEARDOWN_TIMEOUT"
    timeout_ms = env.number(name, DAY_MS, 1, DAY_MS)
    if timeout_ms == 1:
        raise SettingsError(f"{name}=1 is out of range; give milliseconds above 1, at most {DAY_MS}")
    return timeout_ms
