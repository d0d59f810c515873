"""What a request costs the server: with telemetry off, with the plain SDK, and with the fast layer."""

from statistics import median

from bench.load import crud
from bench.report import Measurement
from bench.testbed import TestBed
from bench.usage import usage

CONNECTIONS = 16
WARM_UP_S = 2.0

# What the JSON line calls each variant, whether its four signals are on, and its telemetry layer.
VARIANTS = {"off": (False, "fast"), "stock": (True, "stock"), "on": (True, "fast")}


def server_cost(testbed: TestBed, *, rounds: int, seconds: float) -> list[Measurement]:
    """Measure the three variants in turns, so that a machine that slows down slows all; return medians and ratios."""
    runs: dict[str, list[tuple[float, float, float]]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, (signals, layer) in VARIANTS.items():
            runs[variant].append(_measure(testbed, signals=signals, layer=layer, seconds=seconds))
    cpu, rps, p99 = ({variant: median(run[part] for run in of) for variant, of in runs.items()} for part in range(3))

    def ratio(variant: str) -> float:
        return round(median(a[0] / b[0] for a, b in zip(runs[variant], runs["off"], strict=True)), 2)

    return [
        Measurement("server_cpu_ms_off", round(cpu["off"], 3), "ms", "server: CPU per request, signals off"),
        Measurement("server_cpu_ms_stock", round(cpu["stock"], 3), "ms", "server: CPU per request, plain SDK"),
        Measurement("server_cpu_ms_on", round(cpu["on"], 3), "ms", "server: CPU per request, fast layer"),
        Measurement("server_cpu_ratio_stock", ratio("stock"), "", "server: CPU plain SDK ÷ off, median of rounds"),
        Measurement("server_cpu_ratio", ratio("on"), "", "server: CPU fast layer ÷ off, median of rounds"),
        Measurement("server_rps_off", round(rps["off"]), "/s", "server: requests/s, signals off"),
        Measurement("server_rps_stock", round(rps["stock"]), "/s", "server: requests/s, plain SDK"),
        Measurement("server_rps_on", round(rps["on"]), "/s", "server: requests/s, fast layer"),
        Measurement("server_p99_ms_on", round(p99["on"], 1), "ms", "server: p99 latency, fast layer"),
    ]


def _measure(testbed: TestBed, *, signals: bool, layer: str, seconds: float) -> tuple[float, float, float]:
    """Return CPU per request (ms), requests/s and p99 (ms) of the CRUD cycle."""
    with testbed.service("server", signals=signals, ALWAYS_SUCCEED="true", TELEMETRY_LAYER=layer) as (pid, port):
        crud(port, connections=CONNECTIONS, seconds=WARM_UP_S)
        before = usage(pid).cpu_s
        load = crud(port, connections=CONNECTIONS, seconds=seconds)
        return (usage(pid).cpu_s - before) / load.requests * 1000, load.rps, load.quantile(0.99)
