"""Start the load generator: python -m loadtest [gate]; LOAD_ variables configure it."""

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

from common.core.address import join_host_port, shown
from common.core.cli import replace_unprintable
from common.core.env import Env, SettingsError
from loadtest.gate import FILE, read_gate
from loadtest.names import new_run_id
from loadtest.settings import RunMode, Settings, load, run_mode

UNUSABLE = 2
RESPONSE_TIMEOUT_S = 5.0
RESULTS = Path("var/load")
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
USAGE = "usage: python -m loadtest [gate]"


def gate_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a gate; variables override the gate's file. Raises SettingsError."""
    file = Path(environ.get("LOAD_GATE") or FILE)
    run = {f"LOAD_{name.upper()}": value for name, value in read_gate(file).run.items()}
    return {**run, **environ, "LOAD_GATE": str(file), "LOAD_HEADLESS": "true"}


def with_run_id_and_seed(environ: Mapping[str, str], now: datetime) -> dict[str, str]:
    """Return the environment with a run id and a seed, generated if unset, so that all processes share them."""
    rng = random.SystemRandom()
    made = {"LOAD_RUN_ID": new_run_id(now, rng), "LOAD_SEED": str(rng.getrandbits(32))}
    return {**environ, **{name: environ.get(name) or value for name, value in made.items()}}


def check_host(settings: Settings) -> None:
    """Request the first beast from the host. Raises SettingsError if it does not answer or does not have that beast."""
    path = f"/{settings.beasts[0]}?limit=1"
    try:
        status = _status(settings, path)
    except (OSError, ValueError, http.client.HTTPException) as fault:
        why = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
        raise SettingsError(
            f"LOAD_HOST={settings.host!r} does not answer ({why}); start the suite with make demo, or set another host"
        ) from None
    if status == http.HTTPStatus.NOT_FOUND:
        raise SettingsError(
            f"LOAD_HOST={settings.host!r} does not have {settings.beasts[0]}; set ENDPOINT_TYPE to the value used there"
        )


def check_page(mode: RunMode) -> None:
    """Raise SettingsError if Locust's page cannot listen at its address: Locust would exit with a stack trace."""
    try:
        # Reuses an address in TIME_WAIT, as Locust's own server does.
        socket.create_server((mode.ui_host, mode.port)).close()
    except OSError as fault:
        raise SettingsError(
            f"LOAD_PORT={mode.port}: the page cannot listen at {mode.ui_host} ({_why(fault)}); "
            f"choose another: LOAD_PORT={mode.port % 50_000 + 10_000}, or run without a page: LOAD_HEADLESS=true"
        ) from None


def _why(fault: OSError) -> str:
    if fault.errno == errno.EADDRINUSE:
        # Python's text repeats the address.
        return "the port is in use, perhaps by the load of make demo"
    return fault.strerror or str(fault)


def results_folder(environ: Mapping[str, str]) -> Path:
    """Create the results folder and return it. Raises SettingsError."""
    folder = Path(environ.get("LOAD_RESULTS") or RESULTS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise SettingsError(f"LOAD_RESULTS={str(folder)!r} cannot be created ({fault.strerror})") from None
    return folder


def collector_answers(url: str) -> bool:
    """Return whether something listens at the collector's address."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=1):
            return True
    except (OSError, ValueError):
        return False


def command(settings: Settings, mode: RunMode, results: Path, *, gate: bool) -> list[str]:
    """Return the command that runs Locust."""
    arguments = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", settings.host]
    arguments += ["--processes", str(mode.processes)] if mode.processes > 1 else []
    if mode.role == "worker":
        return [*arguments, "--worker", "--master-host", mode.master_host, "--master-port", str(mode.master_port)]
    # A client of this port can execute code, so it listens at the page's address only, not on all as by default.
    arguments += ["--master-bind-host", mode.ui_host, "--master-bind-port", str(mode.master_port)]
    if mode.processes > 1:
        arguments += ["--master-port", str(mode.master_port)]
    if mode.role == "master":
        arguments += ["--master", "--expect-workers", str(mode.workers), "--enable-rebalancing"]
    if settings.shape == "steady":
        arguments += ["--users", str(settings.users), "--spawn-rate", f"{settings.rate:g}"]
        arguments += ["--run-time", f"{max(1, round(settings.time_s))}s"] if settings.time_s else []
    if mode.headless:
        arguments += ["--headless", *(["--only-summary", "--loglevel", "WARNING"] if gate else [])]
        # With a file, Locust does not print its own tables; the report contains them.
        arguments += ["--json-file", str(results / "locust")]
    else:
        arguments += ["--autostart", "--web-host", mode.ui_host, "--web-port", str(mode.port)]
    # Only the gate decides, because injected faults are failures to Locust.
    return [*arguments, "--exit-code-on-error", "0"]


def _status(settings: Settings, path: str) -> int:
    parts = urlsplit(settings.host)
    headers = {"Authorization": settings.authorization} if settings.authorization else {}
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=RESPONSE_TIMEOUT_S)
    try:
        connection.request("GET", parts.path + path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def main(arguments: list[str]) -> int:
    """Check the settings, then replace this process by Locust; an error is one line and exit status 2."""
    replace_unprintable()
    if arguments not in ([], ["gate"]):
        print(USAGE, file=sys.stderr)  # noqa: T201 - a command line program
        return UNUSABLE
    gate = bool(arguments)
    try:
        if find_spec("locust") is None:
            raise SettingsError(
                "Locust is not installed in this Python; use make load, which creates an environment for it"
            )
        environ = with_run_id_and_seed(gate_environment(os.environ) if gate else os.environ, datetime.now(UTC))
        settings, mode = load(Env(environ)), run_mode(Env(environ))
        results = results_folder(environ)
        if gate and mode.role == "worker":
            raise SettingsError("LOAD_ROLE=worker does not evaluate the gate; run the gate on the master")
        if not mode.headless and mode.role != "worker":
            check_page(mode)
        check_host(settings)
    except SettingsError as fault:
        print(f"loadtest: {fault}", file=sys.stderr)  # noqa: T201 - a command line program
        return UNUSABLE
    summary = (
        f"run {settings.run_id}, seed {settings.seed}, {settings.shape} up to {settings.users} users at {settings.host}"
    )
    if mode.role == "worker":
        summary = f"a worker of {join_host_port(mode.master_host, mode.master_port)}, for load at {settings.host}"
    # Masters and workers always export: one that starts before the collector would be missing from the sums.
    if mode.role == "alone" and settings.telemetry and not collector_answers(settings.collector):
        environ["OTEL_SDK_DISABLED"] = "true"
        summary += f"; no telemetry, because nothing listens at {shown(settings.collector)}"
    print(f"loadtest: {summary}", flush=True)  # noqa: T201 - a command line program
    if not mode.headless and mode.role != "worker":
        print(f"loadtest: Locust's page: http://{join_host_port(mode.ui_host, mode.port)}", flush=True)  # noqa: T201
    return exec_command(command(settings, mode, results, gate=gate), environ)


def exec_command(arguments: list[str], environ: Mapping[str, str]) -> NoReturn:
    """Replace this process by a command, which then receives the signals and sets the exit status."""
    # Locust reads options from LOCUST_ variables, which are meant for other load tests: those of this one are LOAD_. A
    # provider that OTEL_PYTHON_ variables name would take the place of the one that the load generator makes.
    own = {name: value for name, value in environ.items() if not name.startswith(("LOCUST_", "OTEL_PYTHON_"))}
    os.execve(arguments[0], arguments, own)  # noqa: S606 - our own arguments


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
