"""The requester's settings."""

import random
from dataclasses import dataclass

from common.core.env import Env, SettingsError
from common.messaging.topology import Broker, broker
from services.config import ServiceConfig, load_shared

SERVICE = "mythical-requester"
PORT = 4001


@dataclass(frozen=True)
class Config(ServiceConfig):
    """The shared settings, the broker, the server's host and port, and the traffic to generate.

    `loops` threads send requests, the first after `start_s` seconds and each other one a second later. `rate` divides
    the pauses between requests. `error_odds` is the share of malformed requests. The same `seed` produces the same
    sequence of beasts, methods, names and pauses. `timeshift_min` is subtracted from the times in log lines.
    """

    broker: Broker
    server: tuple[str, int]
    loops: int
    start_s: float
    rate: float
    error_odds: float
    seed: int
    timeshift_min: int


def load(env: Env) -> Config:
    """Read the settings; raise SettingsError for a value that is not allowed."""
    return Config(
        **vars(load_shared(env, SERVICE, PORT)),
        broker=broker(env, SERVICE),
        server=env.host_port("MYTHICAL_SERVER_HOST_PORT", "mythical-server:4000"),
        loops=env.integer("REQUESTER_LOOPS", 4, 1, 64),
        start_s=env.number("REQUESTER_START", 5, 0, 3600),
        rate=env.number("REQUESTER_RATE", 1, 0.01, 100),
        error_odds=env.number("REQUESTER_ERROR_ODDS", 0, 0, 1),
        seed=_seed(env),
        timeshift_min=_timeshift(env),
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
    """Return 40 minutes if TIMESHIFT is set to anything but `false`, `0`, `no` or `off`, else 0."""
    return 0 if env.text("TIMESHIFT", "false").lower() in ("false", "0", "no", "off") else 40
