"""The requester's settings."""

import random
from dataclasses import dataclass

from common import faults
from common.core.endpoints import EndpointSet, endpoints_for
from common.core.env import Env, SettingsError
from common.messaging.broker import Broker
from common.messaging.settings import broker
from common.telemetry.settings import TelemetrySettings, telemetry_settings
from common.web.server import Address, address, loopback

SERVICE = "mythical-requester"
PORT = 4001


@dataclass(frozen=True)
class Config:
    """All that the requester is told.

    `loops` run side by side, the first after `start_s` seconds, each next one a second later; `rate` divides the
    pauses between requests; `error_odds` is the share of requests that are made wrong on purpose; one `seed` gives
    one sequence of beasts, methods, names and pauses; `timeshift_min` sets log times back.
    """

    address: Address
    telemetry: TelemetrySettings
    endpoints: EndpointSet
    broker: Broker
    server: tuple[str, int]
    loops: int
    start_s: float
    rate: float
    error_odds: float
    seed: int
    timeshift_min: int
    faults: dict[str, float]
    faults_control: bool
    debug: bool


def load(env: Env) -> Config:
    """Read the settings; raises SettingsError."""
    where = address(env, PORT)
    return Config(
        address=where,
        telemetry=telemetry_settings(env, SERVICE),
        endpoints=endpoints_for(env.choice("ENDPOINT_TYPE", "MYTHICAL", ("MYTHICAL", "BORING"))),
        broker=broker(env, SERVICE),
        server=env.host_port("MYTHICAL_SERVER_HOST_PORT", "mythical-server:4000"),
        loops=env.integer("REQUESTER_LOOPS", 4, 1, 64),
        start_s=env.number("REQUESTER_START", 5, 0, 3600),
        rate=env.number("REQUESTER_RATE", 1, 0.01, 100),
        error_odds=env.number("REQUESTER_ERROR_ODDS", 0, 0, 1),
        seed=_seed(env),
        timeshift_min=_timeshift(env),
        faults=faults.configured_strengths(env, *faults.faults_of("requester")),
        faults_control=env.flag("FAULTS_CONTROL", default=loopback(where)),
        debug=env.flag("DEBUG_ENDPOINTS", default=loopback(where)),
    )


def _seed(env: Env) -> int:
    text = env.text("REQUESTER_SEED", "")
    if not text:
        return random.SystemRandom().getrandbits(32)
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"REQUESTER_SEED={text!r} is not a whole number; leave it out for a random one") from None


def _timeshift(env: Env) -> int:
    """TIMESHIFT set to anything but a word for "no" puts log times 40 minutes into the past."""
    return 0 if env.text("TIMESHIFT", "false").lower() in ("false", "0", "no", "off") else 40
