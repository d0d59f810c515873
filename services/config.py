"""Settings that every service reads."""

from dataclasses import dataclass

from common import faults
from common.core.endpoints import EndpointSet, endpoints_for
from common.core.env import Env
from common.telemetry.settings import TelemetrySettings, telemetry_settings
from common.web.server import Address, address, loopback


@dataclass(frozen=True)
class ServiceConfig:
    """The settings that the four services share; each extends them with its own.

    `faults` maps each supported fault to its startup value. `faults_control` enables the `/faults` endpoints, `debug`
    the profile endpoints.
    """

    address: Address
    telemetry: TelemetrySettings
    endpoints: EndpointSet
    faults: dict[str, float]
    faults_control: bool
    debug: bool


def load_shared(env: Env, service: str, port: int) -> ServiceConfig:
    """Read the shared settings of the service named `service`, which listens on `port` by default.

    Raise SettingsError for a value that is not allowed.
    """
    listen = address(env, port)
    return ServiceConfig(
        address=listen,
        telemetry=telemetry_settings(env, service),
        endpoints=endpoints_for(env.choice("ENDPOINT_TYPE", "MYTHICAL", ("MYTHICAL", "BORING"))),
        faults=faults.configured_strengths(env, *faults.faults_of(service.removeprefix("mythical-"))),
        faults_control=env.flag("FAULTS_CONTROL", default=loopback(listen)),
        debug=env.flag("DEBUG_ENDPOINTS", default=loopback(listen)),
    )
