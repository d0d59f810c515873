"""The recorder's settings."""

from dataclasses import dataclass

from common import faults
from common.core.endpoints import EndpointSet, endpoints_for
from common.core.env import Env
from common.messaging.broker import Broker
from common.messaging.settings import broker
from common.telemetry.settings import TelemetrySettings, telemetry_settings
from common.web.server import Address, address, loopback

SERVICE = "mythical-recorder"
PORT = 4002


@dataclass(frozen=True)
class Config:
    """All that the recorder is told.

    `concurrency` messages are worked on at a time. With the default the queue waves: the burst brings about 160
    messages/s for 12 s, the slow beasts keep a worker for a second, 16 workers record about 37/s; so some 1,500 wait
    when the burst ends, and they are gone a minute later, well inside the quiet phase. A message that fails is tried
    `attempts` times, `retry_delay_s` seconds apart.
    """

    address: Address
    telemetry: TelemetrySettings
    endpoints: EndpointSet
    broker: Broker
    concurrency: int
    attempts: int
    retry_delay_s: float
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
        concurrency=env.integer("RECORDER_CONCURRENCY", 16, 1, 256),
        attempts=env.integer("RECORDER_ATTEMPTS", 5, 1, 100),
        retry_delay_s=env.number("RECORDER_RETRY_DELAY", 5, 0.1, 3600),
        faults=faults.configured_strengths(env, *faults.faults_of("recorder")),
        faults_control=env.flag("FAULTS_CONTROL", default=loopback(where)),
        debug=env.flag("DEBUG_ENDPOINTS", default=loopback(where)),
    )
