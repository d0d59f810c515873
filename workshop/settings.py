"""Settings: URLs of the services, the gateway and the backends, and the address of the fault page."""

from dataclasses import dataclass

from common.core.env import Env
from workshop.stack import Backends

SERVICES = ("server", "requester", "recorder")
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Settings:
    """URLs of the services (by their short names), the gateway and the backends; host and port of the fault page."""

    services: dict[str, str]
    gateway: str
    stack: Backends
    page_host: str
    page_port: int

    @property
    def page(self) -> str:
        """The URL of the fault page."""
        return f"http://{LOOPBACK}:{self.page_port}"


def load(env: Env) -> Settings:
    """Read the settings; the defaults are the ports of `make demo`. Raises SettingsError."""
    return Settings(
        services={
            "server": env.url("WORKSHOP_SERVER", f"http://{LOOPBACK}:{env.port('DEMO_SERVER_PORT', 4000)}"),
            "requester": env.url("WORKSHOP_REQUESTER", f"http://{LOOPBACK}:{env.port('DEMO_REQUESTER_PORT', 4001)}"),
            "recorder": env.url("WORKSHOP_RECORDER", f"http://{LOOPBACK}:{env.port('DEMO_RECORDER_PORT', 4002)}"),
        },
        gateway=env.url("WORKSHOP_GATEWAY", f"http://{LOOPBACK}:{env.port('DEMO_PAGE_PORT', 12347)}"),
        stack=Backends(
            mimir=_published(env, "MIMIR", 9009),
            loki=_published(env, "LOKI", 3100),
            tempo=_published(env, "TEMPO", 3200),
            pyroscope=_published(env, "PYROSCOPE", 4040),
        ),
        page_host=env.text("WORKSHOP_HOST", LOOPBACK),
        page_port=env.port("DEMO_WORKSHOP_PORT", 4003),
    )


def _published(env: Env, name: str, port: int) -> str:
    """Return the URL of a backend; the default is the port that compose publishes."""
    return env.url(f"WORKSHOP_{name}", f"http://{LOOPBACK}:{env.port(f'{name}_PORT', port)}").rstrip("/")
