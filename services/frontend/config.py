"""The frontend's settings."""

from dataclasses import dataclass, replace

from common.core.env import Env
from common.messaging.topology import Broker, broker
from services.config import ServiceConfig, load_shared

SERVICE = "mythical-frontend"
PORT = 4005


@dataclass(frozen=True)
class Config(ServiceConfig):
    """The shared settings, the broker, the server's host and port, and where browsers send their telemetry.

    `faro_url` is the URL of a Faro receiver as browsers reach it; if empty, browsers send nothing.
    """

    broker: Broker
    server: tuple[str, int]
    faro_url: str


def load(env: Env) -> Config:
    """Read the settings; raise SettingsError for a value that is not allowed."""
    shared = load_shared(env, SERVICE, PORT)
    # A browser asks for the page's files at the same time: more than one person would need more than four threads.
    shared = replace(shared, address=replace(shared.address, max_queue=env.integer("HTTP_QUEUE", 128, 1, 1024)))
    return Config(
        **vars(shared),
        broker=broker(env, SERVICE),
        server=env.host_port("MYTHICAL_SERVER_HOST_PORT", "mythical-server:4000"),
        faro_url=env.url("FARO_URL", ""),
    )
