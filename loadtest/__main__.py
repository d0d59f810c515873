"""Starts the load: python -m loadtest [gate]; everything else is set by LOAD_ variables."""

import errno
import http.client
import os
import random
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from common.core.env import Env, SettingsError
from loadtest.gate import FILE, read_gate
from loadtest.names import new_run_id
from loadtest.settings import Front, Settings, front, load

UNUSABLE = 2
ANSWER_S = 5.0
RESULTS = Path("var/load")
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
USAGE = "usage: python -m loadtest [gate]"


def gated(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the environment of a gate: its file says what is run, unless variables do; raises SettingsError."""
    file = Path(environ.get("LOAD_GATE") or FILE)
    run = {f"LOAD_{name.upper()}": value for name, value in read_gate(file).run.items()}
    return {**run, **environ, "LOAD_GATE": str(file), "LOAD_HEADLESS": "true"}


def identified(environ: Mapping[str, str], now: datetime) -> dict[str, str]:
    """Give the environment with a run id and a seed, made up where none is set, so that all processes have the same."""
    dice = random.SystemRandom()
    made = {"LOAD_RUN_ID": new_run_id(now, dice), "LOAD_SEED": str(dice.getrandbits(32))}
    return {**environ, **{name: environ.get(name) or value for name, value in made.items()}}


def check_host(settings: Settings) -> None:
    """Ask the host for the first beast; raises SettingsError if nothing answers, or if it knows no such beast."""
    path = f"/{settings.beasts[0]}?limit=1"
    try:
        status = _status(settings.host, path)
    except (OSError, ValueError, http.client.HTTPException) as fault:
        why = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
        raise SettingsError(
            f"LOAD_HOST={settings.host!r} does not answer ({why}); start the suite with make demo, or name another host"
        ) from None
    if status == http.HTTPStatus.NOT_FOUND:
        raise SettingsError(
            f"LOAD_HOST={settings.host!r} knows no {settings.beasts[0]}; set ENDPOINT_TYPE as it is set there"
        )


def check_page(watched: Front) -> None:
    """Raise SettingsError if Locust's page cannot listen where it should: Locust itself would end in a stack trace."""
    try:
        # Without waiting for what a last run's connections still hold, as Locust's own server does.
        socket.create_server((watched.ui_host, watched.port)).close()
    except OSError as fault:
        raise SettingsError(
            f"LOAD_PORT={watched.port}: the page cannot listen at {watched.ui_host} ({_why(fault)}); "
            f"choose another: LOAD_PORT={watched.port % 50_000 + 10_000}, or do without a page: LOAD_HEADLESS=true"
        ) from None


def _why(fault: OSError) -> str:
    if fault.errno == errno.EADDRINUSE:
        # Python adds the address to the system's words, in which it already stands.
        return "something listens there, perhaps the load of make demo"
    return fault.strerror or str(fault)


def results_folder(environ: Mapping[str, str]) -> Path:
    """Make the folder of the results; raises SettingsError."""
    folder = Path(environ.get("LOAD_RESULTS") or RESULTS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise SettingsError(f"LOAD_RESULTS={str(folder)!r} cannot be made ({fault.strerror})") from None
    return folder


def collector_answers(url: str) -> bool:
    """Tell whether something listens at the collector's address."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=1):
            return True
    except (OSError, ValueError):
        return False


def command(settings: Settings, watched: Front, results: Path, *, gate: bool) -> list[str]:
    """Give the command that runs Locust."""
    arguments = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", settings.host]
    arguments += ["--processes", str(watched.processes)] if watched.processes > 1 else []
    if watched.role == "worker":
        return [*arguments, "--worker", "--master-host", watched.master_host, "--master-port", str(watched.master_port)]
    # Who reaches this port can have code run: it listens where the page does, and not everywhere as by default.
    arguments += ["--master-bind-host", watched.ui_host, "--master-bind-port", str(watched.master_port)]
    if watched.processes > 1:
        arguments += ["--master-port", str(watched.master_port)]
    if watched.role == "master":
        arguments += ["--master", "--expect-workers", str(watched.workers), "--enable-rebalancing"]
    if settings.shape == "steady":
        arguments += ["--users", str(settings.users), "--spawn-rate", f"{settings.rate:g}"]
        arguments += ["--run-time", f"{max(1, round(settings.time_s))}s"] if settings.time_s else []
    if watched.headless:
        arguments += ["--headless", *(["--only-summary", "--loglevel", "WARNING"] if gate else [])]
        # Locust's own tables are left out where it writes a file: the report says the same, and more.
        arguments += ["--json-file", str(results / "locust")]
    else:
        arguments += ["--autostart", "--web-host", watched.ui_host, "--web-port", str(watched.port)]
    # The gate alone decides: planted faults are failures to Locust.
    return [*arguments, "--exit-code-on-error", "0"]


def _status(host: str, path: str) -> int:
    parts = urlsplit(host)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=ANSWER_S)
    try:
        connection.request("GET", parts.path + path)
        return connection.getresponse().status
    finally:
        connection.close()


def main(arguments: list[str]) -> int:
    """Check everything that can be checked, then become Locust; a fault is one line and exit status 2."""
    if arguments not in ([], ["gate"]):
        print(USAGE, file=sys.stderr)  # noqa: T201 - a command line program
        return UNUSABLE
    gate = bool(arguments)
    try:
        if find_spec("locust") is None:
            raise SettingsError("Locust is not in this Python; run it by make load, which makes an environment for it")
        environ = identified(gated(os.environ) if gate else os.environ, datetime.now(UTC))
        settings, watched = load(Env(environ)), front(Env(environ))
        results = results_folder(environ)
        if gate and watched.role == "worker":
            raise SettingsError("LOAD_ROLE=worker judges nothing; run the gate where the master is")
        if not watched.headless and watched.role != "worker":
            check_page(watched)
        check_host(settings)
    except SettingsError as fault:
        print(f"loadtest: {fault}", file=sys.stderr)  # noqa: T201 - a command line program
        return UNUSABLE
    told = (
        f"run {settings.run_id}, seed {settings.seed}, {settings.shape} up to {settings.users} users at {settings.host}"
    )
    if watched.role == "worker":
        told = f"a worker of {watched.master_host}:{watched.master_port}, for load at {settings.host}"
    # Several that belong together send always: one that came before the collector would be missing from the sums.
    if watched.role == "alone" and settings.telemetry and not collector_answers(settings.collector):
        environ["OTEL_SDK_DISABLED"] = "true"
        told += f"; no telemetry, for nothing listens at {settings.collector}"
    print(f"loadtest: {told}", flush=True)  # noqa: T201 - a command line program
    if not watched.headless and watched.role != "worker":
        print(f"loadtest: to watch and change it: http://{watched.ui_host}:{watched.port}", flush=True)  # noqa: T201
    return become(command(settings, watched, results, gate=gate), environ)


def become(arguments: list[str], environ: Mapping[str, str]) -> NoReturn:
    """Run a command in place of this process, so that signals and the exit status are its own."""
    os.execve(arguments[0], arguments, environ)  # noqa: S606 - our own arguments


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
