"""Settings of the load: the environment, read once, typed and checked."""

from dataclasses import dataclass

from common.core.endpoints import EndpointSet, endpoints_for
from common.core.env import Env, SettingsError
from loadtest.shapes import SHAPES

ROLES = ("alone", "master", "worker")
KINDS = ("keeper", "browser", "breeder")
SHAPE_TIME_S = 120.0  # the length of a shape that has an end, where nobody says how long
MOST_USERS = 100_000
DAY_S = 86_400


@dataclass(frozen=True)
class Settings:
    """What load to make: whom to ask, how many users of which kinds, in which shape, for how long (seconds)."""

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
    tolerate_planted: bool
    within_ms: float
    break_p95_ms: float
    break_error_share: float
    collector: str
    telemetry: bool

    @property
    def shape_time_s(self) -> float:
        """How long the shape takes: what was asked for, else two minutes."""
        return self.time_s or SHAPE_TIME_S


def load(env: Env) -> Settings:
    """Read the settings; raises SettingsError, one line that names the variable and what it may hold."""
    words = endpoints_for(env.choice("ENDPOINT_TYPE", "MYTHICAL", ("MYTHICAL", "BORING")))
    return Settings(
        host=env.url("LOAD_HOST", "http://127.0.0.1:4000").rstrip("/"),
        users=env.integer("LOAD_USERS", 10, 1, MOST_USERS),
        rate=env.number("LOAD_RATE", 2, 0.01, MOST_USERS),
        time_s=env.number("LOAD_TIME", 0, 0, DAY_S),
        shape=env.choice("LOAD_SHAPE", "steady", tuple(SHAPES)),
        seed=env.text("LOAD_SEED", ""),
        run_id=env.text("LOAD_RUN_ID", ""),
        catalogue=words,
        beasts=_beasts(env, words),
        weights=_weights(env),
        tolerate_planted=env.choice("LOAD_PLANTED", "fail", ("fail", "tolerate")) == "tolerate",
        within_ms=env.number("LOAD_WITHIN", 300, 1, 600_000),
        break_p95_ms=env.number("LOAD_BREAK_P95", 500, 1, 600_000),
        break_error_share=env.number("LOAD_BREAK_ERRORS", 0.05, 0, 1),
        collector=_collector(env),
        telemetry=not env.flag("OTEL_SDK_DISABLED", default=False),
    )


@dataclass(frozen=True)
class Front:
    """How a run is watched: with a web page on `port`, or headless; and who makes it.

    `alone` does both, with `processes` of its own. A `master` waits for `workers`, which find it at `master_host`.
    """

    headless: bool
    ui_host: str
    port: int
    processes: int
    role: str
    master_host: str
    master_port: int
    workers: int


def front(env: Env) -> Front:
    """Read how the run is watched and by whom it is made; raises SettingsError."""
    found = Front(
        headless=env.flag("LOAD_HEADLESS", default=False),
        ui_host=env.text("LOAD_UI_HOST", "127.0.0.1"),
        port=env.port("LOAD_PORT", 8089),
        processes=env.integer("LOAD_PROCESSES", 1, 1, 256),
        role=env.choice("LOAD_ROLE", "alone", ROLES),
        master_host=env.text("LOAD_MASTER", "127.0.0.1"),
        master_port=env.port("LOAD_MASTER_PORT", 5557),
        workers=env.integer("LOAD_WORKERS", 1, 1, 10_000),
    )
    if found.role == "master" and found.processes > 1:
        raise SettingsError("LOAD_PROCESSES is for those that make load, and LOAD_ROLE=master makes none")
    return found


def _collector(env: Env) -> str:
    """Read where telemetry goes. The standard variable wins, unless it is there for others that speak gRPC.

    Load goes over HTTP only: an exporter over gRPC whose collector hangs would hold up all users.
    """
    ours = env.url("LOAD_COLLECTOR", "http://127.0.0.1:4318")
    standard = env.url("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    speaks = env.choice("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", ("grpc", "http/protobuf"))
    return (standard if standard and speaks == "http/protobuf" else ours).rstrip("/")


def _beasts(env: Env, words: EndpointSet) -> tuple[str, ...]:
    asked = [beast.strip() for beast in env.text("LOAD_BEASTS", ",".join(words.names)).split(",") if beast.strip()]
    unknown = [beast for beast in asked if beast not in words.names]
    if unknown or not asked:
        raise SettingsError(
            f"LOAD_BEASTS: {', '.join(unknown) or 'nothing'} is none of {', '.join(words.names)} "
            f"(those of ENDPOINT_TYPE={'BORING' if words.prefix == 'eStore' else 'MYTHICAL'})"
        )
    return tuple(asked)


def _weights(env: Env) -> dict[str, int]:
    """Read `keeper=6,browser=3`; a kind that is not named gets no users."""
    text = env.text("LOAD_KINDS", "keeper=6,browser=3,breeder=1")
    weights = dict.fromkeys(KINDS, 0)
    for part in text.split(","):
        kind, _, weight = (piece.strip() for piece in part.partition("="))
        if kind not in KINDS or not weight.isascii() or not weight.isdigit() or len(weight) > len("1000"):
            raise SettingsError(
                f"LOAD_KINDS={text!r} is not kind=weight, …; kinds are {', '.join(KINDS)}, weights whole numbers"
            )
        weights[kind] = int(weight)
    if not any(weights.values()):
        raise SettingsError(f"LOAD_KINDS={text!r} leaves no user; give one kind a weight above 0")
    return weights
