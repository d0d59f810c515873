"""CPU per request of the load generator, with and without its telemetry, compared with the server's."""

import json
import os
import subprocess
from pathlib import Path
from statistics import median

from bench.report import Measurement
from bench.testbed import TestBed
from bench.usage import usage
from local.errors import LocalError
from local.ports import LOOPBACK
from local.state import CHECKOUT

PYTHON = CHECKOUT / ".venv-load/bin/python"
USERS = 100
# Most of the CPU of a short run is start-up; the difference of two runs excludes it.
SHORT_S = 3.0


def generator_cost(testbed: TestBed, *, rounds: int, seconds: float) -> list[Measurement]:
    """Measure breeders without and with telemetry alternately; return nothing if Locust is not installed."""
    if not PYTHON.exists():
        return []
    off, on, server = [], [], []
    with testbed.service("server", signals=True, ALWAYS_SUCCEED="true") as (pid, port):
        for _ in range(rounds):
            off.append(_measure(testbed, port, seconds, telemetry=False))
            before = usage(pid).cpu_s
            on.append(_measure(testbed, port, seconds, telemetry=True))
            server.append(usage(pid).cpu_s - before)
    off_ms, on_ms = (median(ms for ms, _ in runs) for runs in (off, on))
    served_ms = median(cpu * 1000 / count for cpu, (_, count) in zip(server, on, strict=True))
    return [
        Measurement("load_rps_per_core_off", round(1000 / off_ms), "/s", "load: requests/s of a core, untraced"),
        Measurement("load_rps_per_core_on", round(1000 / on_ms), "/s", "load: requests/s of a core, traced"),
        Measurement("load_tracing_ms", round(on_ms - off_ms, 3), "ms", "load: CPU of tracing per request"),
        Measurement("load_server_ratio", round(served_ms / on_ms, 2), "", "server's CPU per request ÷ the generator's"),
    ]


def _measure(testbed: TestBed, port: int, seconds: float, *, telemetry: bool) -> tuple[float, int]:
    """Return CPU per request (ms) without start-up, and how many requests both runs made."""
    short, long = (_run(testbed, port, length, telemetry=telemetry) for length in (SHORT_S, SHORT_S + seconds))
    return (long[0] - short[0]) * 1000 / (long[1] - short[1]), long[1] + short[1]


def _run(testbed: TestBed, port: int, seconds: float, *, telemetry: bool) -> tuple[float, int]:
    """Run the load headless; return its CPU seconds, children included, and its requests."""
    results: Path = testbed.folder / "load"
    written = results / "load.json"
    written.unlink(missing_ok=True)  # of an earlier run: it would be read as the result of this one
    settings = {
        "LOAD_HOST": f"http://{LOOPBACK}:{port}",
        "LOAD_COLLECTOR": f"http://{LOOPBACK}:{testbed.otlp_http}",
        "LOAD_USERS": str(USERS),
        "LOAD_RATE": str(USERS),
        "LOAD_TIME": str(seconds),
        "LOAD_KINDS": "breeder=1",
        "LOAD_HEADLESS": "true",
        "LOAD_RESULTS": str(results),
        "OTEL_SDK_DISABLED": "false" if telemetry else "true",
    }
    command = [str(PYTHON), "-m", "loadtest"]
    process = subprocess.Popen(  # noqa: S603 - our own program
        command, cwd=CHECKOUT, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # reaped above, with its usage
    if not written.exists():
        raise LocalError(f"the load ended with {process.returncode} and wrote no results")
    requests = json.loads(written.read_text(encoding="utf-8"))["figures"]["requests"]
    return used.ru_utime + used.ru_stime, int(requests)
