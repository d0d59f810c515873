"""The recorder's settings."""

from dataclasses import dataclass

from common.core.env import Env
from common.messaging.topology import Broker, broker
from services.config import ServiceConfig, load_shared

SERVICE = "mythical-recorder"
PORT = 4002


@dataclass(frozen=True)
class Config(ServiceConfig):
    """The shared settings, the broker, and how messages are processed.

    At most `concurrency` messages are processed at a time. With the default, the queue length rises and falls: the
    burst brings about 160 messages/s for 12 s, messages about slow beasts occupy a worker for a second, and 16 workers
    record about 37/s. So about 1,500 messages wait when the burst ends, and a minute later, well within the quiet
    phase, none does. A failing message is attempted `attempts` times, `retry_delay_s` seconds apart.
    """

    broker: Broker
    concurrency: int
    attempts: int
    retry_delay_s: float


def load(env: Env) -> Config:
    """Read the settings; raise SettingsError for a value that is not allowed."""
    return Config(
        **vars(load_shared(env, SERVICE, PORT)),
        broker=broker(env, SERVICE),
        concurrency=env.integer("RECORDER_CONCURRENCY", 16, 1, 256),
        attempts=env.integer("RECORDER_ATTEMPTS", 5, 1, 100),
        retry_delay_s=env.number("RECORDER_RETRY_DELAY", 5, 0.1, 3600),
    )
