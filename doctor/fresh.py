"""How old the latest of a service's signal is, by the word of the back end that keeps it."""

import time
from collections.abc import Callable, Mapping

from doctor.ask import asked_for_json, asked_of_mimir

# How far each back end is asked to look back, in seconds.
LOOK_BACK_S = 3600
CPU = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
# The requester's TIMESHIFT makes its lines claim that they are 40 minutes old; no other service has it.
SHIFTED, SHIFT_S = "mythical-requester", 2400

Age = Callable[[str, str], float | None]


def traces(tempo: str, service: str) -> float | None:
    """Seconds since the latest trace with a span of the service began."""
    now = int(time.time())
    query = f'{{resource.service.name="{service}"}} with (most_recent=true)'
    found = asked_for_json(f"{tempo}/api/search", q=query, start=now - LOOK_BACK_S, end=now + 1, limit=1)
    began = [int(trace["startTimeUnixNano"]) / 1e9 for trace in found.get("traces", [])]
    return _age(began)


def metrics(mimir: str, service: str) -> float | None:
    """Seconds since the latest sample of a metric that every service has."""
    series = f'process_memory_usage_bytes{{group="mythical",service="{service}"}}'
    # To the second while it is fresh, to a quarter of a minute once it is not.
    query = f"max(timestamp({series})) or max(max_over_time(timestamp({series})[{LOOK_BACK_S}s:15s]))"
    return _age([float(series["value"][1]) for series in asked_of_mimir(mimir, query)])


def logs(loki: str, service: str) -> float | None:
    """Seconds since the latest line, by the time that it claims; the requester's shifted ones as they are."""
    start = int((time.time() - LOOK_BACK_S) * 1e9)
    query = f'{{service_name="{service}"}}'
    found = asked_for_json(f"{loki}/loki/api/v1/query_range", query=query, start=start, limit=1)
    latest = [int(value[0]) / 1e9 for stream in found["data"]["result"] for value in stream["values"]]
    age = _age(latest)
    return age - SHIFT_S if service == SHIFTED and age is not None and age >= SHIFT_S else age


def profiles(pyroscope: str, service: str) -> float | None:
    """Seconds since the latest profile of CPU time."""
    now = int(time.time() * 1000)
    body = {
        "profileTypeID": CPU,
        "labelSelector": f'{{service_name="{service}"}}',
        "start": now - 900_000,
        "end": now,
        "step": 5.0,
    }
    found = asked_for_json(f"{pyroscope}/querier.v1.QuerierService/SelectSeries", body)
    points = [point for series in found.get("series", []) for point in series.get("points", [])]
    return _age([int(point["timestamp"]) / 1000 for point in points if point.get("value")])


def _age(times: list[float]) -> float | None:
    return max(0.0, time.time() - max(times)) if times else None


AGES: Mapping[str, Age] = {"traces": traces, "metrics": metrics, "logs": logs, "profiles": profiles}
# Older is late: a service pushes metrics each 5 s and profiles each 10 s; in the quiet between two waves of requests
# there are few spans and lines.
LATE_S = {"traces": 60.0, "metrics": 30.0, "logs": 60.0, "profiles": 60.0}
