"""Settings: URLs of the services, the gateway and the backends, and the address of the fault page."""

from dataclasses import dataclass

from common.core.env import Env
from tools.suite import SERVICES
from workshop.stack import Backends

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
            service.short: env.url(
                f"WORKSHOP_{service.short.upper()}",
                f"http://{LOOPBACK}:{env.port(f'DEMO_{service.port_variable}', service.port)}",
            )
            for service in SERVICES
        },
        gateway=env.url("WORKSHOP_GATEWAY", f"http://{LOOPBACK}:{env.port('DEMO_PAGE_PORT', 12347)}"),
        stack=Backends(
            mimir=_published(env, "MIMIR", 9009),
            loki=_published(env, "LOKI", 3100),
            tempo=_published(env, "TEMPO", 3200),
            pyroscope=_published(env, "PYROSCOPE", 4040),
        ),
        page_host=env.host("WORKSHOP_HOST", LOOPBACK),
        page_port=env.port("DEMO_WORKSHOP_PORT", 4003),
    )


def _published(env: Env, name: str, port: int) -> str:
    """Return the URL of a backend; the default is the port that compose publishes."""
    return env.url(f"WORKSHOP_{name}", f"http://{LOOPBACK}:{env.port(f'{name}_PORT', port)}").rstrip("/")
