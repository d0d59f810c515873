"""What a request costs the server, with all four signals on and with all of them off."""

from statistics import median

from bench.load import crud
from bench.report import Figure
from bench.stage import Stage
from bench.usage import usage

CONNECTIONS = 16
WARM_UP_S = 2.0


def server_cost(stage: Stage, *, rounds: int, seconds: float) -> list[Figure]:
    """Measure off and on in turn, so that a machine that slows down slows both; give medians and their ratio."""
    off, on = [], []
    for _ in range(rounds):
        off.append(_measure(stage, signals=False, seconds=seconds))
        on.append(_measure(stage, signals=True, seconds=seconds))
    cpu_off, cpu_on = (median(cpu for cpu, _, _ in runs) for runs in (off, on))
    ratio = median(a[0] / b[0] for a, b in zip(on, off, strict=True))
    return [
        Figure("server_cpu_ms_off", round(cpu_off, 3), "ms", "server: CPU per request, signals off"),
        Figure("server_cpu_ms_on", round(cpu_on, 3), "ms", "server: CPU per request, signals on"),
        Figure("server_cpu_ratio", round(ratio, 2), "", "server: CPU on ÷ off, median of pairs"),
        Figure("server_rps_off", round(median(r for _, r, _ in off)), "/s", "server: requests/s, signals off"),
        Figure("server_rps_on", round(median(r for _, r, _ in on)), "/s", "server: requests/s, signals on"),
        Figure("server_p99_ms_on", round(median(p for _, _, p in on), 1), "ms", "server: p99 latency, signals on"),
    ]


def _measure(stage: Stage, *, signals: bool, seconds: float) -> tuple[float, float, float]:
    """Give CPU per request (ms), requests/s and p99 (ms) of the CRUD cycle."""
    with stage.service("server", signals=signals, ALWAYS_SUCCEED="true") as (pid, port):
        crud(port, connections=CONNECTIONS, seconds=WARM_UP_S)
        before = usage(pid).cpu_s
        load = crud(port, connections=CONNECTIONS, seconds=seconds)
        return (usage(pid).cpu_s - before) / load.requests * 1000, load.rps, load.quantile(0.99)
