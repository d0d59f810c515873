"""What the suite consists of: its services, their signals, and the hops between them."""

from typing import NamedTuple


class Service(NamedTuple):
    """One service: `short` is its module in services/, `port` where it serves HTTP by default.

    `input` is what it waits for, from the requester or from people, empty for the requester itself. One that is not
    `busy` has no requests, and so no traces, until a browser opens its page.
    """

    short: str
    port: int
    input: str = ""
    busy: bool = True

    @property
    def name(self) -> str:
        """Its service name in telemetry, which is also its host name with Docker."""
        return f"mythical-{self.short}"

    @property
    def port_variable(self) -> str:
        """The variable of its published port with Docker; with DEMO_ before it, of its port without."""
        return f"{self.short.upper()}_PORT"


SERVICES = (
    Service("requester", 4001),
    Service("server", 4000, "HTTP requests"),
    Service("recorder", 4002, "messages"),
    Service("frontend", 4005, "page views", busy=False),
)
# Those of which every signal arrives all the time, and those of which some do now and then.
SERVICE_NAMES = tuple(service.name for service in SERVICES if service.busy)
OCCASIONAL = (*(service.name for service in SERVICES if not service.busy), "mythical-browser")
SIGNALS = ("traces", "metrics", "logs", "profiles")
HOPS = (
    ("mythical-requester", "mythical-server"),
    ("mythical-server", "postgresql"),
    ("mythical-requester", "rabbitmq"),
    ("rabbitmq", "mythical-recorder"),
)

# The profile of CPU time as Pyroscope names it: name, sample type, sample unit, period type, period unit.
CPU_PROFILE = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
