"""Settings of the load generator: environment variables, read once, typed and checked."""

from dataclasses import dataclass, field

from common.core.address import split_credentials
from common.core.endpoints import EndpointSet, endpoints_for
from common.core.env import Env, SettingsError
from common.telemetry.settings import STANDARD_PORTS, ExportSettings, collector, export_settings
from loadtest.shapes import SHAPES

ROLES = ("alone", "master", "worker")
KINDS = ("keeper", "browser", "breeder", "person")
SHAPE_TIME_S = 120.0  # the default length of a shape that has an end
MOST_USERS = 100_000
DAY_S = 86_400


@dataclass(frozen=True)
class Settings:
    """The load: target host, number and kinds of users, shape, and duration in seconds.

    `frontend` is the URL of the frontend, empty without one; `faro` is where its users send what browsers would, by
    default the receiver that the page names.

    `host` is without the credentials of LOAD_HOST: Locust shows it. `authorization` is the header that they stand for.
    """

    host: str
    users: int
    rate: float
    time_s: float
    shape: str
    seed: str
    run_id: str
    catalogue: EndpointSet
    beasts: tuple[str, ...]
    weights: dict[str, int]
    tolerate_injected: bool
    within_ms: float
    break_p95_ms: float
    break_error_share: float
    collector: str = field(repr=False)
    telemetry: bool
    exports: ExportSettings
    frontend: str = ""
    faro: str = field(default="", repr=False)
    authorization: str = field(default="", repr=False)

    @property
    def shape_time_s(self) -> float:
        """The duration of the shape: LOAD_TIME, by default two minutes."""
        return self.time_s or SHAPE_TIME_S


def load(env: Env) -> Settings:
    """Read the settings. Raises SettingsError, one line with the variable and its valid values."""
    exports = export_settings(env)
    words = endpoints_for(env.choice("ENDPOINT_TYPE", "MYTHICAL", ("MYTHICAL", "BORING")))
    frontend, _ = split_credentials(env.url("LOAD_FRONTEND", "").rstrip("/"))
    host, authorization = split_credentials(env.url("LOAD_HOST", "http://127.0.0.1:4000").rstrip("/"))
    return Settings(
        host=host,
        authorization=authorization,
        users=env.integer("LOAD_USERS", 10, 1, MOST_USERS),
        rate=env.number("LOAD_RATE", 2, 0.01, MOST_USERS),
        time_s=env.number("LOAD_TIME", 0, 0, DAY_S),
        shape=env.choice("LOAD_SHAPE", "steady", tuple(SHAPES)),
        seed=env.text("LOAD_SEED", ""),
        run_id=env.text("LOAD_RUN_ID", ""),
        catalogue=words,
        beasts=_beasts(env, words),
        weights=_weights(env, frontend),
        tolerate_injected=env.choice("LOAD_INJECTED_FAULTS", "fail", ("fail", "tolerate")) == "tolerate",
        within_ms=env.number("LOAD_WITHIN", 300, 1, 600_000),
        break_p95_ms=env.number("LOAD_BREAK_P95", 500, 1, 600_000),
        break_error_share=env.number("LOAD_BREAK_ERRORS", 0.05, 0, 1),
        frontend=frontend,
        faro=env.url("LOAD_FARO", ""),
        collector=_collector(env),
        telemetry=not env.flag("OTEL_SDK_DISABLED", default=False),
        exports=exports,
    )


@dataclass(frozen=True)
class RunMode:
    """How a run is executed: with a web page on `port` or headless, and in which role.

    `alone` runs in its own `processes`. A `master` waits for `workers`, which connect to `master_host`.
    """

    headless: bool
    ui_host: str
    port: int
    processes: int
    role: str
    master_host: str
    master_port: int
    workers: int


def run_mode(env: Env) -> RunMode:
    """Read how the run is executed. Raises SettingsError."""
    found = RunMode(
        headless=env.flag("LOAD_HEADLESS", default=False),
        ui_host=env.host("LOAD_UI_HOST", "127.0.0.1"),
        port=env.port("LOAD_PORT", 8089),
        processes=env.integer("LOAD_PROCESSES", 1, 1, 256),
        role=env.choice("LOAD_ROLE", "alone", ROLES),
        master_host=env.host("LOAD_MASTER", "127.0.0.1"),
        master_port=env.port("LOAD_MASTER_PORT", 5557),
        workers=env.integer("LOAD_WORKERS", 1, 1, 10_000),
    )
    if found.role == "master" and found.processes > 1:
        raise SettingsError("LOAD_PROCESSES is for processes that generate load, and LOAD_ROLE=master does not")
    return found


def _collector(env: Env) -> str:
    """Return the URL for telemetry. The standard variable takes precedence, unless its protocol is gRPC.

    The load generator uses OTLP over HTTP only: a gRPC exporter blocks all users if the collector hangs. Where the
    services use gRPC's standard port, that of HTTP on the same host is the default.
    """
    standard = env.url("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/")
    if standard and collector(env).protocol == "http/protobuf":
        return standard
    host, _, after = standard.rpartition(f":{STANDARD_PORTS['grpc']}")
    default = host if host and not after else "http://127.0.0.1"
    return env.url("LOAD_COLLECTOR", f"{default}:{STANDARD_PORTS['http/protobuf']}").rstrip("/")


def _beasts(env: Env, words: EndpointSet) -> tuple[str, ...]:
    asked = [beast.strip() for beast in env.text("LOAD_BEASTS", ",".join(words.names)).split(",") if beast.strip()]
    unknown = [beast for beast in asked if beast not in words.names]
    if unknown or not asked:
        raise SettingsError(
            f"LOAD_BEASTS: {', '.join(unknown) or 'nothing'} is not one of {', '.join(words.names)} "
            f"(those of ENDPOINT_TYPE={'BORING' if words.prefix == 'eStore' else 'MYTHICAL'})"
        )
    return tuple(asked)


def _weights(env: Env, frontend: str) -> dict[str, int]:
    """Parse `keeper=6,browser=3`; a kind that is not listed gets no users."""
    text = env.text("LOAD_KINDS", "keeper=6,browser=3,breeder=1" + (",person=3" if frontend else ""))
    weights = dict.fromkeys(KINDS, 0)
    for part in text.split(","):
        kind, _, weight = (piece.strip() for piece in part.partition("="))
        if kind not in KINDS or not weight.isascii() or not weight.isdigit() or len(weight) > len("1000"):
            raise SettingsError(
                f"LOAD_KINDS={text!r} is not kind=weight, …; kinds are {', '.join(KINDS)}, weights whole numbers"
            )
        weights[kind] = int(weight)
    if weights["person"] and not frontend:
        raise SettingsError(f"LOAD_KINDS={text!r} has a person, who needs LOAD_FRONTEND, the URL of the frontend")
    if not any(weights.values()):
        raise SettingsError(f"LOAD_KINDS={text!r} leaves no users; set a weight above 0")
    return weights
